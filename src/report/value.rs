//! How much the beginning of a response tells of its end: the correlation of the guides' score of
//! the first tokens with their final score, and with what judges say. Where it is high early, a
//! search may choose after few tokens. The responses are samples of the base, which nobody chose.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::curves::{Curve, Panel};
use super::statistics::{correlation, mean};

/// The correlations of one base's responses, Pearson's r after each of `tokens`; `None` where one
/// side does not vary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Foresight {
    pub base: String,
    pub method: String,
    /// Guide tokens of the response, its EOS included: t = L, 2·L, … up to the longest response. A
    /// shorter one counts with its whole score.
    pub tokens: Vec<usize>,
    pub responses: usize,
    /// With the final score, over all responses.
    pub score: Vec<Option<f64>>,
    /// With what each judge says, over those that it judged.
    pub judges: BTreeMap<String, Vec<Option<f64>>>,
    /// The same among the responses to one prompt: each number less its mean over the prompt's
    /// responses. Absent where no prompt has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score_within: Option<Vec<Option<f64>>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub judges_within: BTreeMap<String, Vec<Option<f64>>>,
}

/// One response.
#[derive(Debug, Clone)]
pub struct Scored {
    /// The prompt's.
    pub id: String,
    /// log π* − log π_ref of each guide token.
    pub token_rewards: Vec<f32>,
    pub judges: BTreeMap<String, f64>,
}

/// A number of a response, where it has it.
type Number<'a> = &'a dyn Fn(&Scored) -> Option<f64>;

impl Foresight {
    /// With a chunk length of `chunk_len`; `None` without any token.
    pub fn of(base: &str, method: &str, chunk_len: usize, responses: &[Scored]) -> Option<Self> {
        let longest = responses.iter().map(|one| one.token_rewards.len()).max()?;
        let chunks = longest.div_ceil(chunk_len);
        let tokens: Vec<usize> = (1..=chunks).map(|chunk| chunk * chunk_len).collect();
        let with = |other: Number, is_within: bool| {
            tokens
                .iter()
                .map(|&tokens| {
                    correlated(responses, &|one| Some(first(one, tokens)), other, is_within)
                })
                .collect::<Vec<_>>()
        };
        let score = |one: &Scored| Some(first(one, usize::MAX));
        let names: BTreeSet<&String> = responses.iter().flat_map(|one| one.judges.keys()).collect();
        let judges = |is_within: bool| {
            let of = |name: &&String| with(&|one| one.judges.get(*name).copied(), is_within);
            names.iter().map(|name| ((*name).clone(), of(name))).collect()
        };
        let has_several = pairs(responses, &score, &score, true).next().is_some();
        (chunks > 0).then(|| Self {
            base: base.to_owned(),
            method: method.to_owned(),
            responses: responses.len(),
            score: with(&score, false),
            judges: judges(false),
            score_within: has_several.then(|| with(&score, true)),
            judges_within: if has_several { judges(true) } else { BTreeMap::new() },
            tokens: tokens.clone(),
        })
    }

    /// Two diagrams: the correlations over all responses, and those among the responses to one
    /// prompt where these are known.
    pub fn panels(&self) -> Vec<Panel> {
        let curve = |label: &str, values: &[Option<f64>]| {
            let points = self.tokens.iter().zip(values);
            let points = points.filter_map(|(tokens, value)| Some((*tokens as f64, (*value)?)));
            Curve { label: label.to_owned(), runs: vec![points.collect()] }
        };
        let panel = |title: &str, score: &[Option<f64>], judges: &BTreeMap<String, Vec<_>>| Panel {
            title: title.to_owned(),
            x: "guide tokens scored so far".to_owned(),
            y: "correlation".to_owned(),
            is_log_2: false,
            curves: [curve("final score", score)]
                .into_iter()
                .chain(judges.iter().map(|(name, values)| curve(name, values)))
                .collect(),
        };
        let all = panel(&format!("{}, all responses", self.base), &self.score, &self.judges);
        let within = self.score_within.as_ref().map(|score| {
            panel(&format!("{}, responses to one prompt", self.base), score, &self.judges_within)
        });
        [all].into_iter().chain(within).collect()
    }
}

