//! `[models.<name>.scratch]`: the sizes and the tokenizer of a model that `[pretrain]` makes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::rules::Rules;
use super::super::sizes::{LmSizes, in_range};
use super::Recipe;

/// A GPT-2 that `[pretrain]` makes on the training texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scratch {
    /// The family of the model.
    pub architecture: Architecture,
    /// Layers.
    #[schemars(range(min = 1, max = 1_048_576))]
    #[schemars(extend("x-also" = ["num_hidden_layers"]))]
    #[schemars(example = 4)]
    pub n_layer: i64,
    /// Attention heads; divides `n_embd`.
    #[schemars(range(min = 1, max = 1_048_576))]
    #[schemars(extend("x-also" = ["num_attention_heads"]))]
    #[schemars(example = 4)]
    pub n_head: i64,
    /// Width of the hidden states.
    #[schemars(range(min = 1, max = 1_048_576))]
    #[schemars(extend("x-also" = ["hidden_size", "d_model"]))]
    #[schemars(example = 128)]
    pub n_embd: i64,
    /// Tokens that prompt and response may take together.
    #[serde(default = "default_positions")]
    #[schemars(range(min = 1, max = 1_048_576))]
    #[schemars(extend("x-also" = ["max_position_embeddings", "n_ctx", "block_size"]))]
    pub n_positions: i64,
    pub tokenizer: ScratchTokenizer,
    /// Optimiser steps for this model, instead of the length in `[pretrain.training]`.
    #[schemars(range(min = 1))]
    #[schemars(example = 300)]
    pub steps: Option<usize>,
}

/// The family of a model made from scratch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// GPT-2 with a tied head.
    Gpt2,
}

/// Where the model's vocabulary comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScratchTokenizer {
    /// A byte-level BPE trained on the training texts; two models with the same size get the same
    /// vocabulary.
    Bpe {
        /// Tokens of the vocabulary, the special ones included.
        #[schemars(range(min = 260, max = 1_048_576))]
        #[schemars(example = 2000)]
        vocab_size: usize,
    },
    /// The tokenizer of another model whose kind is `bpe`.
    SameAs {
        /// The name of that model.
        #[schemars(example = &"guide")]
        model: String,
    },
}

impl Scratch {
    /// The sizes of the GPT-2 with this vocabulary; `None` if one is not positive or beyond any
    /// model.
    pub(in crate::recipe) fn sizes(&self, vocab_size: usize) -> Option<LmSizes> {
        let Self { n_layer, n_head, n_embd, n_positions, .. } = *self;
        let n_inner = n_embd.checked_mul(4)?;
        let vocab_size = i64::try_from(vocab_size).ok()?;
        let sizes = [vocab_size, n_positions, n_layer, n_head, n_embd, n_inner].map(in_range);
        let [Some(vocab), Some(positions), Some(layers), Some(heads), Some(width), Some(inner)] =
            sizes
        else {
            return None;
        };
        Some(LmSizes::gpt2(vocab, positions, layers, heads, width, inner))
    }

    /// The values that the weights depend on, beside the training's; the tokenizer of another model
    /// is that model's outcome.
    pub fn outcome(&self) -> Value {
        let Self { architecture, n_layer, n_head, n_embd, n_positions, tokenizer, steps: _ } = self;
        let vocab_size = match tokenizer {
            ScratchTokenizer::Bpe { vocab_size } => Some(vocab_size),
            ScratchTokenizer::SameAs { model: _ } => None,
        };
        json!({
            "architecture": architecture,
            "n_layer": n_layer,
            "n_head": n_head,
            "n_embd": n_embd,
            "n_positions": n_positions,
            "vocab_size": vocab_size,
        })
    }

    pub(in crate::recipe) fn rules(&self, name: &str, rules: &mut Rules) {
        let table = format!("models.{name}.scratch");
        rules.divides(&table, ("n_head", self.n_head), ("n_embd", self.n_embd));
        let ScratchTokenizer::SameAs { model: owner } = &self.tokenizer else { return };
        let key = format!("{table}.tokenizer.model");
        if owner == name {
            return rules.problem_hint(
                format!("`{key}` is the model itself"),
                "give it `kind = \"bpe\"` and a `vocab_size`",
            );
        }
        if !rules.known_model(&key, owner) {
            return;
        }
        let scratch = rules.recipe.models.get(owner).and_then(|model| model.scratch.as_ref());
        match scratch.map(|scratch| &scratch.tokenizer) {
            Some(ScratchTokenizer::Bpe { .. }) => {}
            Some(ScratchTokenizer::SameAs { model }) => rules.problem(format!(
                "`{key}` is `{owner}`, which itself takes the tokenizer of `{model}`; name a model \
                 with `kind = \"bpe\"`"
            )),
            None => rules.problem_hint(
                format!("`{key}` is `{owner}`, which is not made from scratch"),
                format!("give `{table}.tokenizer` its own `kind = \"bpe\"` and `vocab_size`"),
            ),
        }
    }
}

impl Recipe {
    /// The model whose tokenizer `model` uses: itself, or the one named by `same_as`.
    pub fn tokenizer_owner<'a>(&'a self, model: &'a str) -> &'a str {
        let scratch = self.models.get(model).and_then(|model| model.scratch.as_ref());
        match scratch.map(|scratch| &scratch.tokenizer) {
            Some(ScratchTokenizer::SameAs { model: owner }) => owner,
            _ => model,
        }
    }

    /// The sizes of a model made from scratch; `None` where they make no model.
    pub(in crate::recipe) fn scratch_sizes(&self, model: &str) -> Option<LmSizes> {
        let scratch = |model: &str| self.models.get(model)?.scratch.as_ref();
        match scratch(self.tokenizer_owner(model))?.tokenizer {
            ScratchTokenizer::Bpe { vocab_size } => scratch(model)?.sizes(vocab_size),
            ScratchTokenizer::SameAs { .. } => None,
        }
    }
}

fn default_positions() -> i64 {
    128
}

#[cfg(test)]
mod tests {
    use super::super::super::sizes::LARGEST_SIZE;
    use super::*;

    #[test]
    fn ranges_are_those_of_models() {
        let schema = serde_json::to_value(schemars::schema_for!(Scratch)).unwrap();
        for key in ["n_layer", "n_head", "n_embd", "n_positions"] {
            assert_eq!(schema["properties"][key]["maximum"], json!(LARGEST_SIZE), "{key}");
        }
        let bpe = &schema["$defs"]["ScratchTokenizer"]["oneOf"][0]["properties"]["vocab_size"];
        assert_eq!(bpe["maximum"], json!(LARGEST_SIZE));
        assert_eq!(bpe["minimum"], json!(260), "the 256 bytes and the special tokens");
    }
}
