//! `[direct]`: SFT and DPO of the bases themselves on the same pairs, what search is compared with.

use std::fmt::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::memory::{StageMemory, largest, tuning_parts};
use super::super::plan::{DirectTraining, Plan};
use super::super::rules::Rules;
use super::super::sizes::Sizes;
use super::super::stage::StageTable;
use super::dpo::{Dpo, default_beta, smoothing_rules};
use super::lora::LoraTable;
use super::training::{Training, TrainingTable};
use super::{Recipe, Stage};
use crate::losses::{DpoObjective, PreferenceLoss};

/// Tunes bases themselves, as the guide is tuned: SFT, then DPO against its result, on the same
/// pairs, each by its own `prompt` and tokenizer. The method `direct` samples the result. What is
/// left out is as the guide's tuning has it, but for `max_length`, which fits the base.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Direct {
    /// The models to tune; `steer.bases` by default.
    #[schemars(example = &["base"])]
    pub models: Option<Vec<String>>,
    /// As `dpo.loss`, and by default the same.
    #[schemars(extend("x-also" = ["loss_type"]))]
    #[schemars(example = &"ipo")]
    pub loss: Option<PreferenceLoss>,
    /// As `dpo.beta`, and by default the same.
    #[schemars(extend("exclusiveMinimum" = 0))]
    #[schemars(example = 0.1)]
    pub beta: Option<f64>,
    /// As `dpo.label_smoothing`, and by default the same where the loss is.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 0.5))]
    #[schemars(example = 0.1)]
    pub label_smoothing: Option<f64>,
    /// The optimisation of SFT; its presence asks for SFT before DPO, as that of `[sft]` does.
    pub sft: Option<TrainingTable>,
    /// The optimisation of DPO.
    #[serde(default)]
    pub dpo: TrainingTable,
    /// LoRA in both SFT and DPO; the guide's is not taken over.
    pub lora: Option<LoraTable>,
}

impl Recipe {
    /// The models that `[direct]` tunes.
    pub fn direct_models(&self) -> &[String] {
        let bases = self.steer.as_ref().map_or(&[][..], |steer| &steer.bases);
        self.direct.as_ref().map_or(&[], |direct| direct.models.as_deref().unwrap_or(bases))
    }
}

impl Direct {
    /// That of `[dpo]` but for what is said here. Its label smoothing goes only with its loss.
    pub fn objective(&self, dpo: Option<&Dpo>) -> DpoObjective {
        let Self { models: _, loss, beta, label_smoothing, sft: _, dpo: _, lora: _ } = self;
        let inherited = dpo.map(Dpo::objective);
        let loss = loss.or(inherited.map(|dpo| dpo.loss)).unwrap_or_default();
        let same_loss = inherited.filter(|dpo| dpo.loss == loss);
        let smoothing = label_smoothing.or(same_loss.map(|dpo| dpo.label_smoothing));
        DpoObjective {
            loss,
            beta: beta.or(inherited.map(|dpo| dpo.beta)).unwrap_or_else(default_beta),
            label_smoothing: smoothing.unwrap_or_default(),
        }
    }

    /// How `model` is tuned: what the recipe says of the guide's tuning is the default here.
    pub(in crate::recipe) fn settle(
        &self,
        model: &str,
        recipe: &Recipe,
        sizes: &Sizes,
    ) -> DirectTraining {
        let lm = sizes.models.get(model);
        let over = |table: &TrainingTable, guide: Option<&TrainingTable>, default: Training| {
            let default = match guide {
                Some(guide) => Training::resolve(guide, default),
                None => default,
            };
            let default = recipe.room_for_responses(default, model, sizes);
            Training::resolve(table, default).with_lora(&self.lora, lm)
        };
        let (sft, dpo) = (recipe.sft.as_ref().map(|sft| &sft.training), recipe.dpo.as_ref());
        let sft_table = self.sft.clone().or(sft.map(|_| TrainingTable::default()));
        DirectTraining {
            sft: sft_table.map(|table| over(&table, sft, Training::sft())),
            objective: self.objective(dpo),
            dpo: over(&self.dpo, dpo.map(|dpo| &dpo.training), Training::dpo()),
        }
    }

