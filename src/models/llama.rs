//! The Llama family as Hugging Face defines it: Llama 1 to 3.1 (Tulu 2, Yi), Mistral with its
//! sliding window (Zephyr), Qwen2 and 2.5.
//!
//! Pre-norm blocks with RMS norms, rotary positions, grouped-query attention and a gated
//! feed-forward layer. The families differ in which biases there are and which layers look through
//! a window; all of that is config.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tch::nn::Path;
use tch::{Kind, Tensor};

use super::attention::{Mask, attend, split_heads};
use super::config::{TokenIds, default_range, size_problems};
use super::init::Fill;
use super::layers::{Embedding, Linear, LinearLayer, RmsNorm};
use super::rope::{Rope, RopeSettings, Rotation};
use super::{Decoder, Input, KvCache};
use crate::kernels::Activation;

/// `config.json` under its own names. Keys that do not matter here are kept in `extra` and saved
/// again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LlamaConfig {
    pub model_type: LlamaFamily,
    pub vocab_size: i64,
    pub hidden_size: i64,
    pub intermediate_size: i64,
    pub num_hidden_layers: i64,
    pub num_attention_heads: i64,
    /// Heads of keys and values; `None` is as many as there are query heads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_key_value_heads: Option<i64>,
    /// `None` is `hidden_size / num_attention_heads`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<i64>,
    #[serde(default = "silu")]
    pub hidden_act: String,
    #[serde(default = "default_context")]
    pub max_position_embeddings: i64,
    #[serde(default = "default_epsilon")]
    pub rms_norm_eps: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_theta: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<Value>,
    /// Newer files: `rope_theta` and `rope_scaling` together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_parameters: Option<Value>,
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Llama: biases on all four projections.
    #[serde(default)]
    pub attention_bias: bool,
    #[serde(default)]
    pub mlp_bias: bool,
    /// Tokens that a token sees, itself included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sliding_window: Option<i64>,
    /// Qwen2: whether `sliding_window` counts, and from which layer on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_sliding_window: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_window_layers: Option<i64>,
    /// Newer files: `full_attention` or `sliding_attention` for each layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_types: Option<Vec<String>>,
    #[serde(default = "default_range")]
    pub initializer_range: f64,
    #[serde(default)]
    pub bos_token_id: Option<i64>,
    #[serde(default)]
    pub eos_token_id: Option<TokenIds>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LlamaFamily {
    Llama,
    Mistral,
    Qwen2,
}

impl LlamaFamily {
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
        }
    }

    /// The first part of the names of its classes in transformers.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Llama => "Llama",
            Self::Mistral => "Mistral",
            Self::Qwen2 => "Qwen2",
        }
    }
}

impl LlamaConfig {
    /// Everything that keeps this config from being built.
    pub fn problems(&self) -> Vec<String> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.kv_heads()),
            ("max_position_embeddings", self.max_position_embeddings),
            ("sliding_window", self.sliding_window.unwrap_or(1)),
        ];
        let mut problems = size_problems(("num_hidden_layers", self.num_hidden_layers), &sizes);
        if !problems.is_empty() {
            return problems;
        }
        if self.head_dim.is_none() && self.hidden_size % self.num_attention_heads != 0 {
            let (heads, size) = (self.num_attention_heads, self.hidden_size);
            problems.push(format!(
                "`num_attention_heads` = {heads} does not divide `hidden_size` = {size}, and there \
                 is no `head_dim`"
            ));
        }
        if self.num_attention_heads % self.kv_heads() != 0 {
            let (kv_heads, heads) = (self.kv_heads(), self.num_attention_heads);
            problems.push(format!(
                "`num_key_value_heads` = {kv_heads} does not divide `num_attention_heads` = {heads}"
            ));
        }
        if self.head_dim() < 2 || self.head_dim() % 2 != 0 {
            problems.push(format!(
                "`head_dim` = {} must be even: dimensions turn in pairs",
                self.head_dim()
            ));
        }
        if self.hidden_act != "silu" {
            problems.push(format!(
                "`hidden_act` = `{}` is not supported, only `silu`",
                self.hidden_act
            ));
        }
        if let Some(types) = &self.layer_types {
            if types.len() as i64 != self.num_hidden_layers {
                problems.push(format!(
                    "`layer_types` names {} layers, `num_hidden_layers` is {}",
                    types.len(),
                    self.num_hidden_layers
                ));
            }
            if let Some(other) = types
                .iter()
                .find(|kind| !["full_attention", "sliding_attention"].contains(&kind.as_str()))
            {
                problems.push(format!(
                    "`layer_types` names `{other}`; supported: `full_attention`, \
                     `sliding_attention`"
                ));
            }
        }
        problems.extend(self.rope().err());
        problems
    }

    pub(super) fn kv_heads(&self) -> i64 {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    pub(super) fn head_dim(&self) -> i64 {
        self.head_dim.unwrap_or_else(|| self.hidden_size / self.num_attention_heads)
    }

    fn rope(&self) -> Result<RopeSettings, String> {
        RopeSettings::read(
            self.rope_theta,
            self.rope_parameters.as_ref().or(self.rope_scaling.as_ref()),
        )
    }

    /// The window of layer `index`, if it has one.
    fn window(&self, index: i64) -> Option<i64> {
        let window = match self.model_type {
            LlamaFamily::Llama => None,
            LlamaFamily::Mistral => self.sliding_window,
            LlamaFamily::Qwen2 => {
                self.sliding_window.filter(|_| self.use_sliding_window == Some(true))
            }
        }?;
        let slides = match &self.layer_types {
            Some(types) => {
                types.get(index as usize).is_some_and(|kind| kind == "sliding_attention")
            }
            None => {
                self.model_type == LlamaFamily::Mistral
                    || index >= self.max_window_layers.unwrap_or(28)
            } // transformers' default
        };
        slides.then_some(window)
    }

    /// Biases of the query, key and value projections, and of the output projection.
    pub(super) fn biases(&self) -> (bool, bool) {
        match self.model_type {
            LlamaFamily::Llama => (self.attention_bias, self.attention_bias),
            LlamaFamily::Mistral => (false, false),
            LlamaFamily::Qwen2 => (true, false),
        }
    }

    pub(super) fn has_mlp_bias(&self) -> bool {
        self.mlp_bias && self.model_type == LlamaFamily::Llama
    }

    /// Old files hold the rotation's frequencies.
    pub(super) fn is_obsolete(name: &str) -> bool {
        name.ends_with("rotary_emb.inv_freq")
    }

    pub(super) fn initial(&self, name: &str) -> Fill {
        if name.ends_with(".bias") {
            Fill::Zeros
        } else if name.ends_with("norm.weight") {
            Fill::Ones
        } else {
            Fill::Normal(self.initializer_range)
        }
    }
}

