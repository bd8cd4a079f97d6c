//! What preference pairs are like: their rewards, their lengths, and what was left out;
//! `preferences/report.json`.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::Serialize;

use super::statistics::{correlation, mean, quantile, standard_deviation};
use crate::artifacts::journal::complete_lines;
use crate::error::Result;
use crate::prompt::PromptText;
use crate::text::{LeftOut, Pair, Reason, read_pairs};

/// What the pairs of one split are like. What needs rewards is `None` where the pairs have none,
/// and what needs pairs where there are none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairReport {
    pub pairs: usize,
    /// Distinct ones, exact to the byte.
    pub prompts: usize,
    /// Validation pairs whose prompt training pairs have too; `None` for training pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairs_of_training_prompts: Option<usize>,
    /// Pairs left out, for whatever reason.
    pub left_out: usize,
    pub left_out_reasons: BTreeMap<Reason, usize>,
    /// Share of the pairs whose chosen response has the higher gold reward.
    pub label_agreement: Option<f64>,
    /// Pairs that are kept though their rewards are equal.
    pub tied: usize,
    /// Share of the pairs that are judged the other way round than in the file that they came from.
    pub relabelled: Option<f64>,
    pub mean_reward_chosen: Option<f64>,
    pub mean_reward_rejected: Option<f64>,
    pub mean_words_chosen: Option<f64>,
    pub mean_words_rejected: Option<f64>,
    pub rewards: Option<Both>,
    pub words: Option<Both>,
    pub characters: Option<Both>,
    /// Share of the pairs of unequal length (in words) whose longer response is chosen; 0.5 is no
    /// preference for length.
    pub longer_chosen: Option<f64>,
    /// Pearson correlation of words and reward, over all responses.
    pub length_reward_correlation: Option<f64>,
    /// The same within pairs: of the differences of words and of rewards between the two responses.
    pub length_reward_correlation_within_pairs: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Both {
    pub chosen: Distribution,
    pub rejected: Distribution,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Distribution {
    pub mean: f64,
    pub std: f64,
    /// Quantiles, between neighbouring values by straight lines.
    pub p10: f64,
    pub p50: f64,
    pub p90: f64,
}

impl PairReport {
    /// Reads a split's pairs and the journal of what it does without; validation is held beside the
    /// training pairs.
    pub fn read(pairs: &Path, left_out: &Path, training: Option<&Path>) -> Result<Self> {
        let left_out = complete_lines::<LeftOut>(left_out)?;
        let pairs = read_pairs(pairs)?;
        let report = Self::of(&pairs, left_out.into_iter().map(|(line, _)| line.reason));
        let Some(training) = training else { return Ok(report) };
        let training = read_pairs(training)?;
        let known = prompts(&training);
        // An empty prompt is shared by all pairs that have none.
        let shared = pairs
            .iter()
            .filter(|pair| !pair.prompt.is_empty() && known.contains(&pair.prompt))
            .count();
        Ok(Self { pairs_of_training_prompts: Some(shared), ..report })
    }

    pub fn of(pairs: &[Pair], left_out: impl IntoIterator<Item = Reason>) -> Self {
        let mut left_out_reasons = BTreeMap::from(
            [
                Reason::Empty,
                Reason::Equal,
                Reason::PromptTooLong,
                Reason::Tied,
                Reason::NotOneAnswer,
            ]
            .map(|reason| (reason, 0)),
        );
        for reason in left_out {
            *left_out_reasons.entry(reason).or_default() += 1;
        }
        let texts = |length: &dyn Fn(&str) -> f64| {
            Both::of(pairs.iter().map(|pair| (length(&pair.chosen), length(&pair.rejected))))
        };
        let rewards: Vec<(f64, f64)> =
            pairs.iter().filter_map(|pair| pair.reward_chosen.zip(pair.reward_rejected)).collect();
        let lengths: Vec<(f64, f64)> =
            pairs.iter().map(|pair| (words(&pair.chosen), words(&pair.rejected))).collect();
        let unequal: Vec<&(f64, f64)> =
            lengths.iter().filter(|(chosen, rejected)| chosen != rejected).collect();
        // Rewards are there for all pairs or for none.
        let (rewarded, both) = (!rewards.is_empty(), |values: &[(f64, f64)]| {
            values.iter().flat_map(|&(a, b)| [a, b]).collect::<Vec<_>>()
        });
        let differences = |values: &[(f64, f64)]| {
            values.iter().map(|(chosen, rejected)| chosen - rejected).collect::<Vec<_>>()
        };
        let (words, rewards_of) =
            (Both::of(lengths.iter().copied()), Both::of(rewards.iter().copied()));
        Self {
            pairs: pairs.len(),
            prompts: prompts(pairs).len(),
            pairs_of_training_prompts: None,
            left_out: left_out_reasons.values().sum(),
            left_out_reasons,
            label_agreement: share(rewards.iter().map(|(chosen, rejected)| chosen > rejected)),
            tied: rewards.iter().filter(|(chosen, rejected)| chosen == rejected).count(),
            relabelled: share(pairs.iter().filter_map(|pair| pair.relabelled)),
            mean_reward_chosen: rewards_of.as_ref().map(|both| both.chosen.mean),
            mean_reward_rejected: rewards_of.as_ref().map(|both| both.rejected.mean),
            mean_words_chosen: words.as_ref().map(|both| both.chosen.mean),
            mean_words_rejected: words.as_ref().map(|both| both.rejected.mean),
            rewards: rewards_of,
            words,
            characters: texts(&|text| text.chars().count() as f64),
            longer_chosen: share(unequal.into_iter().map(|(chosen, rejected)| chosen > rejected)),
            length_reward_correlation: if rewarded {
                correlation(&both(&lengths), &both(&rewards))
            } else {
                None
            },
            length_reward_correlation_within_pairs: if rewarded {
                correlation(&differences(&lengths), &differences(&rewards))
            } else {
                None
            },
        }
    }

    /// `3 left out: 1 with an empty response, 2 with equal responses`.
    pub fn left_out_words(&self) -> String {
        let count = |(reason, count): (&Reason, &usize)| {
            (*count > 0).then(|| format!("{count} {}", in_words(*reason)))
        };
        let reasons: Vec<String> = self.left_out_reasons.iter().filter_map(count).collect();
        if reasons.is_empty() {
            "none left out".to_owned()
        } else {
            format!("{} left out: {}", self.left_out, reasons.join(", "))
        }
    }
}

impl Both {
    fn of(values: impl Iterator<Item = (f64, f64)>) -> Option<Self> {
        let (chosen, rejected): (Vec<f64>, Vec<f64>) = values.unzip();
        Some(Self { chosen: Distribution::of(chosen)?, rejected: Distribution::of(rejected)? })
    }
}

impl Distribution {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        let (mean, std) = (mean(&values), standard_deviation(&values));
        values.sort_by(f64::total_cmp);
        Some(Self {
            mean,
            std,
            p10: quantile(&values, 0.1)?,
            p50: quantile(&values, 0.5)?,
            p90: quantile(&values, 0.9)?,
        })
    }
}

