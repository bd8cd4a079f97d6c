//! `[dpo]`: the tuned guide. The losses are in `losses`, the loop in `train`.

use std::fmt::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::memory::{StageMemory, largest, tuning_parts};
use super::super::plan::{GuideTraining, Plan};
use super::super::rules::Rules;
use super::super::sizes::Sizes;
use super::super::stage::StageTable;
use super::dpo_sweep::DpoSweep;
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
    /// Settings to tune a guide with, each in turn, below `dpo/<setting>/`: a table of lists, all
    /// of whose combinations are meant, or a list of tables. Keys are `beta`, `loss`,
    /// `label_smoothing` and those of `training`. Methods that guides take part in run with each.
    #[schemars(extend("examples" = [{ "beta": [0.05, 0.1] }]))]
    pub sweep: Option<DpoSweep>,
}

impl Dpo {
    pub fn objective(&self) -> DpoObjective {
        let Self { loss, beta, label_smoothing, training: _, lora: _, sweep: _ } = *self;
        DpoObjective { loss, beta, label_smoothing }
    }

    /// One, or one for each setting of the sweep.
    pub(in crate::recipe) fn settle(&self, recipe: &Recipe, sizes: &Sizes) -> Vec<GuideTraining> {
        let guide = recipe.guide_model().unwrap_or_default();
        let default = recipe.room_for_pairs(Training::dpo(), guide, sizes);
        let settle = |(setting, dpo): (Option<String>, Self)| GuideTraining {
            setting,
            objective: dpo.objective(),
            training: Training::resolve(&dpo.training, default.clone())
                .with_lora(&dpo.lora, sizes.models.get(guide)),
        };
        self.settings().into_iter().map(settle).collect()
    }
}

impl StageTable for Dpo {
    fn needs(&self) -> Vec<Stage> {
        vec![Stage::Preferences]
    }

    fn rules(&self, rules: &mut Rules) {
        self.sweep_rules(rules);
        let guide = rules.recipe.guide_model().unwrap_or_default();
        let context = rules.context(guide);
        let settled = rules.training.dpo.iter().map(|settled| &settled.training);
        for ((_, dpo), training) in self.settings().iter().zip(settled) {
            rules.once(|rules| {
                smoothing_rules("dpo", dpo.label_smoothing, dpo.loss, rules);
                rules.training_table("dpo.training", &dpo.training, training);
                rules.length_fits("dpo.training", training, &format!("models.{guide}"), context);
            });
        }
        if let Some(lora) = &self.lora {
            lora.rules("dpo.lora", guide, rules);
            lora.goes_on_with_sft("dpo.lora", rules);
        }
    }

    fn words(&self, plan: &Plan, out: &mut String) -> fmt::Result {
        let start = plan.reference().map(|source| source.to_string()).unwrap_or_default();
        write!(out, "from {start}, which stays the reference; ")?;
        if self.sweep.is_some() {
            writeln!(out, "{} guides", plan.training.dpo.len())?;
        }
        let model = plan.recipe.guide_model().unwrap_or_default();
        for GuideTraining { setting, objective, training } in &plan.training.dpo {
            match setting {
                Some(setting) => writeln!(out, "     {setting}: {objective}")?,
                None => writeln!(out, "{objective}")?,
            }
            write!(out, "     ")?;
            training.words(out, plan.pairs(), 2)?;
            training.lora_words(plan.models.get(model), out)?;
        }
        Ok(())
    }

    fn memory(&self, plan: &Plan) -> Option<StageMemory> {
        let model = plan.recipe.guide_model()?;
        largest(plan.training.dpo.iter().filter_map(|settled| {
            let parts = tuning_parts(plan, model, &settled.training, 2)?;
            Some(StageMemory { model: model.to_owned(), parts })
        }))
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