pub(super) struct Llama {
    embed_tokens: Embedding,
    layers: Vec<Block>,
    norm: RmsNorm,
    rope: Rope,
    /// The one window that some layers look through.
    window: Option<i64>,
    kind: Kind,
}

impl Llama {
    /// Makes the variables, all zeros, below `p`; `config` must be free of
    /// [`LlamaConfig::problems`].
    pub fn new(p: &Path, config: &LlamaConfig) -> Self {
        let rope = config.rope().expect("a config without problems has rope settings");
        Self {
            embed_tokens: Embedding::new(
                &(p / "embed_tokens"),
                config.vocab_size,
                config.hidden_size,
            ),
            layers: (0..config.num_hidden_layers)
                .map(|index| Block::new(&(p / "layers" / index), config, index))
                .collect(),
            norm: RmsNorm::new(&(p / "norm"), config.hidden_size, config.rms_norm_eps),
            rope: Rope::new(&rope, config.head_dim(), p.device()),
            window: (0..config.num_hidden_layers).find_map(|index| config.window(index)),
            kind: p.kind(),
        }
    }
}

impl Decoder for Llama {
    fn hidden(&self, input: &Input, cache: Option<KvCache>) -> Tensor {
        let Some(mut cache) = cache else {
            return self.layers(input, None, 0..self.layers.len() as i64);
        };
        let rotation = self.rope.rotation(input.positions, self.kind);
        let mut hidden = self.embed(input);
        for (index, block) in self.layers.iter().enumerate() {
            hidden = block.forward(&hidden, &rotation, &Mask::None, Some((&mut cache, index)));
        }
        cache.commit();
        self.norm.forward(&hidden)
    }

    fn embed(&self, input: &Input) -> Tensor {
        self.embed_tokens.forward(input.ids)
    }

    fn embeddings<'a>(&'a self, input: &'a Input) -> Vec<(&'a Tensor, &'a Tensor)> {
        vec![(&self.embed_tokens.weight, input.ids)]
    }

    fn layers(&self, input: &Input, before: Option<&Tensor>, which: Range<i64>) -> Tensor {
        let full = Mask::causal(input, self.kind);
        let sliding = self.window.map(|window| Mask::sliding(input, window, self.kind));
        let rotation = self.rope.rotation(input.positions, self.kind);
        let mut hidden = before.map_or_else(|| self.embed(input), Tensor::shallow_clone);
        for block in &self.layers[which.start as usize..which.end as usize] {
            let mask =
                sliding.as_ref().filter(|_| block.self_attn.window.is_some()).unwrap_or(&full);
            hidden = block.forward(&hidden, &rotation, mask, None);
        }
        if which.end == self.layers.len() as i64 { self.norm.forward(&hidden) } else { hidden }
    }

    fn embedding(&self) -> &Tensor {
        &self.embed_tokens.weight
    }

    fn linears(&mut self) -> Vec<LinearLayer<'_>> {
        let blocks = self.layers.iter_mut().enumerate();
        let layers = blocks.flat_map(|(index, Block { self_attn, mlp, .. })| {
            [
                self_attn.q_proj.layer(format!("layers.{index}.self_attn.q_proj")),
                self_attn.k_proj.layer(format!("layers.{index}.self_attn.k_proj")),
                self_attn.v_proj.layer(format!("layers.{index}.self_attn.v_proj")),
                self_attn.o_proj.layer(format!("layers.{index}.self_attn.o_proj")),
                mlp.gate_proj.layer(format!("layers.{index}.mlp.gate_proj")),
                mlp.up_proj.layer(format!("layers.{index}.mlp.up_proj")),
                mlp.down_proj.layer(format!("layers.{index}.mlp.down_proj")),
            ]
        });
        layers.collect()
    }
}

