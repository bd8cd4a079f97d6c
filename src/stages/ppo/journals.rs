//! The journals of one PPO training, and the report that is made of them.

use std::path::PathBuf;

use serde::Serialize;

use super::records::{RolloutLine, Seconds, StepLine, ValidationLine, entries, open_at};
use super::rollouts::Batch;
use crate::artifacts::Journal;
use crate::error::Result;
use crate::monitor::glossary;
use crate::train::Metrics;

/// `training.json` of a finished training.
#[derive(Serialize)]
pub struct Report {
    steps: usize,
    pub rollouts: usize,
    pub seconds: Seconds,
    pub rollouts_per_second: f64,
    /// Whether any weight of the policy is other than at the start.
    changed: bool,
    /// The first and the last one.
    validation: Vec<ValidationLine>,
}

/// The journals of one training.
pub struct Journals {
    rollouts: Journal<RolloutLine>,
    steps: Journal<StepLine>,
    validation: Journal<ValidationLine>,
    folder: PathBuf,
}

impl Journals {
    /// Below `folder`, as they are.
    pub fn open(folder: PathBuf) -> Result<Self> {
        Self::open_at(folder, usize::MAX)
    }

    /// Forgets what was written after `done` steps had been made.
    pub fn cut(&mut self, done: usize) -> Result<()> {
        *self = Self::open_at(self.folder.clone(), done)?;
        Ok(())
    }

    fn open_at(folder: PathBuf, done: usize) -> Result<Self> {
        Ok(Self {
            rollouts: open_at(&folder.join("rollouts.jsonl"), done)?,
            steps: open_at(&folder.join("steps.jsonl"), done)?,
            validation: open_at(&folder.join("validation.jsonl"), done)?,
            folder,
        })
    }

    /// Writes down a step and gives its line.
    pub fn step(
        &mut self,
        batch: &Batch,
        metrics: &Metrics,
        step: usize,
        seconds: Seconds,
    ) -> Result<StepLine> {
        let metric = |name: &str| metrics.mean(name).unwrap_or(f64::NAN);
        self.rollouts.append_all(&batch.lines)?;
        let rollouts = batch.lines.len() as f64;
        let mean =
            |of: &dyn Fn(&RolloutLine) -> f64| batch.lines.iter().map(of).sum::<f64>() / rollouts;
        let line = StepLine {
            step,
            score: metric(glossary::PPO_SCORES),
            guide_score: mean(&|line| line.guide_score),
            kl: metric(glossary::PPO_KL),
            entropy: metric(glossary::PPO_ENTROPY),
            tokens: mean(&|line| line.tokens as f64),
            rollouts: batch.lines.len(),
            seconds,
        };
        self.steps.append(&line)?;
        Ok(line)
    }

    pub fn validation(&mut self, line: &ValidationLine) -> Result<()> {
        self.validation.append(line)
    }

    /// What all steps came to.
    pub fn report(&self, changed: bool) -> Result<Report> {
        let steps: Vec<StepLine> = entries(&self.folder.join("steps.jsonl"))?;
        let validation: Vec<ValidationLine> = entries(&self.folder.join("validation.jsonl"))?;
        let seconds = steps.iter().fold(Seconds::default(), |sum, line| sum.plus(line.seconds));
        let rollouts = steps.iter().map(|line| line.rollouts).sum();
        Ok(Report {
            steps: steps.len(),
            rollouts,
            seconds,
            rollouts_per_second: rollouts as f64 / seconds.all(),
            changed,
            validation: validation.first().into_iter().chain(validation.last()).cloned().collect(),
        })
    }
}
