//! What came out of all trainings of the stage: rows and a figure, from their journals.

use serde_json::json;

use super::records::{StepLine, ValidationLine, entries};
use crate::artifacts::atomic;
use crate::error::Result;
use crate::recipe::{ChunkLen, Stage};
use crate::report::{PpoReport, PpoTraining, ppo_figure, ppo_rows};
use crate::stages::context::Context;
use crate::stages::run::write_json;
use crate::stages::tasks::{self, Task};

/// `None` where the recipe has no `[ppo]`. All trainings must be done.
pub fn report(context: &Context) -> Result<Option<PpoReport>> {
    let mut trainings = Vec::new();
    for task in tasks::tasks(&context.plan, Stage::Ppo)? {
        if let Task::Ppo { chunk_len, .. } = task {
            trainings.push(training(context, chunk_len, &task.name(&context.plan))?);
        }
    }
    if trainings.is_empty() {
        return Ok(None);
    }
    Ok(Some(PpoReport {
        rows: ppo_rows(&trainings, &ChunkLen::Whole.to_string()),
        figure: ppo_figure(&trainings)?,
    }))
}

/// `report.json` and `curves.svg` beside the trainings.
pub fn write_report(context: &Context) -> Result<()> {
    let (Some(report), Some(table)) = (report(context)?, &context.recipe().ppo) else {
        return Ok(());
    };
    let folder = context.run.path(&tasks::ppo_folder(&context.plan));
    atomic::write(&folder.join("curves.svg"), report.figure.as_bytes())?;
    write_json(&folder.join("report.json"), &json!({ "policy": table.policy, "rows": report.rows }))
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
        returns: steps.iter().map(|line| (line.step as f64, line.score)).collect(),
        gold: validation
            .iter()
            .filter_map(|line| Some((line.step as f64, line.gold_reward?)))
            .collect(),
        kl: steps.last().map_or(0.0, |line| line.kl),
        distinct_2,
        rollouts_per_second: steps.iter().map(|line| line.rollouts as f64).sum::<f64>() / seconds,
    })
}