pub(super) fn in_words(reason: Reason) -> &'static str {
    match reason {
        Reason::Empty => "with an empty response",
        Reason::Equal => "with equal responses",
        Reason::PromptTooLong => "with a prompt too long for the model to tune",
        Reason::Tied => "with equal rewards",
        Reason::NotOneAnswer => "whose responses are not one turn of the assistant",
        Reason::NoPost => "whose prompt is no post",
    }
}

fn prompts(pairs: &[Pair]) -> HashSet<&PromptText> {
    pairs.iter().map(|pair| &pair.prompt).collect()
}

pub(super) fn words(text: &str) -> f64 {
    text.split_whitespace().count() as f64
}

fn share(all: impl Iterator<Item = bool>) -> Option<f64> {
    let all: Vec<f64> = all.map(|is| f64::from(u8::from(is))).collect();
    (!all.is_empty()).then(|| mean(&all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(chosen: &str, rejected: &str, rewards: Option<(f64, f64)>) -> Pair {
        Pair {
            id: "train-0".into(),
            prompt: "p".into(),
            chosen: chosen.into(),
            rejected: rejected.into(),
            reward_chosen: rewards.map(|(chosen, _)| chosen),
            reward_rejected: rewards.map(|(_, rejected)| rejected),
            probability: None,
            relabelled: None,
            chosen_complete: true,
            rejected_complete: true,
        }
    }

    #[test]
    fn counted_and_averaged_by_hand() {
        let pairs = [
            pair("a b c", "d", Some((3.0, 1.0))),
            pair("a b", "c d e f", Some((2.0, 4.0))),
            pair("a é", "c d", Some((1.0, 1.0))),
            pair("a b c d", "e", Some((6.0, 0.0))),
        ];
        let report = PairReport::of(&pairs, [Reason::Equal, Reason::Tied, Reason::Equal]);
        assert_eq!((report.pairs, report.left_out, report.tied), (4, 3, 1));
        assert_eq!(
            report.left_out_words(),
            "3 left out: 2 with equal responses, 1 with equal rewards"
        );
        assert_eq!(
            (report.label_agreement, report.longer_chosen, report.relabelled),
            (Some(0.5), Some(2.0 / 3.0), None)
        );
        assert_eq!((report.mean_reward_chosen, report.mean_words_rejected), (Some(3.0), Some(2.0)));
        let rewards = report.rewards.unwrap();
        assert!((rewards.chosen.std - (14.0f64 / 3.0).sqrt()).abs() < 1e-12);
        // sorted 1 2 3 6: 10 % lies 0.3 of the way from the first to the second, 90 % 0.7 of the
        // way from the third to the last
        assert!(
            (rewards.chosen.p10 - 1.3).abs() < 1e-12
                && rewards.chosen.p50 == 2.5
                && (rewards.chosen.p90 - 5.1).abs() < 1e-12
        );
        assert_eq!(report.characters.unwrap().chosen.p50, 4.0, "3 3 5 7: characters, not bytes");
        // words 3 1 2 4 2 2 4 1 and rewards 3 1 2 4 1 1 6 0 about their means 19/8 and 18/8
        let (x, y) =
            ([3.0, 1.0, 2.0, 4.0, 2.0, 2.0, 4.0, 1.0], [3.0, 1.0, 2.0, 4.0, 1.0, 1.0, 6.0, 0.0]);
        let sum = |f: &dyn Fn(usize) -> f64| (0..8).map(f).sum::<f64>();
        let (mx, my) = (19.0 / 8.0, 18.0 / 8.0);
        let expected = sum(&|i| (x[i] - mx) * (y[i] - my))
            / (sum(&|i| (x[i] - mx).powi(2)) * sum(&|i| (y[i] - my).powi(2))).sqrt();
        assert!(
            (report.length_reward_correlation.unwrap() - expected).abs() < 1e-12 && expected > 0.8
        );
        // word differences 2 −2 0 3 and reward differences 2 −2 0 6
        let within = report.length_reward_correlation_within_pairs.unwrap();
        assert!(
            (within - (26.0 - 4.5) / ((17.0f64 - 2.25) * (44.0 - 9.0)).sqrt()).abs() < 1e-12,
            "{within}"
        );
    }

    #[test]
    fn without_rewards_or_pairs_nothing_is_made_up() {
        let report = PairReport::of(&[pair("a", "b", None)], []);
        assert_eq!(
            (report.label_agreement, report.rewards, report.longer_chosen),
            (None, None, None)
        );
        assert_eq!(
            (report.words.unwrap().chosen.mean, report.length_reward_correlation),
            (1.0, None)
        );
        let empty = serde_json::to_value(PairReport::of(&[], [])).unwrap();
        assert!(
            empty["words"].is_null()
                && empty["mean_words_chosen"].is_null()
                && empty["left_out_reasons"]["equal"] == 0,
            "{empty}"
        );
    }
}
