//! What a PPO training writes down step by step, in its folder: rollouts, steps, validations. A
//! training that goes on from a checkpoint cuts off what was written after it.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::artifacts::{Journal, journal};
use crate::error::Result;
use crate::prompt::PromptText;
use crate::search::Finish;

/// One line of `rollouts.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutLine {
    pub step: usize,
    pub id: String,
    pub prompt: PromptText,
    pub response: String,
    pub finish: Finish,
    /// Response tokens, EOS included.
    pub tokens: usize,
    /// Sum of the rewards: the pair's score times `scale`, less a penalty where there is one.
    pub score: f64,
    /// The pair's score, unscaled: the return of the paper's Fig. 9.
    pub guide_score: f64,
}

/// One line of `steps.jsonl`: means over the step's rollouts, and seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepLine {
    /// From 1.
    pub step: usize,
    pub score: f64,
    pub guide_score: f64,
    /// Σ log π/π_initial of a rollout.
    pub kl: f64,
    pub entropy: f64,
    pub tokens: f64,
    pub rollouts: usize,
    pub seconds: Seconds,
}

/// Where the time of a step went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    pub rollout: f64,
    pub reward: f64,
    pub update: f64,
}

impl Seconds {
    pub fn all(self) -> f64 {
        self.rollout + self.reward + self.update
    }

    pub fn plus(self, other: Self) -> Self {
        Self {
            rollout: self.rollout + other.rollout,
            reward: self.reward + other.reward,
            update: self.update + other.update,
        }
    }

    /// In per cent.
    pub fn shares(self) -> Self {
        let share = |seconds: f64| 100.0 * seconds / self.all();
        Self {
            rollout: share(self.rollout),
            reward: share(self.reward),
            update: share(self.update),
        }
    }
}

/// One line of `validation.jsonl`: means over the validation prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidationLine {
    /// Steps done: 0 is the policy as it was.
    pub step: usize,
    /// As in `rollouts.jsonl`.
    pub score: f64,
    pub guide_score: f64,
    /// Absent without `[gold]`.
    pub gold_reward: Option<f64>,
    pub tokens: f64,
    pub complete_fraction: f64,
    pub distinct_1: f64,
    pub distinct_2: f64,
}

/// All complete lines of a journal.
pub fn entries<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    Ok(journal::complete_lines(path)?.into_iter().map(|(entry, _)| entry).collect())
}

/// What has a step.
pub trait Stepped: Serialize + DeserializeOwned {
    fn step(&self) -> usize;
}

impl Stepped for RolloutLine {
    fn step(&self) -> usize {
        self.step
    }
}

impl Stepped for StepLine {
    fn step(&self) -> usize {
        self.step
    }
}

impl Stepped for ValidationLine {
    fn step(&self) -> usize {
        self.step
    }
}

/// Opens a journal as it was when `done` steps had been made.
pub fn open_at<T: Stepped>(path: &Path, done: usize) -> Result<Journal<T>> {
    let lines = journal::complete_lines::<T>(path)?;
    let kept =
        lines.iter().filter(|(entry, _)| entry.step() <= done && done > 0).map(|(_, line)| line);
    journal::replace(path, kept)?;
    Ok(Journal::open(path)?.0)
}
