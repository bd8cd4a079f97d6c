//! `[dpo]`: the tuned guide. The losses are in `losses`, the loop in `train`.

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
use crate::losses::{DpoObjective, PreferenceLoss};

/// Direct preference optimisation (arXiv 2305.18290) of the guide: the tuned guide π*. It starts
/// from the result of `[sft]`, or without that stage from `preferences.policy`; that start is also
/// the reference. Below, Δ = h(chosen) − h(rejected) with h = log π/π_ref of a response, summed
/// over its tokens, and ε is the label smoothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dpo {
    /// What is minimised for a pair.
    #[serde(default)]
    #[schemars(extend("x-also" = ["loss_type"]))]
    pub loss: PreferenceLoss,
    /// β: the strength of the pull to the reference.
    #[serde(default = "default_beta")]
    #[schemars(extend("exclusiveMinimum" = 0, "x-also" = ["kl_coef"]))]
    pub beta: f64,
    /// The chance that a label is wrong, for the loss `sigmoid` alone.
    #[serde(default)]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 0.5))]
    pub label_smoothing: f64,
    #[serde(default)]
    pub training: TrainingTable,
    pub lora: Option<LoraTable>,
}

impl Dpo {
    pub fn objective(&self) -> DpoObjective {
        let Self { loss, beta, label_smoothing, training: _, lora: _ } = *self;
        DpoObjective { loss, beta, label_smoothing }
    }

    pub(in crate::recipe) fn settle(&self, recipe: &Recipe, sizes: &Sizes) -> Training {
        let guide = recipe.guide_model().unwrap_or_default();
        let default = recipe.room_for_pairs(Training::dpo(), guide, sizes);
        Training::resolve(&self.training, default).with_lora(&self.lora, sizes.models.get(guide))
    }
}

impl StageTable for Dpo {
    fn needs(&self) -> Vec<Stage> {
        vec![Stage::Preferences]
    }

    fn rules(&self, rules: &mut Rules) {
        smoothing_rules("dpo", self.label_smoothing, self.loss, rules);
        let Some(training) = &rules.training.dpo else { return };
        let guide = rules.recipe.guide_model().unwrap_or_default();
        rules.training_table("dpo.training", &self.training, training);
        let context = rules.context(guide);
        rules.length_fits("dpo.training", training, &format!("models.{guide}"), context);
        if let Some(lora) = &self.lora {
            lora.rules("dpo.lora", guide, rules);
            lora.goes_on_with_sft("dpo.lora", rules);
        }
    }

    fn words(&self, plan: &Plan, out: &mut String) -> fmt::Result {
        let start = plan.reference().map(|source| source.to_string()).unwrap_or_default();
        writeln!(out, "from {start}, which stays the reference; {}", self.objective())?;
        write!(out, "     ")?;
        let Some(training) = &plan.training.dpo else { return Ok(()) };
        training.words(out, plan.pairs(), 2)?;
        let model = plan.recipe.guide_model().unwrap_or_default();
        training.lora_words(plan.models.get(model), out)
    }

    fn memory(&self, plan: &Plan) -> Option<StageMemory> {
        let model = plan.recipe.guide_model()?;
        let parts = tuning_parts(plan, model, plan.training.dpo.as_ref()?, 2)?;
        Some(StageMemory { model: model.to_owned(), parts })
    }
}

/// Labels are smoothed by one loss alone.
pub(super) fn smoothing_rules(
    table: &str,
    smoothing: f64,
    loss: PreferenceLoss,
    rules: &mut Rules,
) {
    if smoothing > 0.0 && loss != PreferenceLoss::Sigmoid {
        rules.problem_hint(
            format!(
                "`{table}.label_smoothing` is {smoothing}, but only the loss `sigmoid` smooths \
                 labels"
            ),
            format!("leave it out, or set `{table}.loss` to `sigmoid`"),
        );
    }
}

pub(super) fn default_beta() -> f64 {
    0.1
}