    fn model_rules(&self, rules: &mut Rules) {
        let recipe = rules.recipe;
        if self.models.as_ref().is_some_and(Vec::is_empty) {
            rules.problem("`direct.models` is empty, expected one model or more");
        } else if self.models.is_none() && recipe.steer.is_none() {
            rules.problem_hint(
                "`[direct]` tunes `steer.bases`, and there is no `[steer]`",
                "add `[steer]`, or name models as `direct.models`",
            );
        }
        let models = recipe.direct_models();
        for (index, model) in self.models.iter().flatten().enumerate() {
            if models[..index].contains(model) {
                rules.problem(format!("`direct.models` holds `{model}` twice"));
            } else {
                rules.known_model("direct.models", model);
            }
        }
        let preferences = recipe.preferences.as_ref();
        let Some(preferences) = preferences.filter(|preferences| preferences.source.is_none())
        else {
            return;
        };
        // With another vocabulary responses may be longer still; those that are too long are left
        // out, and a warning counts them.
        for model in models.iter().filter(|model| Some(*model) != preferences.policy.as_ref()) {
            rules.fits_context("preferences.max_new_tokens", model, preferences.max_new_tokens);
        }
    }

    fn training_rules(&self, model: &str, training: &DirectTraining, rules: &mut Rules) {
        let tables = [
            ("direct.sft", self.sft.as_ref(), training.sft.as_ref()),
            ("direct.dpo", Some(&self.dpo), Some(&training.dpo)),
        ];
        for (key, table, training) in tables {
            let (Some(table), Some(training)) = (table, training) else { continue };
            rules.once(|rules| rules.training_table(key, table, training));
            let context = rules.context(model);
            rules.length_fits(key, training, &format!("models.{model}"), context);
        }
    }
}

impl StageTable for Direct {
    fn needs(&self) -> Vec<Stage> {
        vec![Stage::Preferences]
    }

    fn rules(&self, rules: &mut Rules) {
        self.model_rules(rules);
        if let Some(smoothing) = self.label_smoothing {
            let loss = self.objective(rules.recipe.dpo.as_ref()).loss;
            smoothing_rules("direct", smoothing, loss, rules);
        }
        for (model, training) in &rules.training.direct {
            self.training_rules(model, training, rules);
        }
        let Some(lora) = &self.lora else { return };
        for model in rules.recipe.direct_models() {
            rules.once(|rules| lora.rules("direct.lora", model, rules));
        }
    }

    fn words(&self, plan: &Plan, out: &mut String) -> fmt::Result {
        let models: Vec<&str> = plan.training.direct.keys().map(String::as_str).collect();
        writeln!(out, "{}, each on the same pairs", models.join(", "))?;
        for (name, DirectTraining { sft, objective, dpo }) in &plan.training.direct {
            if let Some(sft) = sft {
                let on = plan.recipe.sft_on().words();
                write!(out, "     {name}, SFT on both answers, {on}: ")?;
                sft.words(out, plan.pairs().map(|pairs| pairs.saturating_mul(2)), 1)?;
            }
            write!(out, "     {name}, DPO with {objective}: ")?;
            dpo.words(out, plan.pairs(), 2)?;
            dpo.lora_words(plan.models.get(name), out)?;
        }
        Ok(())
    }

    fn memory(&self, plan: &Plan) -> Option<StageMemory> {
        largest(plan.training.direct.iter().flat_map(|(name, training)| {
            let sft = training.sft.as_ref().and_then(|sft| tuning_parts(plan, name, sft, 1));
            let dpo = tuning_parts(plan, name, &training.dpo, 2);
            let parts = sft.into_iter().chain(dpo);
            parts.map(|parts| StageMemory { model: name.clone(), parts })
        }))
    }
}