struct Block {
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: Mlp,
}

impl Block {
    fn new(p: &Path, config: &LlamaConfig, index: i64) -> Self {
        Self {
            input_layernorm: RmsNorm::new(
                &(p / "input_layernorm"),
                config.hidden_size,
                config.rms_norm_eps,
            ),
            self_attn: Attention::new(&(p / "self_attn"), config, index),
            post_attention_layernorm: RmsNorm::new(
                &(p / "post_attention_layernorm"),
                config.hidden_size,
                config.rms_norm_eps,
            ),
            mlp: Mlp::new(&(p / "mlp"), config),
        }
    }

    fn forward(
        &self,
        hidden: &Tensor,
        rotation: &Rotation,
        mask: &Mask,
        cache: Option<(&mut KvCache, usize)>,
    ) -> Tensor {
        let hidden = self.self_attn.forward_added(
            &self.input_layernorm.forward(hidden),
            rotation,
            mask,
            cache,
            hidden,
        );
        self.mlp.forward_added(&self.post_attention_layernorm.forward(&hidden), &hidden)
    }
}

struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    heads: i64,
    kv_heads: i64,
    scale: f64,
    window: Option<i64>,
}

impl Attention {
    fn new(p: &Path, config: &LlamaConfig, index: i64) -> Self {
        let (size, head_dim) = (config.hidden_size, config.head_dim());
        let (heads, kv_heads) = (config.num_attention_heads, config.kv_heads());
        let (in_bias, out_bias) = config.biases();
        Self {
            q_proj: Linear::with_bias(&(p / "q_proj"), size, heads * head_dim, in_bias),
            k_proj: Linear::with_bias(&(p / "k_proj"), size, kv_heads * head_dim, in_bias),
            v_proj: Linear::with_bias(&(p / "v_proj"), size, kv_heads * head_dim, in_bias),
            o_proj: Linear::with_bias(&(p / "o_proj"), heads * head_dim, size, out_bias),
            heads,
            kv_heads,
            scale: (head_dim as f64).powf(-0.5),
            window: config.window(index),
        }
    }

    /// (batch, seq, hidden_size) to the same shape, added to `residual`; the cache comes with this
    /// layer's index in it and keeps turned keys.
    fn forward_added(
        &self,
        hidden: &Tensor,
        rotation: &Rotation,
        mask: &Mask,
        cache: Option<(&mut KvCache, usize)>,
        residual: &Tensor,
    ) -> Tensor {
        let query = rotation.apply(&split_heads(&self.q_proj.forward(hidden), self.heads)); // (batch, heads, seq, head_dim)
        let key = rotation.apply(&split_heads(&self.k_proj.forward(hidden), self.kv_heads));
        let value = split_heads(&self.v_proj.forward(hidden), self.kv_heads);
        let attended = match cache {
            Some((cache, index)) => {
                cache.attend(index, &query, &key, &value, self.scale, self.window)
            }
            None => attend(&query, &key, &value, mask, self.scale),
        };
        self.o_proj.forward_added(&attended, residual)
    }
}

struct Mlp {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

impl Mlp {
    fn new(p: &Path, config: &LlamaConfig) -> Self {
        let (size, inner, bias) =
            (config.hidden_size, config.intermediate_size, config.has_mlp_bias());
        Self {
            gate_proj: Linear::with_bias(&(p / "gate_proj"), size, inner, bias),
            up_proj: Linear::with_bias(&(p / "up_proj"), size, inner, bias),
            down_proj: Linear::with_bias(&(p / "down_proj"), inner, size, bias),
        }
    }

    fn forward_added(&self, hidden: &Tensor, residual: &Tensor) -> Tensor {
        let gated = self.gate_proj.forward_activated(hidden, Activation::Silu)
            * self.up_proj.forward(hidden);
        self.down_proj.forward_added(&gated, residual)
    }
}

fn silu() -> String {
    "silu".to_owned()
}

fn default_context() -> i64 {
    2048
}

fn default_epsilon() -> f64 {
    1e-6
}
