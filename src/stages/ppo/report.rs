//! What came out of all trainings of a policy: rows and a figure, from their journals.

use serde_json::json;

use super::records::{StepLine, ValidationLine, entries};
use crate::artifacts::atomic;
use crate::error::Result;
use crate::recipe::{ChunkLen, Stage};
use crate::report::{PpoReport, PpoTraining, ppo_figure, ppo_rows};
use crate::stages::context::Context;
use crate::stages::run::write_json;
use crate::stages::tasks::{self, Task};

/// Of every policy in turn; `tuned` is the mean gold reward of the tuned guide sampled alone, where
/// it was. All trainings must be done.
pub fn reports(context: &Context, tuned: Option<f64>) -> Result<Vec<PpoReport>> {
    let policies = context.recipe().ppo.iter().flat_map(|ppo| &ppo.policy.0);
    policies.map(|policy| report(context, policy, tuned)).collect()
}

fn report(context: &Context, policy: &str, tuned: Option<f64>) -> Result<PpoReport> {
    let mut trainings = Vec::new();
    for task in tasks::tasks(&context.plan, Stage::Ppo)? {
        match &task {
            Task::Ppo { policy: of, chunk_len, .. } if of == policy => {
                trainings.push(training(context, *chunk_len, &task.name())?);
            }
            _ => {}
        }
    }
    Ok(PpoReport {
        policy: policy.to_owned(),
        rows: ppo_rows(policy, &trainings, &ChunkLen::Whole.to_string()),
        figure: ppo_figure(&trainings, tuned)?,
    })
}

/// `report.json` and `curves.svg` beside the trainings.
pub fn write_report(context: &Context, policy: &str) -> Result<()> {
    // Nothing is steered yet.
    let report = report(context, policy, None)?;
    let folder = context.run.path(&tasks::ppo_folder(policy));
    atomic::write(&folder.join("curves.svg"), report.figure.as_bytes())?;
    write_json(&folder.join("report.json"), &json!({ "policy": policy, "rows": report.rows }))
}

fn training(context: &Context, chunk_len: ChunkLen, folder: &str) -> Result<PpoTraining> {
    let folder = context.run.path(folder);
    let steps: Vec<StepLine> = entries(&folder.join("steps.jsonl"))?;
    let validation: Vec<ValidationLine> = entries(&folder.join("validation.jsonl"))?;
    let seconds: f64 = steps.iter().map(|line| line.seconds.all()).sum();
    let distinct_2 = validation
        .first()
        .zip(validation.last())
        .map(|(first, last)| [first.distinct_2, last.distinct_2]);
    Ok(PpoTraining {
        chunk_len: chunk_len.to_string(),
        returns: steps.iter().map(|line| (line.step as f64, line.guide_score)).collect(),
        gold: validation
            .iter()
            .filter_map(|line| Some((line.step as f64, line.gold_reward?)))
            .collect(),
        kl: steps.last().map_or(0.0, |line| line.kl),
        distinct_2,
        rollouts_per_second: steps.iter().map(|line| line.rollouts as f64).sum::<f64>() / seconds,
    })
}
