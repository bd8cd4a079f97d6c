//! How often a reward model finds the response that was chosen, and whether that is more than
//! chance and more than "the longer one wins" would find. Asking it is left to the stages.

use serde::{Deserialize, Serialize};

use super::statistics::{mean, standard_error, wilson};
use crate::monitor::number::{fixed, signed};

/// The normal quantile of a 95 % interval.
const Z: f64 = 1.959_964;

/// Shares of held-out pairs with their 95 % intervals, lowest and highest. Pairs count as
/// independent; a tie counts half.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairAccuracy {
    /// Where the chosen response has the higher reward.
    pub accuracy: f64,
    /// By Wilson's score.
    pub ci95: [f64; 2],
    pub pairs: usize,
    /// Where the chosen response has more characters.
    pub longer_wins: f64,
    pub longer_wins_ci95: [f64; 2],
    /// The first share less the second, of the same pairs.
    pub over_longer: f64,
    /// By the standard error of the paired differences, as McNemar's test has it.
    pub over_longer_ci95: [f64; 2],
}

/// What two responses, chosen and rejected, are worth and how long they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairOutcome {
    pub rewards: [f64; 2],
    /// Characters.
    pub lengths: [usize; 2],
}

impl PairAccuracy {
    /// `None` of no pairs.
    pub fn of(outcomes: &[PairOutcome]) -> Option<Self> {
        if outcomes.is_empty() {
            return None;
        }
        let right: Vec<f64> =
            outcomes.iter().map(|PairOutcome { rewards: [a, b], .. }| wins(a, b)).collect();
        let longer: Vec<f64> =
            outcomes.iter().map(|PairOutcome { lengths: [a, b], .. }| wins(a, b)).collect();
        let more: Vec<f64> =
            right.iter().zip(&longer).map(|(right, longer)| right - longer).collect();
        let (accuracy, longer_wins, over_longer) = (mean(&right), mean(&longer), mean(&more));
        let half = Z * standard_error(&more);
        let pairs = outcomes.len();
        Some(Self {
            accuracy,
            ci95: wilson(accuracy, pairs, Z),
            pairs,
            longer_wins,
            longer_wins_ci95: wilson(longer_wins, pairs, Z),
            over_longer,
            over_longer_ci95: [over_longer - half, over_longer + half],
        })
    }

    /// Whether the interval lies above one half.
    pub fn beats_chance(&self) -> bool {
        self.ci95[0] > 0.5
    }

    /// Whether the interval of the difference lies above zero.
    pub fn beats_length(&self) -> bool {
        self.over_longer_ci95[0] > 0.0
    }

    /// One sentence on all of it.
    pub fn words(&self) -> String {
        let within = |[low, high]: [f64; 2]| format!("[{}, {}]", fixed(low, 3), fixed(high, 3));
        let verdict = match (self.beats_chance(), self.beats_length()) {
            (true, true) => "beats chance and the longer one",
            (true, false) => "beats chance, but is not shown to beat the longer one",
            (false, true) => "beats the longer one, but is not shown to beat chance",
            (false, false) => "is shown to beat neither chance nor the longer one",
        };
        format!(
            "accuracy {} {} on {} held-out pairs; the longer response wins {} {}, and the \
             difference is {} {}: it {verdict}",
            fixed(self.accuracy, 3),
            within(self.ci95),
            self.pairs,
            fixed(self.longer_wins, 3),
            within(self.longer_wins_ci95),
            signed(self.over_longer, 3),
            within(self.over_longer_ci95),
        )
    }
}

/// 1 where the first is greater, 0 where it is less, and half for a tie.
fn wins<T: PartialOrd>(first: &T, second: &T) -> f64 {
    if first > second {
        1.0
    } else if first < second {
        0.0
    } else {
        0.5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(right: bool, longer: bool) -> PairOutcome {
        let order = |first: bool| if first { [2, 1] } else { [1, 2] };
        PairOutcome {
            rewards: order(right).map(f64::from),
            lengths: order(longer).map(|n| n as usize),
        }
    }

    #[test]
    fn shares_and_their_intervals_by_hand() {
        // Right and longer, right alone, longer alone, neither: 40, 40, 10, 10 of 100.
        let counts =
            [((true, true), 40), ((true, false), 40), ((false, true), 10), ((false, false), 10)];
        let outcomes: Vec<PairOutcome> = counts
            .into_iter()
            .flat_map(|((right, longer), count)| std::iter::repeat_n(outcome(right, longer), count))
            .collect();
        let found = PairAccuracy::of(&outcomes).unwrap();
        assert_eq!((found.accuracy, found.longer_wins, found.pairs), (0.8, 0.5, 100));
        // R: binom.confint(80, 100, methods = "wilson") gives 0.7111708 and 0.8666331.
        let near = |found: [f64; 2], expected: [f64; 2]| {
            found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6)
        };
        assert!(near(found.ci95, [0.711_170_8, 0.866_633_1]), "{found:?}");
        // 40 of +1 and 10 of −1: variance (50 − 100 · 0.3²) / 99.
        let half = Z * ((50.0f64 - 9.0) / 99.0 / 100.0).sqrt();
        assert!(near(found.over_longer_ci95, [0.3 - half, 0.3 + half]), "{found:?}");
        assert!(found.beats_chance() && found.beats_length());
        assert!(found.words().ends_with("it beats chance and the longer one"), "{}", found.words());
        assert_eq!(PairAccuracy::of(&[]), None);
    }

    #[test]
    fn what_goes_by_length_alone_does_not_beat_it() {
        let same: Vec<PairOutcome> =
            (0..200).map(|number| outcome(number % 3 > 0, number % 3 > 0)).collect();
        let found = PairAccuracy::of(&same).unwrap();
        assert_eq!((found.over_longer, found.over_longer_ci95), (0.0, [0.0, 0.0]));
        assert!(found.beats_chance() && !found.beats_length());
        assert!(found.words().contains("not shown to beat the longer one"), "{}", found.words());
        let ties = [PairOutcome { rewards: [0.0, 0.0], lengths: [3, 3] }; 4];
        let found = PairAccuracy::of(&ties).unwrap();
        assert_eq!((found.accuracy, found.longer_wins), (0.5, 0.5));
        assert!(!found.beats_chance() && found.words().contains("neither chance nor the longer"));
    }
}
