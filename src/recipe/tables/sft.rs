//! `[sft]`: supervised fine-tuning of the guide on both answers of every pair. The loop is left to
//! `train`.

use std::fmt::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::memory::{StageMemory, tuning_parts};
use super::super::plan::Plan;
use super::super::rules::Rules;
use super::super::sizes::Sizes;
use super::super::stage::StageTable;
use super::lora::LoraTable;
use super::training::{Training, TrainingTable};
use super::{Recipe, Stage};

/// Tunes the guide on both answers of every pair: the untuned guide π_ref, from which `[dpo]`
/// starts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sft {
    /// The model to tune; `preferences.policy` by default.
    #[schemars(example = &"guide")]
    pub model: Option<String>,
    /// Which tokens are learned, in `[direct]` too.
    #[serde(default)]
    #[schemars(extend("x-also" = ["completion_only_loss", "assistant_only_loss"]))]
    pub on: LossOn,
    #[serde(default)]
    pub training: TrainingTable,
    pub lora: Option<LoraTable>,
}

/// Which tokens SFT learns to predict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossOn {
    /// Those of the response.
    #[default]
    Response,
    /// Those of the prompt too, which then counts once for each answer.
    All,
}

impl LossOn {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Response => "loss on the answers",
            Self::All => "loss on prompts and answers",
        }
    }
}

impl Recipe {
    /// The model that `[sft]` tunes, or `[dpo]` where there is no `[sft]`; also the architecture of
    /// both guides that result.
    pub fn guide_model(&self) -> Option<&str> {
        let policy =
            self.preferences.as_ref().and_then(|preferences| preferences.policy.as_deref());
        self.sft.as_ref().and_then(|sft| sft.model.as_deref()).or(policy)
    }

    /// Which tokens all SFT of the recipe learns.
    pub fn sft_on(&self) -> LossOn {
        let on = |Sft { model: _, on, training: _, lora: _ }: &Sft| *on;
        self.sft.as_ref().map(on).unwrap_or_default()
    }
}

impl Sft {
    pub(in crate::recipe) fn settle(&self, recipe: &Recipe, sizes: &Sizes) -> Training {
        let guide = recipe.guide_model().unwrap_or_default();
        let default = recipe.room_for_pairs(Training::sft(), guide, sizes);
        Training::resolve(&self.training, default).with_lora(&self.lora, sizes.models.get(guide))
    }
}

impl StageTable for Sft {
    fn needs(&self) -> Vec<Stage> {
        vec![Stage::Preferences]
    }

    fn rules(&self, rules: &mut Rules) {
        if let Some(model) = &self.model {
            rules.known_model("sft.model", model);
        }
        let Some(training) = &rules.training.sft else { return };
        let guide = rules.recipe.guide_model().unwrap_or_default();
        rules.training_table("sft.training", &self.training, training);
        let context = rules.context(guide);
        rules.length_fits("sft.training", training, &format!("models.{guide}"), context);
        if let Some(lora) = &self.lora {
            lora.rules("sft.lora", guide, rules);
        }
    }

    fn words(&self, plan: &Plan, out: &mut String) -> fmt::Result {
        let model = plan.recipe.guide_model().unwrap_or_default();
        writeln!(out, "{model} on both answers of every pair; {}", self.on.words())?;
        write!(out, "     ")?;
        let Some(training) = &plan.training.sft else { return Ok(()) };
        training.words(out, plan.pairs().map(|pairs| pairs.saturating_mul(2)), 1)?;
        training.lora_words(plan.models.get(model), out)
    }

    fn memory(&self, plan: &Plan) -> Option<StageMemory> {
        let model = plan.recipe.guide_model()?;
        let parts = tuning_parts(plan, model, plan.training.sft.as_ref()?, 1)?;
        Some(StageMemory { model: model.to_owned(), parts })
    }
}
