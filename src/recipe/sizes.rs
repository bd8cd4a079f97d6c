//! The sizes of a model that plans and rules need: of one to be made from scratch, or of a folder
//! by its `config.json`.
//!
//! Field names are Hugging Face's where one exists. Loading a model, and what its config means
//! beyond sizes, is left to `models`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Larger than any model's dimension; keeps the arithmetic far from overflow.
pub(super) const LARGEST_SIZE: u64 = 1 << 20;

/// The sizes of a causal language model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LmSizes {
    pub vocab_size: u64,
    /// Tokens that prompt and response may take together.
    pub context: u64,
    pub n_layer: u64,
    pub n_head: u64,
    pub hidden_size: u64,
    /// Numbers that one token leaves in the KV cache of one layer: keys and values.
    pub kv_size: u64,
    pub parameters: u64,
    /// Whether the head is the token embedding.
    pub tied: bool,
    /// The linear layers of one block, which LoRA may adapt.
    pub linears: Vec<LinearSize>,
}

/// The sizes of all models and judges of a recipe.
#[derive(Debug, Default)]
pub struct Sizes {
    pub models: BTreeMap<String, LmSizes>,
    pub gold: Option<ClassifierSizes>,
    pub judges: BTreeMap<String, ClassifierSizes>,
    /// `models.<name>`, `gold` or `judges.<name>`, and what is wrong with its config.
    pub troubles: Vec<(String, String)>,
}

/// A linear layer, named within its block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinearSize {
    pub name: String,
    pub n_in: u64,
    pub n_out: u64,
}

/// The sizes of a sequence classifier, or of a reward model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassifierSizes {
    pub vocab_size: u64,
    pub context: u64,
    pub n_layers: u64,
    pub n_heads: u64,
    pub dim: u64,
    pub parameters: u64,
    /// Whether it is a head on a causal language model: a reward model.
    pub causal: bool,
}

impl LmSizes {
    /// The sizes of the model whose `config.json` lies in `folder`; the error says what it lacks.
    pub fn of_folder(folder: &Path) -> Result<Self, String> {
        let config = read_config(folder)?;
        let context = config.first(&["n_positions", "max_position_embeddings", "n_ctx"])?;
        let vocab_size = config.first(&["vocab_size"])?;
        let n_layer = config.first(&["n_layer", "num_hidden_layers"])?;
        let n_head = config.first(&["n_head", "num_attention_heads"])?;
        let hidden_size = config.first(&["n_embd", "hidden_size"])?;
        let Some(intermediate_size) = config.optional("intermediate_size")? else {
            let n_inner = config.optional("n_inner")?.unwrap_or(4 * hidden_size);
            return Ok(Self::gpt2(vocab_size, context, n_layer, n_head, hidden_size, n_inner));
        };
        let head_dim = config.optional("head_dim")?.unwrap_or(hidden_size / n_head);
        let kv_heads = config.optional("num_key_value_heads")?.unwrap_or(n_head);
        let attention = 2 * hidden_size * n_head * head_dim + 2 * hidden_size * kv_heads * head_dim;
        let block = attention + 3 * hidden_size * intermediate_size + 2 * hidden_size;
        let tied = config.0.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(false);
        let tables = if tied { 1 } else { 2 };
        let parameters = (tables * vocab_size * hidden_size + hidden_size)
            .saturating_add(n_layer.saturating_mul(block));
        let linears = linears(&[
            ("self_attn.q_proj", hidden_size, n_head * head_dim),
            ("self_attn.k_proj", hidden_size, kv_heads * head_dim),
            ("self_attn.v_proj", hidden_size, kv_heads * head_dim),
            ("self_attn.o_proj", n_head * head_dim, hidden_size),
            ("mlp.gate_proj", hidden_size, intermediate_size),
            ("mlp.up_proj", hidden_size, intermediate_size),
            ("mlp.down_proj", intermediate_size, hidden_size),
        ]);
        Ok(Self {
            vocab_size,
            context,
            n_layer,
            n_head,
            hidden_size,
            kv_size: 2 * kv_heads * head_dim,
            parameters,
            tied,
            linears,
        })
    }

    /// A GPT-2 with a tied head.
    pub(super) fn gpt2(
        vocab_size: u64,
        context: u64,
        n_layer: u64,
        n_head: u64,
        n_embd: u64,
        n_inner: u64,
    ) -> Self {
        // Per block: c_attn 3d² + 3d, c_proj d² + d, two norms 4d, c_fc d·i + i, c_proj i·d + d.
        let block = 4 * n_embd * n_embd + 9 * n_embd + 2 * n_embd * n_inner + n_inner;
        let parameters = ((vocab_size + context) * n_embd + 2 * n_embd)
            .saturating_add(n_layer.saturating_mul(block));
        let linears = linears(&[
            ("attn.c_attn", n_embd, 3 * n_embd),
            ("attn.c_proj", n_embd, n_embd),
            ("mlp.c_fc", n_embd, n_inner),
            ("mlp.c_proj", n_inner, n_embd),
        ]);
        Self {
            vocab_size,
            context,
            n_layer,
            n_head,
            hidden_size: n_embd,
            kv_size: 2 * n_embd,
            parameters,
            tied: true,
            linears,
        }
    }
}

fn linears(layers: &[(&str, u64, u64)]) -> Vec<LinearSize> {
    layers
        .iter()
        .map(|&(name, n_in, n_out)| LinearSize { name: name.to_owned(), n_in, n_out })
        .collect()
}

