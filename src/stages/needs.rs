//! What stages read of each other, task by task: for `--only`, `--fresh` and shards.

use std::collections::BTreeSet;

use super::context::Context;
use super::tasks::{self, Task};
use crate::error::{Error, Result};
use crate::recipe::{Plan, Stage};

/// The first task that one of `stages` reads and none of them makes, with the stage that reads it; of those for which `which` holds.
pub fn lacking(stages: &[Stage], plan: &Plan, which: impl Fn(&Task) -> Result<bool>) -> Result<Option<(Stage, Task)>> {
    for &stage in stages {
        for made in made_inputs(stage, plan)? {
            if !stages.contains(&made.stage()) && which(&made)? {
                return Ok(Some((stage, made)));
            }
        }
    }
    Ok(None)
}

/// The tasks whose results a stage's own tasks read.
fn made_inputs(stage: Stage, plan: &Plan) -> Result<Vec<Task>> {
    let mut made = Vec::new();
    for task in tasks::tasks(plan, stage)? {
        made.extend(task.inputs(plan)?.iter().filter_map(|input| input.made_by(plan)));
    }
    Ok(made)
}

/// Refuses to empty the run directory for `stages` alone where one of them reads the results of another stage: nothing would be left to read.
pub fn check_fresh(stages: &[Stage], plan: &Plan) -> Result<()> {
    match lacking(stages, plan, |_| Ok(true))? {
        None => Ok(()),
        Some((stage, read)) => Err(Error::recipe(format!(
            "`--fresh` would remove the results of `{}`, which `--only {stage}` reads\n\n\
             hint: `--from {stage}` does it anew; without `--only`, `--fresh` does everything anew",
            read.stage()
        ))),
    }
}

/// The stages before `stage` that have something left to do for it, with what they themselves lack.
pub fn due_before(stage: Stage, context: &Context) -> Result<BTreeSet<Stage>> {
    let mut due = BTreeSet::new();
    let mut asked = vec![stage];
    while let Some(stage) = asked.pop() {
        for made in made_inputs(stage, &context.plan)? {
            if !due.contains(&made.stage()) && !context.is_done(&made)? {
                due.insert(made.stage());
                asked.push(made.stage());
            }
        }
    }
    Ok(due)
}

/// Whether every task of the stage is done.
pub fn is_done(stage: Stage, context: &Context) -> Result<bool> {
    for task in tasks::tasks(&context.plan, stage)? {
        if !context.is_done(&task)? {
            return Ok(false);
        }
    }
    Ok(true)
}
