//! `[preferences]` of a recipe: which pairs there are, and who labels them.

use serde::{Deserialize, Serialize};

use super::{PairSplits, SAMPLED_ROWS, SamplingTable};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preferences {
    /// The model whose samples are judged: the untuned guide. With `source` nothing is sampled, and
    /// it only is the model to tune.
    pub policy: Option<String>,
    /// Pairs that are there already: a file, or a folder with files of the training and the
    /// validation (or test) split.
    pub source: Option<String>,
    #[serde(default)]
    pub splits: PairSplits,
    #[serde(default)]
    pub columns: PairColumns,
    /// Pairs taken from `source`; 0 is all there are.
    #[serde(default)]
    pub train_pairs: usize,
    #[serde(default)]
    pub validation_pairs: usize,
    /// Prompts from the training split, and from the validation split.
    #[serde(default)]
    pub prompts: usize,
    #[serde(default)]
    pub validation_prompts: usize,
    #[serde(default = "two")]
    pub samples_per_prompt: usize,
    #[serde(default)]
    pub pairing: Pairing,
    #[serde(default)]
    pub label: PreferenceLabel,
    #[serde(default)]
    pub sampling: SamplingTable,
    #[serde(default)]
    pub max_new_tokens: usize,
}

/// The columns of a pair file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PairColumns {
    pub prompt: String,
    pub chosen: String,
    pub rejected: String,
}

/// Which samples of a prompt make pairs. `disjoint`: (1, 2), (3, 4), …; `all`: every two;
/// `best_worst`: the highest and the lowest reward.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairing {
    #[default]
    Disjoint,
    All,
    BestWorst,
}

/// `drawn`: chosen with probability σ(r1 − r2) (Bradley–Terry); `argmax`: the higher reward;
/// `kept`: as the pair file has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreferenceLabel {
    #[default]
    Drawn,
    Argmax,
    Kept,
}

impl Default for PairColumns {
    fn default() -> Self {
        Self { prompt: "prompt".into(), chosen: "chosen".into(), rejected: "rejected".into() }
    }
}

impl Preferences {
    /// Prompts whose samples are drawn together.
    pub fn prompts_at_once(&self) -> usize {
        (SAMPLED_ROWS / self.samples_per_prompt.max(1)).max(1)
    }

    /// Pairs that the samples of one prompt make, before equal, empty and tied ones drop out.
    pub fn pairs_per_prompt(&self) -> usize {
        let samples = self.samples_per_prompt;
        match self.pairing {
            Pairing::Disjoint => samples / 2,
            Pairing::All => samples.saturating_mul(samples.saturating_sub(1)) / 2,
            Pairing::BestWorst => 1,
        }
    }
}

fn two() -> usize {
    2
}
