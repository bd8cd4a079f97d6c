//! What a recipe may say of `[reward_model]`.

use serde::{Deserialize, Serialize};

use super::{LoraTable, Recipe, TrainingTable};

/// A scalar head on a causal language model, trained on the pairs by the Bradley–Terry loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardModelTable {
    /// A model of the recipe; by default the one that `[sft]` tunes, or else `preferences.policy`.
    pub model: Option<String>,
    #[serde(default)]
    pub from: RewardStart,
    /// Of the head; `training.learning_rate` is the body's.
    #[serde(default = "default_head_learning_rate")]
    pub head_learning_rate: f64,
    #[serde(default)]
    pub training: TrainingTable,
    /// Below the head, which is trained whole either way.
    pub lora: Option<LoraTable>,
}

/// The weights below the head: the model's own, or the result of `[sft]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardStart {
    #[default]
    Model,
    Sft,
}

impl Recipe {
    /// The model that `[reward_model]` puts its head on.
    pub fn reward_model_base(&self) -> Option<&str> {
        self.reward_model.as_ref().and_then(|table| table.model.as_deref()).or(self.guide_model())
    }
}

fn default_head_learning_rate() -> f64 {
    1e-3
}
