//! One file a stage: wires models, data and algorithms together and owns the loops; no maths. Below
//! them, what they share: the tasks of a plan, what these come from, and the run directory.

mod alpaca_eval;
mod annotators;
mod answered;
mod applicable;
mod cell_prompts;
mod cells;
mod changes;
mod choice;
mod context;
mod dpo;
mod evaluate;
mod export;
mod gap;
mod gold;
mod gold_reward;
mod inputs;
mod journals;
mod judged;
mod judging;
mod likelihood;
mod lineage;
mod measured;
mod models;
mod needs;
mod outcomes;
mod placements;
mod ppo;
mod preferences;
mod pretrain;
mod prompt_room;
mod reward_model;
mod reward_training;
mod run;
mod sample_text;
mod served;
mod sft;
pub mod shards;
mod source_folder;
mod steer;
pub mod tasks;
mod test_prompts;
mod training_memory;
mod tuning;
mod tuning_plan;
mod validation_cells;

use std::collections::BTreeSet;

pub use alpaca_eval::judgements;
pub use context::Context;
pub use export::{ExportFormat, Exported, export};
pub use needs::check_fresh;
pub use run::clear;

use crate::artifacts::Shard;
use crate::error::{Error, Result};
use crate::recipe::Stage;
use prompt_room::Asked;
use tasks::Task;

/// Does what is left of one stage.
pub fn run(stage: Stage, context: &Context) -> Result<()> {
    asked(stage, context)?.iter().try_for_each(|asked| asked.check(context))?;
    let (mut steering, mut judging) =
        (steer::Steering::new(context, None), judging::Judging::new(context));
    let mut likelihoods = likelihood::Likelihoods::new(context);
    let mut alpaca_eval = alpaca_eval::Judging::new(context);
    let mut lost = Vec::new();
    for task in tasks::tasks(&context.plan, stage)? {
        if alpaca_eval.skips(&task) {
            continue;
        }
        let job = context.job(&task)?;
        if !context.run.is_done(&job) {
            training_memory::check(&task, context)?;
        }
        let outcome = context.run.perform(&job, || match &task {
            Task::Pretrain(model) => pretrain::train(context, model),
            Task::Gold => gold::train(context),
            Task::GoldAccuracy => gold::measure(context),
            Task::Preferences => preferences::make(context),
            Task::Sft(pupil) => sft::train(context, pupil, &job.name),
            Task::RewardModel => reward_model::train(context),
            Task::Dpo(pupil) => dpo::train(context, pupil, &job.name),
            Task::Ppo { policy, chunk_len, seed } => {
                ppo::train(context, policy, *chunk_len, *seed, &job.name)
            }
            Task::PpoReport(policy) => ppo::write_report(context, policy),
            Task::Steer { cell, seed } => {
                judging.let_go();
                steering.run(cell, *seed)
            }
            Task::Judge { judge, cell, seed } => {
                steering.let_go();
                judging.run(judge, cell, *seed, &job.name)
            }
            Task::Gap => gap::measure(context),
            Task::Likelihood { cell, seed } => likelihoods.run(cell, *seed, &job.name),
            Task::AlpacaEval { cell, seed } => alpaca_eval.run(cell, *seed, &job.name),
            Task::Evaluate => evaluate::run(context, &alpaca_eval),
        });
        let outcome = alpaca_eval.keep(&task, outcome);
        // What others have no answer to is no reason to answer nothing.
        lost.extend(steer::losses(&job.name, outcome)?);
    }
    alpaca_eval.end()?;
    if lost.is_empty() { Ok(()) } else { Err(Error::Lost(lost)) }
}

/// Does a shard's share of the steer stage.
///
/// # Errors
/// [`Error::Failed`] where what it reads is missing or was made with other settings, naming every
/// stage that is due.
pub fn run_shard(context: &Context, shard: Shard) -> Result<()> {
    let due = needs::due_before(&[Stage::Steer], context)?;
    if !due.is_empty() {
        let named: Vec<String> = due.iter().map(|stage| format!("`{stage}`")).collect();
        return Err(Error::failed(format!(
            "shards read what is done before them, and these stages have not been done with these \
             settings: {}\n\n\
             hint: first run `w2s run RECIPE {}` with the same --set and --out",
            named.join(", "),
            needs::alone(&due)
        )));
    }
    asked(Stage::Steer, context)?.iter().try_for_each(|asked| asked.check(context))?;
    shards::run(context, shard)
}

/// What a stage asks of its models before it begins; nothing where it reads no prompts, or is done.
fn asked(stage: Stage, context: &Context) -> Result<Vec<Asked>> {
    if !matches!(stage, Stage::Preferences | Stage::Ppo | Stage::Steer)
        || needs::is_done(stage, context)?
    {
        return Ok(Vec::new());
    }
    match stage {
        Stage::Preferences => Ok(preferences::asked(context)?.into_iter().collect()),
        Stage::Ppo => Ok(vec![ppo::asked(context)?]),
        _ => steer::asked(context),
    }
}

/// Refuses prompts of stages that are still to be done and do not fit those of their models that
/// are there already, and servers that are not there, before any of them begins.
pub fn check_ahead(stages: &[Stage], context: &Context) -> Result<()> {
    if stages.contains(&Stage::Steer) {
        served::check_ahead(context)?;
    }
    if stages.contains(&Stage::Evaluate) {
        alpaca_eval::check_ahead(context)?;
    }
    stages.iter().try_for_each(|stage| {
        asked(*stage, context)?.iter().try_for_each(|asked| asked.refuse(context))
    })
}

/// Refuses to do some stages alone where what they read is missing, or was made with other settings
/// than this recipe's: the results would be filed as this recipe's and trusted ever after.
pub fn check_inputs(stages: &[Stage], context: &Context) -> Result<()> {
    let Some((stage, task)) =
        needs::lacking(stages, &context.plan, |task| Ok(!context.is_done(task)?))?
    else {
        return Ok(());
    };
    let needed = task.stage();
    if needed == Stage::Steer {
        shards::check_complete(context)?;
    }
    let with: BTreeSet<Stage> =
        needs::due_before(stages, context)?.into_iter().chain(stages.iter().copied()).collect();
    let (name, alone) = (task.name(), needs::alone(&with));
    let changed = context.run.changed(&context.job(&task)?);
    Err(Error::failed(match changed.first() {
        Some(file) => format!(
            "stage `{stage}` reads the results of `{needed}`, and `{file}` is not as `{name}` left \
             it\n\nhint: put it back as it was; without --only, or with {alone}, the task is done \
             anew"
        ),
        None => format!(
            "stage `{stage}` reads the results of `{needed}`, and `{name}` has not been done with \
             these settings\n\nhint: run without --only, or with {alone}"
        ),
    }))
}
