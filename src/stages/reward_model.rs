//! A reward model from the preference pairs. The result can be the `[gold]` of another recipe, and
//! reads texts in training as it will there. How it is trained is told by `reward_training.rs`.

use std::path::PathBuf;

use super::context::Context;
use super::reward_training::{self, Judged, JudgedPair, RewardTraining};
use super::tasks::{TRAIN, VALIDATION};
use super::tuning_plan::Pupil;
use crate::error::{Error, Result};
use crate::models::RewardHead;
use crate::recipe::{RewardModelTable, RewardStart};
use crate::score::Reading;
use crate::text::{Pair, read_pairs};

pub fn train(context: &Context) -> Result<()> {
    let absent = || Error::recipe("the recipe has no `[reward_model]` table");
    let table = context.recipe().reward_model.as_ref().ok_or_else(absent)?;
    let model = context.recipe().reward_model_base().ok_or_else(absent)?;
    let asked = RewardTraining {
        name: "reward_model",
        model,
        start: start_folder(context, table, model)?,
        head_learning_rate: table.head_learning_rate,
        training: context.plan.training.reward_model.as_ref().ok_or_else(absent)?,
        reading: Reading::new(RewardHead::Score.layout(), None),
    };
    let [train, validation] =
        [read_pairs(&context.run.path(TRAIN))?, read_pairs(&context.run.path(VALIDATION))?];
    reward_training::train(
        context,
        &asked,
        [judged(TRAIN, &train), judged(VALIDATION, &validation)],
    )
}

fn start_folder(context: &Context, table: &RewardModelTable, model: &str) -> Result<PathBuf> {
    match table.from {
        RewardStart::Model => context.models.folder(model),
        RewardStart::Sft => Ok(context.run.path(&Pupil::Guide.folder("sft"))),
    }
}

fn judged<'a>(file: &str, pairs: &'a [Pair]) -> Judged<'a> {
    let pairs = pairs.iter().map(|Pair { prompt, chosen, rejected, .. }| JudgedPair {
        prompt,
        chosen,
        rejected,
    });
    Judged { of: file.to_owned(), pairs: pairs.collect(), hint: "`preferences.prompts`" }
}
