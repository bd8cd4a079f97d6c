//! The Llama family as Hugging Face defines it: Llama 1 to 3.1 (Tulu 2, Yi), Mistral with its
//! sliding window (Zephyr), Qwen2 and 2.5.
//!
//! Pre-norm blocks with RMS norms, rotary positions, grouped-query attention and a gated
//! feed-forward layer. The families differ in which biases there are and which layers look through
//! a window; all of that is config.

use std::ops::Range;

use tch::nn::Path;
use tch::{Kind, Tensor};

use super::attention::{Mask, attend, split_heads};
use super::causal_lm::Decoder;
use super::input::Input;
use super::kv_cache::KvCache;
use super::layers::{Embedding, Linear, LinearLayer, RmsNorm};
use super::llama_config::LlamaConfig;
use super::rope::{Rope, Rotation};
use crate::kernels::Activation;

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
        // (batch, heads, seq, head_dim)
        let query = rotation.apply(&split_heads(&self.q_proj.forward(hidden), self.heads));
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
