//! What one judge says of a row: its mean and how sure that is. Prompts are the independent units:
//! the seeds of one prompt are averaged before anything is said of prompts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::report::answer::Answer;
use crate::report::statistics::{Resampled, mean, standard_deviation, standard_error};

/// In the judge's own unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reward {
    /// Over all responses, as `std`, their sample standard deviation.
    pub mean: f64,
    pub std: f64,
    /// Half the width of the normal 95 % interval over prompts: 1.96 standard errors.
    pub ci95: f64,
    /// The mean of each seed.
    pub seeds: Vec<f64>,
    /// The sample standard deviation of the seeds' means, the paper's ±; absent for one seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed_std: Option<f64>,
    /// The percentile bootstrap over prompts (`statistics/bootstrap.rs`), low and high; absent for
    /// one prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap95: Option<[f64; 2]>,
}

/// The rewards of a row by prompt, and their resampled means.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ByPrompt {
    /// By id: the mean over seeds.
    pub means: BTreeMap<String, f64>,
    /// Of `means` in order of their ids; `None` for fewer than two prompts.
    pub resampled: Option<Resampled>,
}

impl ByPrompt {
    pub fn of(answers: &[Answer], value: impl Fn(&Answer) -> Option<f64>) -> Self {
        let mut rewards: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for answer in answers {
            if let Some(reward) = value(answer) {
                rewards.entry(answer.id.clone()).or_default().push(reward);
            }
        }
        let means: BTreeMap<String, f64> =
            rewards.into_iter().map(|(id, rewards)| (id, mean(&rewards))).collect();
        let values: Vec<f64> = means.values().copied().collect();
        Self { resampled: Resampled::of(&values), means }
    }

    /// Whether both have rewards of the same prompts.
    pub fn is_of_the_prompts_of(&self, other: &Self) -> bool {
        self.means.keys().eq(other.means.keys())
    }
}

impl Reward {
    /// `None` where no answer was judged.
    pub(super) fn of(
        answers: &[Answer],
        by_prompt: &ByPrompt,
        value: impl Fn(&Answer) -> Option<f64>,
    ) -> Option<Self> {
        let all: Vec<f64> = answers.iter().filter_map(&value).collect();
        if all.is_empty() {
            return None;
        }
        let mut seeds: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for answer in answers {
            if let Some(reward) = value(answer) {
                seeds.entry(answer.seed).or_default().push(reward);
            }
        }
        let units: Vec<f64> = by_prompt.means.values().copied().collect();
        let seeds: Vec<f64> = seeds.values().map(|rewards| mean(rewards)).collect();
        Some(Self {
            mean: mean(&all),
            std: standard_deviation(&all),
            ci95: 1.96 * standard_error(&units),
            seed_std: (seeds.len() > 1).then(|| standard_deviation(&seeds)),
            seeds,
            bootstrap95: by_prompt.resampled.clone().and_then(Resampled::interval),
        })
    }
}
