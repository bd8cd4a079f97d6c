//! A row of the summary: what the answers of one base and method are like, and what they have cost.
//! Differences between rows are in `comparison.rs`.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::reward::Reward;
use crate::report::answer::Answer;
use crate::report::divergence::Divergence;
use crate::report::model_outputs::AlpacaEval;
use crate::report::multiply_adds::MultiplyAdds;
use crate::report::pairs::words;
use crate::report::served::Served;
use crate::report::statistics::{distinct, mean, repetition};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SummaryRow {
    pub base: String,
    pub method: String,
    pub settings: Value,
    /// Why the method does not apply to the base; there are no answers then, and all numbers are 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_applicable: Option<String>,
    pub gold_reward: Option<Reward>,
    /// What judges beside the gold say, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub judges: BTreeMap<String, Reward>,
    /// Mean score by the guide pair.
    pub score: Option<f64>,
    pub base_logprob_per_token: Option<f64>,
    /// How far the method's distribution is from the base's, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl: Option<Divergence>,
    pub response_tokens: f64,
    /// Mean words of a response, between white space.
    #[serde(default)]
    pub words: f64,
    pub complete_fraction: f64,
    /// Distinct words over all words of all responses, then of runs of two and three.
    #[serde(default)]
    pub distinct_1: f64,
    pub distinct_2: f64,
    #[serde(default)]
    pub distinct_3: f64,
    /// Mean over responses of the share of runs of four words that were said before.
    #[serde(default)]
    pub repetition_4: f64,
    /// Mean tokens for one prompt.
    pub tokens: Tokens,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multiply_adds: Option<MultiplyAdds>,
    /// Mean seconds for one prompt.
    pub seconds: f64,
    /// The guides' part of `seconds`, where they score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guide_seconds: Option<f64>,
    pub prompts: usize,
    /// By what this setting is the best of its sweep.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chosen: Vec<Chosen>,
    /// What all answers of the row have cost, where others serve the base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<Served>,
    /// What the `alpaca_eval` package says, where it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpaca_eval: Option<AlpacaEval>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Tokens {
    pub base: f64,
    pub guide: f64,
}

/// On which prompts a setting of a sweep has the highest gold reward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chosen {
    /// The evaluated ones, as the paper's EFT (β*).
    Test,
    Validation,
}

impl SummaryRow {
    /// Without rewards.
    pub(super) fn of(base: &str, method: &str, settings: Value, answers: &[Answer]) -> Self {
        let over = |value: &dyn Fn(&Answer) -> f64| {
            mean_of(answers, |answer| Some(value(answer))).unwrap_or(0.0)
        };
        let distinct = |n| distinct(n, answers.iter().map(|answer| answer.response.as_str()));
        Self {
            base: base.to_owned(),
            method: method.to_owned(),
            settings,
            not_applicable: None,
            gold_reward: None,
            judges: BTreeMap::new(),
            score: mean_of(answers, |answer| answer.score),
            base_logprob_per_token: mean_of(answers, |answer| answer.base_logprob_per_token),
            kl: None,
            response_tokens: over(&|answer| answer.response_tokens as f64),
            words: over(&|answer| words(&answer.response)),
            complete_fraction: over(&|answer| f64::from(u8::from(answer.complete))),
            distinct_1: distinct(1),
            distinct_2: distinct(2),
            distinct_3: distinct(3),
            repetition_4: over(&|answer| repetition(4, &answer.response)),
            tokens: Tokens {
                base: over(&|answer| answer.base_tokens as f64),
                guide: over(&|answer| answer.guide_tokens as f64),
            },
            multiply_adds: None,
            seconds: over(&|answer| answer.seconds),
            guide_seconds: mean_of(answers, |answer| answer.guide_seconds),
            prompts: answers.iter().map(|answer| &answer.id).collect::<HashSet<_>>().len(),
            chosen: Vec::new(),
            served: None,
            alpaca_eval: None,
        }
    }

    /// Of a method that does not apply to the base.
    pub(super) fn not_applicable(base: &str, method: &str, settings: Value, why: String) -> Self {
        Self { not_applicable: Some(why), ..Self::of(base, method, settings, &[]) }
    }
}

/// The mean over those answers that have the value; `None` where none has.
fn mean_of(answers: &[Answer], value: impl Fn(&Answer) -> Option<f64>) -> Option<f64> {
    let values: Vec<f64> = answers.iter().filter_map(value).collect();
    (!values.is_empty()).then(|| mean(&values))
}
