//! The `lora` table that stages share: low-rank adaptation (arXiv 2106.09685), y = W x + (alpha /
//! rank) B A x with W frozen, as it is said and with every default filled in. The adapters
//! themselves are left to `models`.

use std::fmt::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::sizes::LmSizes;
use super::super::words::grouped;

/// Low-rank adaptation (arXiv 2106.09685) instead of training every weight: a linear layer gives
/// W x + (alpha / rank) · B A x, of which only A and B are trained, in f32. `{}` takes every
/// default. Adapters want larger learning rates than whole models, ten times or more.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoraTable {
    /// Rows of A and columns of B, 16 by default; no more than a layer's inputs and outputs.
    #[schemars(range(min = 1), extend("x-also" = ["r", "lora_r", "lora_rank"]))]
    #[schemars(example = 16)]
    pub rank: Option<u64>,
    /// The update is scaled by `alpha / rank`; 2 · `rank` by default.
    #[schemars(extend("exclusiveMinimum" = 0, "x-also" = ["lora_alpha"]))]
    #[schemars(example = 32.0)]
    pub alpha: Option<f64>,
    /// Names of linear layers that get an adapter, or the last parts of them; PEFT's by default:
    /// `["c_attn"]` for GPT-2, `["q_proj", "v_proj"]` for the Llama family.
    #[schemars(extend("x-also" = ["target_modules", "lora_target_modules"]))]
    #[schemars(example = &["c_attn"])]
    pub targets: Option<Vec<String>>,
    /// How the result is saved.
    #[serde(default)]
    pub save: LoraSave,
}

/// What is saved of a model with adapters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LoraSave {
    /// A whole model folder, the adapted weights in f32, so that small updates are not rounded
    /// away.
    #[default]
    Merged,
    /// A and B alone, as a folder that PEFT and transformers open.
    Adapter,
}

/// The settings with every default filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lora {
    pub rank: u64,
    pub alpha: f64,
    pub targets: Vec<String>,
    pub save: LoraSave,
}

impl Lora {
    /// Rank 16 and alpha 2 · rank are what TRL's scripts take; the targets are PEFT's for the
    /// family.
    pub fn resolve(table: &LoraTable, sizes: Option<&LmSizes>) -> Self {
        let rank = table.rank.unwrap_or(16);
        let alpha = table.alpha.unwrap_or(2.0 * rank as f64);
        let has = |target: &str| {
            sizes.is_some_and(|sizes| {
                sizes.linears.iter().any(|layer| Self::matches(target, &layer.name))
            })
        };
        let usual = ["c_attn", "q_proj", "v_proj"].into_iter().filter(|target| has(target));
        let targets = table.targets.clone().unwrap_or_else(|| usual.map(str::to_owned).collect());
        Self { rank, alpha, targets, save: table.save }
    }

    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    /// Whether the layer of that name gets an adapter.
    pub fn adapts(&self, layer: &str) -> bool {
        self.targets.iter().any(|target| Self::matches(target, layer))
    }

    /// As in PEFT: a target is a layer's whole name, or the last parts of it.
    pub fn matches(target: &str, layer: &str) -> bool {
        layer.strip_suffix(target).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    }

    /// Numbers in all A (rank, in) and B (out, rank) of a model of these sizes.
    pub fn parameters(&self, sizes: &LmSizes) -> u64 {
        let adapted = sizes.linears.iter().filter(|layer| self.adapts(&layer.name));
        let of_block = adapted.fold(0_u64, |sum, layer| {
            sum.saturating_add(self.rank.saturating_mul(layer.n_in + layer.n_out))
        });
        of_block.saturating_mul(sizes.n_layer)
    }

    /// One line on what is trained of a model of these sizes.
    pub(super) fn words(&self, sizes: &LmSizes, out: &mut String) -> fmt::Result {
        let Self { rank, alpha, targets, save } = self;
        let (trained, all) = (self.parameters(sizes), sizes.parameters);
        let share = 100.0 * trained as f64 / all as f64;
        let [trained, all] = [trained, all].map(grouped);
        write!(out, "       LoRA of rank {rank}, alpha {alpha}, on {}: ", targets.join(", "))?;
        write!(out, "{trained} trainable parameters over {all} frozen ones ({share:.2} %); ")?;
        let adapter = *save == LoraSave::Adapter;
        writeln!(out, "saved {}", if adapter { "as a PEFT adapter" } else { "merged" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_whole_parts_of_a_name() {
        let matches = |target: &&str| Lora::matches(target, "h.0.attn.c_proj");
        assert!(["c_proj", "attn.c_proj", "h.0.attn.c_proj"].iter().all(matches));
        assert!(!["proj", "tn.c_proj", "mlp.c_proj", "attn", ""].iter().any(matches));
    }

    #[test]
    fn parameters_are_those_that_peft_counts() {
        // get_peft_model(...).print_trainable_parameters() of PEFT for the published configs.
        let folder = tempfile::tempdir().unwrap();
        let sizes = |config: serde_json::Value| {
            std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
            LmSizes::of_folder(folder.path()).unwrap()
        };
        let gpt2 = sizes(serde_json::json!({
            "vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12,
        }));
        let count = |table: LoraTable, sizes: &LmSizes| {
            Lora::resolve(&table, Some(sizes)).parameters(sizes)
        };
        let rank_8 = || LoraTable { rank: Some(8), ..LoraTable::default() };
        assert_eq!(count(rank_8(), &gpt2), 294_912);
        let llama = sizes(serde_json::json!({
            "vocab_size": 32000, "max_position_embeddings": 4096, "hidden_size": 4096,
            "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        }));
        assert_eq!(count(rank_8(), &llama), 4_194_304);
        let resolved = Lora::resolve(&LoraTable::default(), Some(&llama));
        assert_eq!(
            (resolved.rank, resolved.scale(), resolved.targets.join(" ")),
            (16, 2.0, "q_proj v_proj".to_owned())
        );
    }
}