impl ClassifierSizes {
    pub fn of_folder(folder: &Path) -> Result<Self, String> {
        let config = read_config(folder)?;
        if config.0.get("model_type").and_then(Value::as_str) == Some("bert") {
            let [n_layers, n_heads] =
                [config.first(&["num_hidden_layers"])?, config.first(&["num_attention_heads"])?];
            let [dim, hidden_dim] =
                [config.first(&["hidden_size"])?, config.first(&["intermediate_size"])?];
            let [vocab_size, context] =
                [config.first(&["vocab_size"])?, config.first(&["max_position_embeddings"])?];
            // The pooler stands for DistilBERT's pre_classifier; the segments' embeddings come on
            // top.
            let sizes = Self::distilbert(vocab_size, context, n_layers, n_heads, dim, hidden_dim);
            let segments = config.optional("type_vocab_size")?.unwrap_or(2);
            return Ok(Self { parameters: sizes.parameters + segments * dim, ..sizes });
        }
        if config.0.contains_key("n_embd") || config.0.contains_key("num_hidden_layers") {
            return Ok(Self::of_lm(&LmSizes::of_folder(folder)?));
        }
        let [n_layers, n_heads, dim] =
            [config.first(&["n_layers"])?, config.first(&["n_heads"])?, config.first(&["dim"])?];
        let [vocab_size, context] =
            [config.first(&["vocab_size"])?, config.first(&["max_position_embeddings"])?];
        Ok(Self::distilbert(
            vocab_size,
            context,
            n_layers,
            n_heads,
            dim,
            config.first(&["hidden_dim"])?,
        ))
    }

    /// A reward model on such a model.
    pub(super) fn of_lm(sizes: &LmSizes) -> Self {
        let LmSizes { vocab_size, context, n_layer, n_head, hidden_size, parameters, .. } = *sizes;
        Self {
            vocab_size,
            context,
            n_layers: n_layer,
            n_heads: n_head,
            dim: hidden_size,
            parameters,
            causal: true,
        }
    }

    pub(super) fn distilbert(
        vocab_size: u64,
        context: u64,
        n_layers: u64,
        n_heads: u64,
        dim: u64,
        hidden_dim: u64,
    ) -> Self {
        // Per block: four projections 4d² + 4d, two norms 4d, lin1 d·h + h, lin2 h·d + d.
        let block = 4 * dim * dim + 9 * dim + 2 * dim * hidden_dim + hidden_dim;
        // The blocks, embeddings and their norm 2d, pre_classifier d² + d, classifier with two
        // labels 2d + 2.
        let parameters = ((vocab_size + context) * dim + dim * dim + 5 * dim + 2)
            .saturating_add(n_layers.saturating_mul(block));
        Self { vocab_size, context, n_layers, n_heads, dim, parameters, causal: false }
    }
}

/// Positive and not beyond any model.
pub(super) fn in_range(size: i64) -> Option<u64> {
    u64::try_from(size).ok().filter(|size| (1..=LARGEST_SIZE).contains(size))
}

struct Config(serde_json::Map<String, Value>);

impl Config {
    fn optional(&self, key: &str) -> Result<Option<u64>, String> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_i64().and_then(in_range) {
                Some(size) => Ok(Some(size)),
                None => Err(format!(
                    "`{key}` in its config.json is {value}, expected a size from 1 to \
                     {LARGEST_SIZE}"
                )),
            },
        }
    }

    /// The first of these names that is there.
    fn first(&self, keys: &[&str]) -> Result<u64, String> {
        for key in keys {
            if let Some(size) = self.optional(key)? {
                return Ok(size);
            }
        }
        Err(format!(
            "its config.json has no {}",
            keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(" or ")
        ))
    }
}

fn read_config(folder: &Path) -> Result<Config, String> {
    let bytes = std::fs::read(folder.join("config.json"))
        .map_err(|error| format!("its config.json cannot be read: {error}"))?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(config)) => Ok(Config(config)),
        Ok(_) => Err("its config.json is not a JSON object".to_owned()),
        Err(error) => Err(format!("its config.json is not JSON: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(config: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        folder
    }

    #[test]
    fn published_sizes_give_published_parameter_counts() {
        let gpt2 = folder_with(
            r#"{"vocab_size":50257,"n_positions":1024,"n_embd":768,
                "n_layer":12,"n_head":12,"n_inner":null}"#,
        );
        assert_eq!(LmSizes::of_folder(gpt2.path()).unwrap().parameters, 124_439_808);
        let llama = folder_with(
            r#"{"vocab_size":32000,"max_position_embeddings":4096,"hidden_size":4096,
                "intermediate_size":11008,
                "num_hidden_layers":32,"num_attention_heads":32,"tie_word_embeddings":false}"#,
        );
        assert_eq!(LmSizes::of_folder(llama.path()).unwrap().parameters, 6_738_415_616);
        let distilbert = folder_with(
            r#"{"vocab_size":30522,"max_position_embeddings":512,"dim":768,"n_layers":6,
                "n_heads":12,"hidden_dim":3072}"#,
        );
        assert_eq!(ClassifierSizes::of_folder(distilbert.path()).unwrap().parameters, 66_955_010);
        let bert = folder_with(
            r#"{"model_type":"bert","vocab_size":30522,"max_position_embeddings":512,
                "hidden_size":768,
                "num_hidden_layers":12,
                "num_attention_heads":12,"intermediate_size":3072}"#,
        );
        assert_eq!(ClassifierSizes::of_folder(bert.path()).unwrap().parameters, 109_483_778);
    }

    #[test]
    fn a_config_without_sizes_says_which() {
        let folder = folder_with(r#"{"n_positions":128}"#);
        assert_eq!(
            LmSizes::of_folder(folder.path()).unwrap_err(),
            "its config.json has no `vocab_size`"
        );
        let folder = folder_with(r#"{"n_positions":-1}"#);
        assert!(
            LmSizes::of_folder(folder.path())
                .unwrap_err()
                .starts_with("`n_positions` in its config.json is -1")
        );
    }
}
