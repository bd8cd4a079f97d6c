//! Which samples of a prompt make pairs, and which response of a pair is chosen; knows texts and
//! rewards only.

use crate::recipe::{Pairing, PreferenceLabel};
use crate::text::Reason;

/// The pairs of one prompt's samples as indices, or why there is none; `texts` and `rewards` have
/// one entry for each sample.
pub fn pair_up(
    pairing: Pairing,
    texts: &[&str],
    rewards: &[f64],
) -> Vec<Result<(usize, usize), Reason>> {
    let pair = |a: usize, b: usize| fault(texts[a], texts[b]).map_or(Ok((a, b)), Err);
    match pairing {
        Pairing::Disjoint => (0..texts.len() / 2).map(|k| pair(2 * k, 2 * k + 1)).collect(),
        Pairing::All => {
            let repeats = |sample: usize| texts[..sample].contains(&texts[sample]);
            let both = (0..texts.len()).flat_map(|a| (a + 1..texts.len()).map(move |b| (a, b)));
            both.map(|(a, b)| {
                pair(a, b).and_then(|both| {
                    if repeats(a) || repeats(b) { Err(Reason::Equal) } else { Ok(both) }
                })
            })
            .collect()
        }
        Pairing::BestWorst => {
            // Among equal rewards the first sample counts; ties of the whole set are the label's
            // business.
            let with_text = || (0..texts.len()).filter(|&sample| !texts[sample].trim().is_empty());
            let best = with_text()
                .reduce(|best, sample| if rewards[sample] > rewards[best] { sample } else { best });
            let others = || {
                with_text().filter(|&sample| best.is_some_and(|best| texts[sample] != texts[best]))
            };
            let worst =
                others().reduce(
                    |worst, sample| if rewards[sample] < rewards[worst] { sample } else { worst },
                );
            vec![match (best, worst) {
                (Some(best), Some(worst)) => Ok((best, worst)),
                _ if with_text().count() < 2 => Err(Reason::Empty),
                _ => Err(Reason::Equal),
            }]
        }
    }
}

/// What keeps two responses from being a pair.
pub fn fault(first: &str, second: &str) -> Option<Reason> {
    if first.trim().is_empty() || second.trim().is_empty() {
        Some(Reason::Empty)
    } else if first == second {
        Some(Reason::Equal)
    } else {
        None
    }
}

/// Which of two responses is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    pub first_wins: bool,
    /// The probability of this verdict under the Bradley–Terry model, σ(r_chosen − r_rejected);
    /// `None` without rewards.
    pub probability: Option<f64>,
}

/// Judges two responses by their `rewards`; `coin` is uniform in [0, 1). `None` is a tie, which the
/// higher reward cannot decide; without rewards the first one stays chosen.
pub fn verdict(label: PreferenceLabel, rewards: Option<(f64, f64)>, coin: f64) -> Option<Verdict> {
    let Some((first, second)) = rewards else {
        return Some(Verdict { first_wins: true, probability: None });
    };
    let probability = 1.0 / (1.0 + (second - first).exp());
    let first_wins = match label {
        PreferenceLabel::Drawn => coin < probability,
        PreferenceLabel::Argmax if first == second => return None,
        PreferenceLabel::Argmax => first > second,
        PreferenceLabel::Kept => true,
    };
    Some(Verdict {
        first_wins,
        probability: Some(if first_wins { probability } else { 1.0 - probability }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Reason::{Empty, Equal};

    const REWARDS: [f64; 4] = [1.0, 3.0, -2.0, 3.0];

    #[test]
    fn samples_pair_up_once_and_say_why_not() {
        let up = |pairing, texts: [&str; 4]| pair_up(pairing, &texts, &REWARDS);
        assert_eq!(up(Pairing::Disjoint, ["a", "b", "c", "c"]), [Ok((0, 1)), Err(Equal)]);
        assert_eq!(up(Pairing::Disjoint, [" ", " ", "a", ""]), [Err(Empty), Err(Empty)]);
        // The second "a" makes no pair that the first does not.
        let all = [Ok((0, 1)), Err(Equal), Err(Empty), Err(Equal), Err(Empty), Err(Empty)];
        assert_eq!(up(Pairing::All, ["a", "b", "a", ""]), all);
        assert_eq!(
            up(Pairing::All, ["a", "b", "c", "d"]),
            [Ok((0, 1)), Ok((0, 2)), Ok((0, 3)), Ok((1, 2)), Ok((1, 3)), Ok((2, 3))]
        );
        assert_eq!(up(Pairing::BestWorst, ["a", "b", "c", "d"]), [Ok((1, 2))]);
        assert_eq!(
            up(Pairing::BestWorst, ["a", " ", "", "b"]),
            [Ok((3, 0))],
            "an empty one is neither best nor worst"
        );
        assert_eq!(up(Pairing::BestWorst, ["a", "", "", " "]), [Err(Empty)]);
        assert_eq!(up(Pairing::BestWorst, ["a", "a", "a", "a"]), [Err(Equal)]);
        assert_eq!(up(Pairing::BestWorst, ["a", "a", "", "a"]), [Err(Equal)]);
    }

    #[test]
    fn rewards_decide_or_tie() {
        let wins = |label, rewards, coin| {
            verdict(label, Some(rewards), coin).map(|verdict| verdict.first_wins)
        };
        use PreferenceLabel::{Argmax, Drawn, Kept};
        // σ(ln 3) = 3/4
        let three_quarters = (3.0f64.ln(), 0.0);
        assert_eq!(
            (wins(Drawn, three_quarters, 0.74), wins(Drawn, three_quarters, 0.76)),
            (Some(true), Some(false))
        );
        let lost = verdict(Drawn, Some(three_quarters), 0.76).unwrap();
        assert!((lost.probability.unwrap() - 0.25).abs() < 1e-12);
        assert_eq!(
            (wins(Argmax, (0.0, 0.1), 0.0), wins(Argmax, (0.1, 0.0), 0.9)),
            (Some(false), Some(true))
        );
        assert_eq!(
            (
                wins(Argmax, (0.5, 0.5), 0.0),
                wins(Drawn, (0.5, 0.5), 0.4),
                wins(Drawn, (0.5, 0.5), 0.6)
            ),
            (None, Some(true), Some(false))
        );
        let kept = verdict(Kept, Some((0.0, 3.0f64.ln())), 0.9).unwrap();
        assert!(kept.first_wins && (kept.probability.unwrap() - 0.25).abs() < 1e-12);
        assert_eq!(verdict(Kept, None, 0.9), Some(Verdict { first_wins: true, probability: None }));
    }
}
