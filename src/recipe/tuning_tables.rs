//! `[pretrain]`, `[sft]`, `[dpo]`, `[direct]` of a recipe, and the `training` and `lora` tables
//! that stages share.

use serde::{Deserialize, Serialize};

use crate::losses::PreferenceLoss;

/// Optimisation of one stage; what is left out takes the stage's default (`recipes/README.md`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingTable {
    /// Optimiser steps; instead of `epochs`.
    pub steps: Option<usize>,
    pub epochs: Option<f64>,
    /// Examples per optimiser step.
    pub batch_size: Option<usize>,
    /// Examples per forward pass; must divide `batch_size`.
    pub micro_batch_size: Option<usize>,
    pub learning_rate: Option<f64>,
    pub schedule: Option<Schedule>,
    pub warmup_ratio: Option<f64>,
    pub weight_decay: Option<f64>,
    pub max_grad_norm: Option<f64>,
    /// Whether activations are computed again on the way back instead of being kept: less memory, a
    /// third more arithmetic.
    pub activation_checkpointing: Option<bool>,
    /// Tokens of one example (prompt and response).
    pub max_length: Option<usize>,
    /// Steps between validations; the best of them is kept.
    pub eval_every: Option<usize>,
    /// Steps between checkpoints that a killed run continues from.
    pub checkpoint_every: Option<usize>,
    /// Checkpoints that stay, the newest included.
    pub keep_checkpoints: Option<usize>,
    /// What all checkpoints of a stage may take together, in GiB; the newest always stays.
    pub checkpoints_gib: Option<f64>,
    /// Validations without a new best after which training ends.
    pub early_stop: Option<usize>,
    /// A step's loss above this many times the median of those before it is a spike.
    pub spike_factor: Option<f64>,
    /// Batches with a spike, or with a loss that is no number, that are skipped before training
    /// stops.
    pub max_skips: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    Cosine,
    Linear,
    Constant,
}

/// Low-rank adaptation (arXiv 2106.09685) instead of training every weight; `{}` takes every
/// default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraTable {
    /// Rows of A and columns of B.
    pub rank: Option<u64>,
    /// The update is scaled by `alpha / rank`.
    pub alpha: Option<f64>,
    /// Names of linear layers, or the last parts of them.
    pub targets: Option<Vec<String>>,
    #[serde(default)]
    pub save: LoraSave,
}

/// `merged`: a whole model folder; `adapter`: A and B alone, as a PEFT adapter folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoraSave {
    #[default]
    Merged,
    Adapter,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pretrain {
    #[serde(default)]
    pub training: TrainingTable,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sft {
    /// A model of the recipe; `preferences.policy` by default.
    pub model: Option<String>,
    /// Also of the SFT in `[direct]`.
    #[serde(default)]
    pub on: LossOn,
    #[serde(default)]
    pub training: TrainingTable,
    pub lora: Option<LoraTable>,
}

/// Which tokens SFT learns to predict: those of the response, or those of the prompt too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossOn {
    #[default]
    Response,
    All,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dpo {
    #[serde(default)]
    pub loss: PreferenceLoss,
    #[serde(default = "default_beta")]
    pub beta: f64,
    /// Of the loss `sigmoid`.
    #[serde(default)]
    pub label_smoothing: f64,
    #[serde(default)]
    pub training: TrainingTable,
    pub lora: Option<LoraTable>,
}

/// SFT and DPO of the bases themselves on the same pairs: what search is compared with. What is
/// left out is as the guide's tuning has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Direct {
    /// Models of the recipe; `steer.bases` by default.
    pub models: Option<Vec<String>>,
    pub loss: Option<PreferenceLoss>,
    pub beta: Option<f64>,
    pub label_smoothing: Option<f64>,
    /// Its presence asks for SFT before DPO, as that of `[sft]` does.
    pub sft: Option<TrainingTable>,
    #[serde(default)]
    pub dpo: TrainingTable,
    /// Of both SFT and DPO; the guide's is not taken over.
    pub lora: Option<LoraTable>,
}

pub(super) fn default_beta() -> f64 {
    0.1
}
