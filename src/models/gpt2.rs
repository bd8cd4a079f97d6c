//! GPT-2 (Radford et al., 2019) as Hugging Face defines it: learned positions, pre-norm blocks, a
//! fused query-key-value projection and an output head that is by default the token embedding.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tch::nn::Path;
use tch::{Kind, Tensor};

use super::attention::{Mask, attend, split_fused};
use super::causal_lm::Decoder;
use super::config_keys::{TokenIds, default_range, size_problems};
use super::init::Fill;
use super::input::Input;
use super::kv_cache::KvCache;
use super::layers::{Embedding, LayerNorm, Linear, LinearLayer};
use crate::kernels::Activation;

/// `config.json` under its own names. Keys that do not matter here are kept in `extra` and saved
/// again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gpt2Config {
    pub vocab_size: i64,
    pub n_positions: i64,
    pub n_embd: i64,
    pub n_layer: i64,
    pub n_head: i64,
    /// Width of the feed-forward layer; `None` is 4 * `n_embd`.
    #[serde(default)]
    pub n_inner: Option<i64>,
    #[serde(default = "gelu_new")]
    pub activation_function: String,
    #[serde(default = "default_epsilon")]
    pub layer_norm_epsilon: f64,
    #[serde(default = "default_range")]
    pub initializer_range: f64,
    #[serde(default = "yes")]
    pub scale_attn_weights: bool,
    #[serde(default)]
    pub scale_attn_by_inverse_layer_idx: bool,
    #[serde(default = "yes")]
    pub tie_word_embeddings: bool,
    #[serde(default)]
    pub add_cross_attention: bool,
    #[serde(default)]
    pub bos_token_id: Option<i64>,
    #[serde(default)]
    pub eos_token_id: Option<TokenIds>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

const ACTIVATIONS: [&str; 2] = ["gelu_new", "gelu_pytorch_tanh"]; // two names of one function

impl Default for Gpt2Config {
    /// The smallest released GPT-2 (124 M parameters).
    fn default() -> Self {
        Self {
            vocab_size: 50257,
            n_positions: 1024,
            n_embd: 768,
            n_layer: 12,
            n_head: 12,
            n_inner: None,
            activation_function: gelu_new(),
            layer_norm_epsilon: default_epsilon(),
            initializer_range: default_range(),
            scale_attn_weights: true,
            scale_attn_by_inverse_layer_idx: false,
            tie_word_embeddings: true,
            add_cross_attention: false,
            bos_token_id: Some(50256),
            eos_token_id: Some(TokenIds::One(50256)),
            extra: Map::new(),
        }
    }
}

impl Gpt2Config {
    /// Everything that keeps this config from being built.
    pub fn problems(&self) -> Vec<String> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("n_positions", self.n_positions),
            ("n_embd", self.n_embd),
            ("n_head", self.n_head),
            ("n_inner", self.inner()),
        ];
        let mut problems = size_problems(("n_layer", self.n_layer), &sizes);
        if self.n_head > 0 && self.n_embd % self.n_head != 0 {
            problems.push(format!(
                "`n_head` = {} does not divide `n_embd` = {}",
                self.n_head, self.n_embd
            ));
        }
        if !ACTIVATIONS.contains(&self.activation_function.as_str()) {
            let known = ACTIVATIONS.map(|name| format!("`{name}`")).join(", ");
            problems.push(format!(
                "`activation_function` = `{}` is not supported, only {known}",
                self.activation_function
            ));
        }
        if self.add_cross_attention {
            problems.push("`add_cross_attention` = true is not supported".to_owned());
        }
        problems
    }

    pub(super) fn inner(&self) -> i64 {
        self.n_inner.unwrap_or(4 * self.n_embd)
    }

    /// Factor of layer `index`'s attention scores.
    fn attention_scale(&self, index: i64) -> f64 {
        let by_size = if self.scale_attn_weights {
            ((self.n_embd / self.n_head) as f64).powf(-0.5)
        } else {
            1.0
        };
        if self.scale_attn_by_inverse_layer_idx { by_size / (index + 1) as f64 } else { by_size }
    }

    /// Old files hold causal masks.
    pub(super) fn is_obsolete(name: &str) -> bool {
        name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias")
    }

    /// As in the GPT-2 release: projections into the residual stream start smaller, the more so the
    /// deeper the model.
    pub(super) fn initial(&self, name: &str) -> Fill {
        if name.ends_with(".bias") {
            Fill::Zeros
        } else if name.contains(".ln_") {
            Fill::Ones
        } else if name.ends_with(".c_proj.weight") {
            Fill::Normal(self.initializer_range / ((2 * self.n_layer) as f64).sqrt())
        } else {
            Fill::Normal(self.initializer_range)
        }
    }
}

pub(super) struct Gpt2 {
    wte: Embedding,
    wpe: Embedding,
    h: Vec<Block>,
    ln_f: LayerNorm,
    kind: Kind,
}

impl Gpt2 {
    /// Makes the variables, all zeros, below `p`; `config` must be free of
    /// [`Gpt2Config::problems`].
    pub fn new(p: &Path, config: &Gpt2Config) -> Self {
        Self {
            wte: Embedding::new(&(p / "wte"), config.vocab_size, config.n_embd),
            wpe: Embedding::new(&(p / "wpe"), config.n_positions, config.n_embd),
            h: (0..config.n_layer)
                .map(|index| Block::new(&(p / "h" / index), config, index))
                .collect(),
            ln_f: LayerNorm::new(&(p / "ln_f"), config.n_embd, config.layer_norm_epsilon),
            kind: p.kind(),
        }
    }
}

