//! What stages read of each other, task by task: for `--only`, `--fresh` and shards. The arrows
//! themselves are in `inputs.rs`.

use std::collections::BTreeSet;

use super::context::Context;
use super::tasks::{self, Task};
use crate::error::{Error, Result};
use crate::recipe::{Plan, Stage};

/// The first task that one of `stages` reads and none of them makes, with the stage that reads it;
/// of those for which `which` holds.
pub fn lacking(
    stages: &[Stage],
    plan: &Plan,
    which: impl Fn(&Task) -> Result<bool>,
) -> Result<Option<(Stage, Task)>> {
    for &stage in stages {
        for made in made_inputs(stage, plan)? {
            if !stages.contains(&made.stage()) && which(&made)? {
                return Ok(Some((stage, made)));
            }
        }
    }
    Ok(None)
}

/// The tasks whose results a stage's own tasks read, and that it does not do itself.
fn made_inputs(stage: Stage, plan: &Plan) -> Result<Vec<Task>> {
    let (mut made, own) = (Vec::new(), tasks::tasks(plan, stage)?);
    for task in &own {
        made.extend(task.inputs(plan)?.iter().filter_map(|input| input.made_by(plan)));
    }
    made.retain(|task| task.stage() == stage || !own.contains(task));
    Ok(made)
}

/// Refuses to empty the run directory for `stages` alone where one of them reads the results of
/// another stage: nothing would be left to read.
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

/// The stages before `stages` that have something left to do for them, with what they themselves
/// lack.
pub fn due_before(stages: &[Stage], context: &Context) -> Result<BTreeSet<Stage>> {
    let mut due = BTreeSet::new();
    let mut asked = stages.to_vec();
    while let Some(stage) = asked.pop() {
        for made in made_inputs(stage, &context.plan)? {
            let is_known = stages.contains(&made.stage()) || due.contains(&made.stage());
            if !is_known && !context.is_done(&made)? {
                due.insert(made.stage());
                asked.push(made.stage());
            }
        }
    }
    Ok(due)
}

/// The words of a command line that does these stages alone.
pub fn alone(stages: &BTreeSet<Stage>) -> String {
    stages.iter().map(|stage| format!("--only {stage}")).collect::<Vec<_>>().join(" ")
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
