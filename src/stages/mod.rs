//! One file a stage: wires models, data and algorithms together and owns the loops; no maths.

mod context;
mod direct;
mod dpo;
mod evaluate;
mod gold;
mod ppo;
mod preferences;
mod pretrain;
mod prompt_room;
mod reward_model;
mod sample_text;
mod sft;
pub mod shards;
mod steer;
mod steer_memory;
mod steer_method;
mod tuning;

pub use context::Context;
pub use prompt_room::{PromptReader, check as check_prompts, check_ahead as check_prompts_ahead};
pub use steer_method::{LoadedGuide, Method, Parts, SteerLine, SteerSettings, proposer, steer_prompts};

use crate::error::{Error, Result};
use crate::recipe::{MethodTable, Plan, RewardStart, Stage};
use tuning::Tuning;

/// Does what is left of one stage.
pub fn run(stage: Stage, context: &Context) -> Result<()> {
    prompt_room::check_stage(stage, context)?;
    match stage {
        Stage::Pretrain => pretrain::run(context),
        Stage::Gold => gold::run(context),
        Stage::Preferences => preferences::run(context),
        Stage::Sft => sft::run(context, &Tuning::of_guide(context)?),
        Stage::RewardModel => reward_model::run(context),
        Stage::Dpo => dpo::run(context, &Tuning::of_guide(context)?),
        Stage::Direct => direct::run(context),
        Stage::Ppo => ppo::run(context),
        Stage::Steer => steer::run(context),
        Stage::Evaluate => evaluate::run(context),
    }
}

/// The stages whose results a stage reads.
fn needs(stage: Stage) -> &'static [Stage] {
    match stage {
        Stage::Pretrain | Stage::Gold => &[],
        Stage::Preferences => &[Stage::Pretrain, Stage::Gold],
        Stage::Sft => &[Stage::Pretrain, Stage::Preferences],
        Stage::RewardModel | Stage::Dpo => &[Stage::Pretrain, Stage::Preferences, Stage::Sft],
        Stage::Direct => &[Stage::Pretrain, Stage::Preferences],
        Stage::Ppo => &[Stage::Pretrain, Stage::Gold, Stage::Sft, Stage::Dpo],
        Stage::Steer => &[Stage::Pretrain, Stage::Gold, Stage::Sft, Stage::Dpo, Stage::Direct, Stage::Ppo],
        Stage::Evaluate => &[Stage::Ppo, Stage::Steer],
    }
}

/// Those of [`needs`] that the plan has and that the stage reads as its table stands.
fn reads(stage: Stage, plan: &Plan) -> Vec<Stage> {
    let recipe = &plan.recipe;
    let samples = |is_such: fn(&MethodTable) -> bool| recipe.steer.as_ref().is_some_and(|steer| steer.method.iter().any(is_such));
    let is_read = |needed: &Stage| match (stage, needed) {
        (Stage::RewardModel, Stage::Sft) => recipe.reward_model.as_ref().is_some_and(|table| table.from == RewardStart::Sft),
        // Where no method samples them, steering does without.
        (Stage::Steer, Stage::Direct) => samples(|method| matches!(method, MethodTable::Direct { .. })),
        (Stage::Steer, Stage::Ppo) => samples(|method| matches!(method, MethodTable::Ppo { .. })),
        _ => true,
    };
    needs(stage).iter().copied().filter(|needed| plan.has(*needed) && is_read(needed)).collect()
}

/// Refuses to empty the run directory for `stages` alone where one of them reads the results of another stage: nothing would be left to read.
pub fn check_fresh(stages: &[Stage], plan: &Plan) -> Result<()> {
    let left_out =
        stages.iter().find_map(|stage| reads(*stage, plan).into_iter().find(|read| !stages.contains(read)).map(|read| (stage, read)));
    match left_out {
        None => Ok(()),
        Some((stage, read)) => Err(Error::recipe(format!(
            "`--fresh` would remove the results of `{read}`, which `--only {stage}` reads\n\n\
             hint: `--from {stage}` does it anew; without `--only`, `--fresh` does everything anew"
        ))),
    }
}

/// A task of the stage that has not been done with this recipe's settings, if there is one.
fn undone(stage: Stage, context: &Context) -> Result<Option<String>> {
    let tasks = match stage {
        Stage::Pretrain => pretrain::tasks(context)?,
        Stage::Gold => gold::tasks(context)?,
        Stage::Preferences => vec![preferences::task(context)?],
        Stage::Sft => vec![sft::task(context, &Tuning::of_guide(context)?)?],
        Stage::RewardModel => vec![reward_model::task(context)?],
        Stage::Dpo => vec![dpo::task(context, &Tuning::of_guide(context)?)?],
        Stage::Direct => direct::tasks(context)?,
        Stage::Ppo => ppo::tasks(context)?,
        Stage::Steer => steer::tasks(context)?,
        Stage::Evaluate => return Ok(None),
    };
    Ok(tasks.into_iter().find(|task| !context.is_done(task)).map(|task| task.name))
}

/// Refuses to do some stages alone where what they read is missing, or was made with other settings than this recipe's: the results
/// would be filed as this recipe's and trusted ever after.
pub fn check_inputs(stages: &[Stage], context: &Context) -> Result<()> {
    for stage in stages {
        for needed in reads(*stage, &context.plan).into_iter().filter(|needed| !stages.contains(needed)) {
            let Some(task) = undone(needed, context)? else { continue };
            if needed == Stage::Steer {
                shards::check_complete(context)?;
            }
            let (stage, needed) = (stage.name(), needed.name());
            return Err(Error::failed(format!(
                "stage `{stage}` reads the results of `{needed}`, and `{task}` has not been done with these settings\n\n\
                 hint: run without --only, or with --only {needed} --only {stage}"
            )));
        }
    }
    Ok(())
}
