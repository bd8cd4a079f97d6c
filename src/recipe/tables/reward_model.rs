//! `[reward_model]`: a reward model from the pairs. The head and its loss are left to `models` and
//! `train`.

use std::fmt::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::memory::{StageMemory, tuning_parts};
use super::super::plan::Plan;
use super::super::rules::Rules;
use super::super::sizes::Sizes;
use super::super::stage::StageTable;
use super::lora::LoraTable;
use super::training::{Training, TrainingTable};
use super::{Recipe, Stage};

/// A scalar head on a causal language model, trained on the pairs by −log σ(r_chosen − r_rejected)
/// (Bradley–Terry). It reads `{prompt}{response}` of the raw prompt at the last token; the head
/// starts as zeros. The result is a folder that `gold.id` of another recipe can name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RewardModelTable {
    /// The model that gets the head; by default the one that `[sft]` tunes, or else
    /// `preferences.policy`.
    #[schemars(example = &"guide")]
    pub model: Option<String>,
    /// The weights below the head.
    #[serde(default)]
    pub from: RewardStart,
    /// The learning rate of the head at its peak; `training.learning_rate` is the body's.
    #[serde(default = "default_head_learning_rate")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub head_learning_rate: f64,
    #[serde(default)]
    pub training: TrainingTable,
    pub lora: Option<LoraTable>,
}

/// The weights below the head.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RewardStart {
    /// The model's own.
    #[default]
    Model,
    /// The result of `[sft]`.
    Sft,
}

impl Recipe {
    /// The model that `[reward_model]` puts its head on.
    pub fn reward_model_base(&self) -> Option<&str> {
        let named = self.reward_model.as_ref().and_then(|table| table.model.as_deref());
        named.or(self.guide_model())
    }
}

impl RewardModelTable {
    pub(in crate::recipe) fn settle(&self, recipe: &Recipe, sizes: &Sizes) -> Option<Training> {
        let model = recipe.reward_model_base()?;
        let default = recipe.room_for_responses(Training::reward_model(), model, sizes);
        let training = Training::resolve(&self.training, default);
        Some(training.with_lora(&self.lora, sizes.models.get(model)))
    }

    /// The values that the weights depend on, with its settled `training`.
    pub fn outcome(&self, training: &Training) -> Value {
        let Self { model: _, from: _, head_learning_rate, training: _, lora: _ } = self;
        json!({ "head_learning_rate": head_learning_rate, "training": training.outcome() })
    }

    fn start_rules(&self, rules: &mut Rules) {
        let recipe = rules.recipe;
        let model = self.model.as_deref();
        let named = model.filter(|model| rules.known_model("reward_model.model", model));
        if self.from != RewardStart::Sft {
            if recipe.preferences.is_some() && recipe.reward_model_base().is_none() {
                rules.problem_hint(
                    "`[reward_model]` has no model to stand on, because `preferences.source` has \
                     no policy",
                    "name a model of the recipe as `reward_model.model`",
                );
            }
            return;
        }
        let tuned = recipe.guide_model().filter(|tuned| named != Some(tuned));
        if recipe.sft.is_none() {
            rules.problem_hint(
                "`reward_model.from` is `sft`, and there is no `[sft]`",
                "add `[sft]`, or leave `from` out",
            );
        } else if let (Some(model), Some(tuned)) = (named, tuned) {
            rules.problem_hint(
                format!(
                    "`reward_model.from` is `sft`, which tunes `{tuned}`, but `reward_model.model` \
                     is `{model}`"
                ),
                "leave one of them out",
            );
        }
    }
}

impl StageTable for RewardModelTable {
    fn needs(&self) -> Vec<Stage> {
        vec![Stage::Preferences]
    }

    fn rules(&self, rules: &mut Rules) {
        self.start_rules(rules);
        let base = rules.recipe.reward_model_base().unwrap_or_default();
        if let Some(training) = &rules.training.reward_model {
            let key = "reward_model.training";
            rules.training_table(key, &self.training, training);
            rules.length_fits(key, training, &format!("models.{base}"), rules.context(base));
        }
        let Some(lora) = &self.lora else { return };
        lora.rules("reward_model.lora", base, rules);
        if self.from == RewardStart::Sft {
            lora.goes_on_with_sft("reward_model.lora", rules);
        }
    }

    fn words(&self, plan: &Plan, out: &mut String) -> fmt::Result {
        let base = plan.recipe.reward_model_base().unwrap_or_default();
        let start = match self.from {
            RewardStart::Model => format!("models.{base}"),
            RewardStart::Sft => "sft/".to_owned(),
        };
        let rate = self.head_learning_rate;
        writeln!(out, "a scalar head on {start}; learning rate of the head {rate:e}")?;
        write!(out, "     ")?;
        let Some(training) = &plan.training.reward_model else { return Ok(()) };
        training.words(out, plan.pairs(), 2)?;
        training.lora_words(plan.models.get(base), out)
    }

    fn memory(&self, plan: &Plan) -> Option<StageMemory> {
        let model = plan.recipe.reward_model_base()?;
        let mut parts = tuning_parts(plan, model, plan.training.reward_model.as_ref()?, 2)?;
        // The head has one output a text.
        parts.retain(|part| part.name != "logits");
        Some(StageMemory { model: model.to_owned(), parts })
    }
}

/// Paper B.1.4.
pub(super) fn default_head_learning_rate() -> f64 {
    1e-5
}
