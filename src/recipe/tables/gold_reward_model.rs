//! `[gold.reward_model]`: a judge that the run trains on pairs of its own. Training and asking it
//! is left to `stages`.

use std::fmt::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::memory::{StageMemory, tuning_parts};
use super::super::plan::Plan;
use super::super::rules::Rules;
use super::super::sizes::Sizes;
use super::Recipe;
use super::lora::LoraTable;
use super::pair_columns::PairColumns;
use super::pair_source::{PAIR_FILE_TOKENS, PairSource};
use super::reward_model::default_head_learning_rate;
use super::splits::PairSplits;
use super::training::{Training, TrainingTable};

/// A reward model that the stage trains on pairs which others labelled, as `[reward_model]` trains
/// one on the recipe's own: a scalar head of zeros on a causal language model, −log σ(r_chosen −
/// r_rejected). `gold.training` is its optimisation, with the defaults of `[reward_model]`; the
/// result, `<run>/gold`, is a folder that `gold.id` of another recipe can name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GoldRewardModel {
    /// The model that gets the head, which is trained where that model is put.
    #[schemars(example = &"large")]
    pub model: String,
    /// The pairs, as `preferences.source` has them: a file, a folder with files for training and
    /// for validation (or test), or a hub data set `owner/name[@revision]`.
    #[schemars(example = &"../data/comparisons")]
    pub source: String,
    /// A folder below `source`, where that holds several data sets.
    #[schemars(extend("x-also" = ["dataset_config", "config_name"]))]
    #[schemars(example = &"comparisons")]
    pub subset: Option<String>,
    #[serde(default)]
    pub splits: PairSplits,
    #[serde(default)]
    pub columns: PairColumns,
    /// Pairs to train on; 0 takes all there are.
    #[serde(default)]
    #[schemars(example = 1000)]
    pub train_pairs: usize,
    /// Pairs to validate and to measure accuracy on; 0 takes all that a folder has for it.
    #[serde(default)]
    #[schemars(example = 100)]
    pub validation_pairs: usize,
    /// The learning rate of the head at its peak; `gold.training.learning_rate` is the body's.
    #[serde(default = "default_head_learning_rate")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub head_learning_rate: f64,
    pub lora: Option<LoraTable>,
}

impl Recipe {
    /// The reward model that the gold is trained as.
    pub fn gold_reward_model(&self) -> Option<&GoldRewardModel> {
        self.gold.as_ref()?.reward_model.as_ref()
    }
}

impl GoldRewardModel {
    /// Where it stands, as keys and messages name it.
    pub const TABLE: &str = "gold.reward_model";

    pub fn pair_source(&self) -> PairSource<'_> {
        let Self { source, subset, splits, columns, train_pairs, validation_pairs, .. } = self;
        PairSource {
            table: Self::TABLE,
            source,
            subset: subset.as_deref(),
            splits,
            columns,
            train_pairs: *train_pairs,
            validation_pairs: *validation_pairs,
        }
    }

    /// The values that the weights depend on, beside the training's, the model and the files.
    pub fn outcome(&self) -> Value {
        let Self {
            model: _,
            source: _,
            subset: _,
            splits: _,
            columns: _,
            train_pairs: _,
            validation_pairs: _,
            head_learning_rate,
            lora: _,
        } = self;
        json!({
            "head_learning_rate": head_learning_rate,
            "pairs": self.pair_source().outcome(),
        })
    }

    pub(super) fn settle(&self, training: &TrainingTable, sizes: &Sizes) -> Training {
        let sizes = sizes.models.get(&self.model);
        let context = sizes.map(|sizes| sizes.context);
        let default = Training::reward_model().roomy(PAIR_FILE_TOKENS, context);
        Training::resolve(training, default).with_lora(&self.lora, sizes)
    }

    pub(super) fn rules(&self, rules: &mut Rules) {
        rules.known_model(&format!("{}.model", Self::TABLE), &self.model);
        self.pair_source().rules(rules);
        if let Some(lora) = &self.lora {
            lora.rules(&format!("{}.lora", Self::TABLE), &self.model, rules);
        }
        let Some(training) = &rules.training.gold else { return };
        let model = format!("models.{}", self.model);
        rules.length_fits("gold.training", training, &model, rules.context(&self.model));
    }

    pub(super) fn words(&self, plan: &Plan, out: &mut String) -> fmt::Result {
        let Self { model, head_learning_rate, .. } = self;
        write!(out, "trains a reward model: a scalar head on models.{model}; ")?;
        writeln!(out, "learning rate of the head {head_learning_rate:e}")?;
        write!(out, "     ")?;
        self.pair_source().words("as the source has it", out)?;
        write!(out, "     ")?;
        let Some(training) = &plan.training.gold else { return Ok(()) };
        training.words(out, plan.gold_pairs(), 2)?;
        training.lora_words(plan.models.get(model), out)
    }

    pub(super) fn memory(&self, plan: &Plan) -> Option<StageMemory> {
        let mut parts = tuning_parts(plan, &self.model, plan.training.gold.as_ref()?, 2)?;
        // The head has one output a text.
        parts.retain(|part| part.name != "logits");
        Some(StageMemory { model: self.model.clone(), parts })
    }
}
