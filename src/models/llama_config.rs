//! config.json of the Llama family: its keys, which biases and windows a family has, and what keeps a
//! config from being built. The blocks are in `llama.rs`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::config_keys::{TokenIds, default_range, size_problems};
use super::init::Fill;
use super::rope::RopeSettings;

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

    pub(super) fn rope(&self) -> Result<RopeSettings, String> {
        RopeSettings::read(
            self.rope_theta,
            self.rope_parameters.as_ref().or(self.rope_scaling.as_ref()),
        )
    }

    /// The window of layer `index`, if it has one.
    pub(super) fn window(&self, index: i64) -> Option<i64> {
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

fn silu() -> String {
    "silu".to_owned()
}

fn default_context() -> i64 {
    2048
}

fn default_epsilon() -> f64 {
    1e-6
}