/// The score of the first `tokens`.
fn first(one: &Scored, tokens: usize) -> f64 {
    one.token_rewards.iter().take(tokens).map(|reward| f64::from(*reward)).sum()
}

fn correlated(
    responses: &[Scored],
    partial: Number,
    other: Number,
    is_within: bool,
) -> Option<f64> {
    let (partial, other): (Vec<f64>, Vec<f64>) =
        pairs(responses, partial, other, is_within).unzip();
    if partial.is_empty() { None } else { correlation(&partial, &other) }
}

/// Both numbers of each response that has them; less their means over the responses to the same
/// prompt where `is_within`, and only of prompts with several.
fn pairs(
    responses: &[Scored],
    one: Number,
    other: Number,
    is_within: bool,
) -> impl Iterator<Item = (f64, f64)> {
    let mut by_prompt: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for response in responses {
        let both = one(response).zip(other(response));
        by_prompt.entry(&response.id).or_default().extend(both);
    }
    by_prompt.into_values().filter(move |pairs| !is_within || pairs.len() > 1).flat_map(
        move |pairs| {
            let middle = |of: fn(&(f64, f64)) -> f64| match is_within {
                true => mean(&pairs.iter().map(of).collect::<Vec<_>>()),
                false => 0.0,
            };
            let (one, other) = (middle(|pair| pair.0), middle(|pair| pair.1));
            pairs.into_iter().map(move |pair| (pair.0 - one, pair.1 - other))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(id: &str, token_rewards: &[f32], gold: f64) -> Scored {
        let judges = BTreeMap::from([("gold".to_owned(), gold)]);
        Scored { id: id.to_owned(), token_rewards: token_rewards.to_vec(), judges }
    }

    #[test]
    fn correlations_by_hand() {
        // After two tokens 1, 2, 3, 0; in the end 1, 4, 3, 0.
        let responses = [
            scored("x", &[1.0], 5.0),
            scored("x", &[1.0, 1.0, 2.0], 8.0),
            scored("y", &[1.0, 2.0], 1.0),
            scored("y", &[0.0, 0.0], -2.0),
        ];
        let value = Foresight::of("m", "base", 2, &responses).unwrap();
        assert_eq!((&value.tokens[..], value.responses), (&[2, 4][..], 4));
        // Deviations −0.5, 0.5, 1.5, −1.5 and −1, 2, 1, −2.
        let expected = 6.0 / (5.0f64 * 10.0).sqrt();
        assert!((value.score[0].unwrap() - expected).abs() < 1e-12);
        assert!((value.score[1].unwrap() - 1.0).abs() < 1e-12);
        // Within: (∓0.5, ±1.5) with the gold's (∓1.5, ±1.5).
        let expected = (0.75 * 2.0 / 2.0 * 2.0 + 4.5) / (5.0f64 * 9.0).sqrt();
        assert!((value.judges_within["gold"][0].unwrap() - expected).abs() < 1e-12);
        assert!(value.score_within.as_ref().is_some_and(|score| score.len() == 2));
        assert_eq!(value.panels().len(), 2);
    }

    #[test]
    fn what_does_not_vary_has_no_correlation() {
        let responses = [scored("x", &[1.0, 2.0], 1.0), scored("y", &[1.0, 3.0], 1.0)];
        let value = Foresight::of("m", "base", 1, &responses).unwrap();
        assert_eq!(value.score[0], None);
        assert!((value.score[1].unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(value.judges["gold"], [None, None]);
        assert_eq!((value.score_within.as_ref(), value.panels().len()), (None, 1));
        assert_eq!(Foresight::of("m", "base", 5, &[]), None);
        assert_eq!(Foresight::of("m", "base", 5, &[scored("x", &[], 1.0)]), None);
    }
}
