//! What a guide pair prefers by itself: the gold's mean reward of the tuned guide's own answers
//! less that of the untuned one's to the same prompts. A pair that gains nothing alone has nothing
//! to steer by. Who answers and judges is decided by those who ask.

use serde::{Deserialize, Serialize};

use super::statistics::{mean, standard_error};
use crate::monitor::number::{fixed, signed};

/// Normal quantile of the 95 % interval.
const Z: f64 = 1.96;

/// A pair that answered alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeasuredGuides {
    pub tuned: String,
    pub untuned: String,
    /// The setting of `dpo.sweep` that made the tuned guide.
    pub setting: Option<String>,
    /// What the pair's score is multiplied by in steering.
    pub weight: f64,
    /// That the prompts are of: `validation`, or `test` where the recipe has no such texts.
    pub split: String,
}

/// The gap of one pair, in units of the gold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuideGap {
    #[serde(flatten)]
    pub guides: MeasuredGuides,
    pub prompts: usize,
    pub tuned_reward: f64,
    pub untuned_reward: f64,
    pub difference: f64,
    /// Of the difference, which is paired by prompt.
    pub standard_error: f64,
    pub ci95: [f64; 2],
    pub holds_zero: bool,
}

impl GuideGap {
    /// From the rewards of the tuned and of the untuned guide for each prompt; `None` for fewer
    /// than two, whose spread nothing tells.
    pub fn of(guides: MeasuredGuides, rewards: &[[f64; 2]]) -> Option<Self> {
        if rewards.len() < 2 {
            return None;
        }
        let of = |one: usize| mean(&rewards.iter().map(|both| both[one]).collect::<Vec<_>>());
        let differences: Vec<f64> = rewards.iter().map(|[one, other]| one - other).collect();
        let (difference, error) = (mean(&differences), standard_error(&differences));
        let ci95 = [difference - Z * error, difference + Z * error];
        Some(Self {
            guides,
            prompts: rewards.len(),
            tuned_reward: of(0),
            untuned_reward: of(1),
            difference,
            standard_error: error,
            ci95,
            holds_zero: ci95[0] <= 0.0 && ci95[1] >= 0.0,
        })
    }

    /// What was found, in one line.
    pub fn words(&self) -> String {
        let MeasuredGuides { tuned, untuned, split, .. } = &self.guides;
        let Self { prompts, tuned_reward, untuned_reward, difference, ci95: [low, high], .. } =
            self;
        let [tuned_reward, untuned_reward] =
            [tuned_reward, untuned_reward].map(|reward| fixed(*reward, 3));
        let [difference, low, high] = [difference, low, high].map(|value| signed(*value, 3));
        format!(
            "the gold gives {tuned}'s own answers {tuned_reward} and {untuned}'s {untuned_reward} \
             on {prompts} {split} prompts: a gap of {difference} ({low} to {high} at 95 %)"
        )
    }

    /// What is to be expected of a pair that gains nothing by itself, and what to do about it.
    pub fn warning(&self) -> Option<String> {
        let against = self.difference < 0.0 && self.guides.weight > 0.0;
        let prefers = match (self.holds_zero, against) {
            (true, _) => {
                "which contains 0: it is not shown that the guides prefer what the gold does, and \
                 such guides steer nowhere or astray"
            }
            (false, true) => {
                "which lies below 0: the guides prefer what the gold does not; they will steer away \
                 from it"
            }
            (false, false) => return None,
        };
        Some(format!(
            "{}, {prefers}. More `steer.validation_prompts` narrow the interval; a guide that was \
             tuned longer, on more pairs or by the judge that is the `[gold]` widens the gap",
            self.words()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guides(weight: f64) -> MeasuredGuides {
        MeasuredGuides {
            tuned: "dpo/".to_owned(),
            untuned: "sft/".to_owned(),
            setting: None,
            weight,
            split: "validation".to_owned(),
        }
    }

    #[test]
    fn by_hand() {
        // Differences 1, 2, 3: mean 2, standard error 1/√3.
        let gap = GuideGap::of(guides(1.0), &[[1.5, 0.5], [2.5, 0.5], [2.0, -1.0]]).unwrap();
        assert_eq!((gap.tuned_reward, gap.untuned_reward, gap.difference), (2.0, 0.0, 2.0));
        let error = 1.0 / 3f64.sqrt();
        assert!((gap.standard_error - error).abs() < 1e-12);
        assert!((gap.ci95[0] - (2.0 - 1.96 * error)).abs() < 1e-12);
        assert!((gap.ci95[1] - (2.0 + 1.96 * error)).abs() < 1e-12);
        assert!(!gap.holds_zero && gap.warning().is_none());
        assert_eq!(
            gap.words(),
            "the gold gives dpo/'s own answers 2.000 and sft/'s 0.000 on 3 validation prompts: a \
             gap of +2.000 (+0.868 to +3.132 at 95 %)"
        );
        let json = serde_json::to_value(&gap).unwrap();
        assert_eq!((&json["tuned"], &json["prompts"]), (&"dpo/".into(), &3.into()));
        assert_eq!(serde_json::from_value::<GuideGap>(json).unwrap(), gap);
    }

    #[test]
    fn what_does_not_help_is_warned_of() {
        let warning = |weight: f64, rewards: &[[f64; 2]]| {
            GuideGap::of(guides(weight), rewards).unwrap().warning().unwrap_or_default()
        };
        for nothing in [&[[1.0, 1.0], [2.0, 2.0]][..], &[[1.0, 0.0], [0.0, 1.1]]] {
            assert!(warning(1.0, nothing).contains("which contains 0"), "{nothing:?}");
        }
        let against = [[0.0, 1.0], [0.0, 1.5]];
        assert!(warning(0.5, &against).contains("which lies below 0"));
        assert_eq!(warning(-1.0, &against), "", "away from what the pair prefers is asked for");
        assert_eq!(GuideGap::of(guides(1.0), &[[1.0, 0.0]]), None, "one prompt has no spread");
    }
}
