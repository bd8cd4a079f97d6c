//! The settings of low-rank adaptation (arXiv 2106.09685) with every default filled in: y = W x +
//! (alpha / rank) B A x with W frozen.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Recipe;
use super::reward_model::RewardStart;
use super::sizes::LmSizes;
use super::tuning_tables::{LoraSave, LoraTable};

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
        let usual = || {
            ["c_attn", "q_proj", "v_proj"]
                .into_iter()
                .filter(|target| has(target))
                .map(str::to_owned)
                .collect()
        };
        Self { rank, alpha, targets: table.targets.clone().unwrap_or_else(usual), save: table.save }
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
}

/// In the metadata of an adapter's weights: the way from its folder to that of its base.
pub const BASE_FROM_HERE: &str = "base";

/// Bytes of a safetensors header, at most.
const LARGEST_HEADER: u64 = 100 << 20;

/// The folder of the base of the adapter in `folder`, whose config calls it `named`: a full path
/// for other programs, which a project that is moved outlives. So the way from the adapter to its
/// base, which its weights tell, comes first, as long as the config means the same folder.
pub fn base_folder(folder: &Path, named: &str) -> PathBuf {
    let named = Path::new(named);
    let moved = way_to_base(folder).filter(|way| {
        let below: PathBuf =
            way.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        named.is_absolute() && named.ends_with(below)
    });
    moved.and_then(|way| folder.join(way).canonicalize().ok()).unwrap_or_else(|| folder.join(named))
}

fn way_to_base(folder: &Path) -> Option<PathBuf> {
    let mut file = File::open(folder.join("adapter_model.safetensors")).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let mut header = Vec::new();
    file.take(u64::from_le_bytes(length).min(LARGEST_HEADER)).read_to_end(&mut header).ok()?;
    let header: Value = serde_json::from_slice(&header).ok()?;
    Some(PathBuf::from(header["__metadata__"][BASE_FROM_HERE].as_str()?))
}

impl Recipe {
    /// The models that are trained by LoRA from their own folders, each with the settings of the
    /// first task that does.
    pub fn lora_starts(&self) -> Vec<(&str, &LoraTable)> {
        let of_guide = match (&self.sft, &self.dpo) {
            (Some(sft), _) => sft.lora.as_ref(),
            (None, dpo) => dpo.as_ref().and_then(|dpo| dpo.lora.as_ref()),
        };
        let guide = self.guide_model().zip(of_guide);
        let direct = self.direct.as_ref().and_then(|direct| direct.lora.as_ref());
        let direct = direct.into_iter().flat_map(|table| {
            self.direct_models().iter().map(move |model| (model.as_str(), table))
        });
        let of_reward = self.reward_model.as_ref().filter(|table| table.from == RewardStart::Model);
        let reward = self.reward_model_base().zip(of_reward.and_then(|table| table.lora.as_ref()));
        let policy =
            self.ppo.as_ref().and_then(|ppo| Some((ppo.policy.as_str(), ppo.lora.as_ref()?)));
        guide.into_iter().chain(direct).chain(reward).chain(policy).collect()
    }
}

/// Where the config.json of the model in `folder` lies: there, or, of a PEFT adapter, in the folder
/// of its base. What is wrong with an adapter is told when it is opened.
pub fn config_folder(folder: &Path) -> PathBuf {
    let base = || -> Option<PathBuf> {
        let config: Value =
            serde_json::from_slice(&std::fs::read(folder.join("adapter_config.json")).ok()?)
                .ok()?;
        Some(base_folder(folder, config.get("base_model_name_or_path")?.as_str()?))
    };
    base().unwrap_or_else(|| folder.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_whole_parts_of_a_name() {
        assert!(
            ["c_proj", "attn.c_proj", "h.0.attn.c_proj"]
                .iter()
                .all(|target| Lora::matches(target, "h.0.attn.c_proj"))
        );
        assert!(
            ["proj", "tn.c_proj", "mlp.c_proj", "attn", ""]
                .iter()
                .all(|target| !Lora::matches(target, "h.0.attn.c_proj"))
        );
    }

    #[test]
    fn parameters_are_those_that_peft_counts() {
        // get_peft_model(...).print_trainable_parameters() of PEFT for the published configs.
        let folder = tempfile::tempdir().unwrap();
        let sizes = |config: &str| {
            std::fs::write(folder.path().join("config.json"), config).unwrap();
            LmSizes::of_folder(folder.path()).unwrap()
        };
        let gpt2 = sizes(
            r#"{"vocab_size":50257,"n_positions":1024,"n_embd":768,"n_layer":12,"n_head":12}"#,
        );
        let count = |table: LoraTable, sizes: &LmSizes| {
            Lora::resolve(&table, Some(sizes)).parameters(sizes)
        };
        assert_eq!(count(LoraTable { rank: Some(8), ..LoraTable::default() }, &gpt2), 294_912);
        let llama = sizes(
            r#"{"vocab_size":32000,"max_position_embeddings":4096,"hidden_size":4096,"intermediate_size":11008,
                "num_hidden_layers":32,"num_attention_heads":32}"#,
        );
        assert_eq!(count(LoraTable { rank: Some(8), ..LoraTable::default() }, &llama), 4_194_304);
        let resolved = Lora::resolve(&LoraTable::default(), Some(&llama));
        assert_eq!(
            (resolved.rank, resolved.scale(), resolved.targets.join(" ")),
            (16, 2.0, "q_proj v_proj".to_owned())
        );
    }
}
