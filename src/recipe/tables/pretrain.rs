//! `[pretrain]`: the models from scratch are made on windows of the training texts.

use std::fmt::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::memory::{StageMemory, largest, tuning_parts};
use super::super::plan::Plan;
use super::super::rules::Rules;
use super::super::sizes::LmSizes;
use super::super::stage::{StageTable, Texts};
use super::Recipe;
use super::scratch::Scratch;
use super::training::{Training, TrainingTable};

/// Makes the models that have a `scratch`, on windows of the training texts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pretrain {
    #[serde(default)]
    pub training: TrainingTable,
}

impl Pretrain {
    /// How a model from scratch is made.
    pub(in crate::recipe) fn settle(&self, scratch: &Scratch, sizes: Option<&LmSizes>) -> Training {
        let table = match scratch.steps {
            Some(steps) => {
                TrainingTable { steps: Some(steps), epochs: None, ..self.training.clone() }
            }
            None => self.training.clone(),
        };
        let context = sizes.map(|sizes| sizes.context);
        Training::resolve(&table, Training::pretrain().within(context))
    }
}

impl StageTable for Pretrain {
    /// Where there is a model to make.
    fn is_asked(&self, recipe: &Recipe) -> bool {
        recipe.models.values().any(|model| model.scratch.is_some())
    }

    fn texts(&self, recipe: &Recipe) -> Texts {
        if self.is_asked(recipe) { Texts::Training } else { Texts::None }
    }

    fn rules(&self, rules: &mut Rules) {
        let whole = Training::resolve(&self.training, Training::pretrain());
        rules.training_table("pretrain.training", &self.training, &whole);
        for (name, training) in &rules.training.pretrain {
            let context = rules.context(name);
            rules.length_fits("pretrain.training", training, &format!("models.{name}"), context);
        }
    }

    fn words(&self, plan: &Plan, out: &mut String) -> fmt::Result {
        writeln!(out, "makes the models from scratch, on windows of the training texts")?;
        for (name, training) in &plan.training.pretrain {
            write!(out, "     {name}: ")?;
            training.words(out, None, 1)?;
        }
        Ok(())
    }

    fn memory(&self, plan: &Plan) -> Option<StageMemory> {
        largest(plan.training.pretrain.iter().filter_map(|(name, training)| {
            let parts = tuning_parts(plan, name, training, 1)?;
            Some(StageMemory { model: name.clone(), parts })
        }))
    }
}