impl Decoder for Gpt2 {
    fn hidden(&self, input: &Input, cache: Option<KvCache>) -> Tensor {
        let Some(mut cache) = cache else {
            return self.layers(input, None, 0..self.h.len() as i64);
        };
        let mut hidden = self.embed(input);
        for (index, block) in self.h.iter().enumerate() {
            hidden = block.forward(&hidden, &Mask::None, Some((&mut cache, index)));
        }
        cache.commit();
        self.ln_f.forward(&hidden)
    }

    fn embed(&self, input: &Input) -> Tensor {
        self.wte.forward(input.ids) + self.wpe.forward(input.positions)
    }

    fn embeddings<'a>(&'a self, input: &'a Input) -> Vec<(&'a Tensor, &'a Tensor)> {
        vec![(&self.wte.weight, input.ids), (&self.wpe.weight, input.positions)]
    }

    fn layers(&self, input: &Input, before: Option<&Tensor>, which: Range<i64>) -> Tensor {
        let mask = Mask::causal(input, self.kind);
        let mut hidden = before.map_or_else(|| self.embed(input), Tensor::shallow_clone);
        for block in &self.h[which.start as usize..which.end as usize] {
            hidden = block.forward(&hidden, &mask, None);
        }
        if which.end == self.h.len() as i64 { self.ln_f.forward(&hidden) } else { hidden }
    }

    fn embedding(&self) -> &Tensor {
        &self.wte.weight
    }

    fn linears(&mut self) -> Vec<LinearLayer<'_>> {
        let blocks = self.h.iter_mut().enumerate();
        let layers = blocks.flat_map(|(index, Block { attn, mlp, .. })| {
            [
                attn.c_attn.layer(format!("h.{index}.attn.c_attn")),
                attn.c_proj.layer(format!("h.{index}.attn.c_proj")),
                mlp.c_fc.layer(format!("h.{index}.mlp.c_fc")),
                mlp.c_proj.layer(format!("h.{index}.mlp.c_proj")),
            ]
        });
        layers.collect()
    }
}

struct Block {
    ln_1: LayerNorm,
    attn: Attention,
    ln_2: LayerNorm,
    mlp: Mlp,
}

impl Block {
    fn new(p: &Path, config: &Gpt2Config, index: i64) -> Self {
        Self {
            ln_1: LayerNorm::new(&(p / "ln_1"), config.n_embd, config.layer_norm_epsilon),
            attn: Attention::new(&(p / "attn"), config, index),
            ln_2: LayerNorm::new(&(p / "ln_2"), config.n_embd, config.layer_norm_epsilon),
            mlp: Mlp::new(&(p / "mlp"), config),
        }
    }

    fn forward(
        &self,
        hidden: &Tensor,
        mask: &Mask,
        cache: Option<(&mut KvCache, usize)>,
    ) -> Tensor {
        let hidden = self.attn.forward_added(&self.ln_1.forward(hidden), mask, cache, hidden);
        self.mlp.forward_added(&self.ln_2.forward(&hidden), &hidden)
    }
}

struct Attention {
    c_attn: Linear,
    c_proj: Linear,
    n_head: i64,
    scale: f64,
}

impl Attention {
    fn new(p: &Path, config: &Gpt2Config, index: i64) -> Self {
        Self {
            c_attn: Linear::transposed(&(p / "c_attn"), config.n_embd, 3 * config.n_embd),
            c_proj: Linear::transposed(&(p / "c_proj"), config.n_embd, config.n_embd),
            n_head: config.n_head,
            scale: config.attention_scale(index),
        }
    }

    /// (batch, seq, n_embd) to the same shape, added to `residual`; the cache comes with this
    /// layer's index in it.
    fn forward_added(
        &self,
        hidden: &Tensor,
        mask: &Mask,
        cache: Option<(&mut KvCache, usize)>,
        residual: &Tensor,
    ) -> Tensor {
        let fused = self.c_attn.forward(hidden);
        let attended = match cache {
            Some((cache, index)) => cache.attend_fused(index, &fused, self.n_head, self.scale),
            None => {
                let [query, key, value] = split_fused(&fused, self.n_head);
                attend(&query, &key, &value, mask, self.scale)
            }
        };
        self.c_proj.forward_added(&attended, residual)
    }
}

struct Mlp {
    c_fc: Linear,
    c_proj: Linear,
}

impl Mlp {
    fn new(p: &Path, config: &Gpt2Config) -> Self {
        Self {
            c_fc: Linear::transposed(&(p / "c_fc"), config.n_embd, config.inner()),
            c_proj: Linear::transposed(&(p / "c_proj"), config.inner(), config.n_embd),
        }
    }

    fn forward_added(&self, hidden: &Tensor, residual: &Tensor) -> Tensor {
        self.c_proj
            .forward_added(&self.c_fc.forward_activated(hidden, Activation::GeluTanh), residual)
    }
}

fn gelu_new() -> String {
    ACTIVATIONS[0].to_owned()
}

fn default_epsilon() -> f64 {
    1e-5
}

fn yes() -> bool {
    true
}
