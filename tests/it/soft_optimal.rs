//! Appendix A of arXiv 2405.19262 as a check: in a small token-level decision process with a reward
//! at the end of a response, the soft-optimal policy is known exactly, and with it what the score
//! of a prefix and of a whole response must be, and what the searches must find.

use std::collections::BTreeMap;

use serde_json::json;
use w2s::prompt::Prompt;
use w2s::sampling::Stream;
use w2s::search::{Asked, Drive, Finish, Hypothesis, Query, Search, Semantics};

use crate::common::tables::{TableBase, TablePair};

/// Letters of a response, at most; behind them it can only end.
const DEPTH: usize = 4;

const BETA: f64 = 0.5;

/// Three letters and the end.
const ACTIONS: usize = 4;

/// A decision process solved by going back from the longest responses.
struct Solved {
    seed: u64,
    /// V* of every prefix.
    values: BTreeMap<String, f64>,
}

impl Solved {
    fn new(seed: u64) -> Self {
        let mut solved = Self { seed, values: BTreeMap::new() };
        solved.value("");
        solved
    }

    /// The reward of a complete response.
    fn reward(&self, text: &str) -> f64 {
        4.0 * Stream::new(self.seed, "reward", text).uniform(0, 0)
    }

    /// π_ref: what may come next.
    fn reference(&self, text: &str) -> [f64; ACTIONS] {
        if text.len() == DEPTH {
            return [0.0, 0.0, 0.0, 1.0];
        }
        let weights = [0, 1, 2, 3]
            .map(|action| 0.2 + Stream::new(self.seed, "reference", text).uniform(action, 0));
        weights.map(|weight| weight / weights.iter().sum::<f64>())
    }

    /// Q*(s, a): the reward of what ends here, or the value of what goes on.
    fn action_value(&mut self, text: &str, action: usize) -> f64 {
        match action {
            3 => self.reward(text),
            action => self.value(&format!("{text}{}", ["a", "b", "c"][action])),
        }
    }

    /// V*(s) = β log Σ_a π_ref(a | s) exp(Q*(s, a) / β).
    fn value(&mut self, text: &str) -> f64 {
        if let Some(known) = self.values.get(text) {
            return *known;
        }
        let reference = self.reference(text);
        let possible = (0..ACTIONS).filter(|action| reference[*action] > 0.0);
        let sum: f64 = possible
            .map(|action| reference[action] * (self.action_value(text, action) / BETA).exp())
            .sum();
        let value = BETA * sum.ln();
        self.values.insert(text.to_owned(), value);
        value
    }

    /// log π*(a | s) − log π_ref(a | s), of π*(a | s) = π_ref(a | s) exp((Q*(s, a) − V*(s)) / β).
    fn ratios(&self, text: &str) -> Vec<f32> {
        let reference = self.reference(text);
        let of = |action: usize| {
            if reference[action] == 0.0 {
                return f32::NEG_INFINITY;
            }
            let value = match action {
                3 => self.reward(text),
                action => self.values[&format!("{text}{}", ["a", "b", "c"][action])],
            };
            ((value - self.values[text]) / BETA) as f32
        };
        (0..ACTIONS).map(of).collect()
    }

    fn logprobs(&self, text: &str) -> Vec<f32> {
        self.reference(text).iter().map(|probability| probability.ln() as f32).collect()
    }

    /// Every response that may be given, and its reward.
    fn responses(&self) -> impl Iterator<Item = (&String, f64)> {
        self.values.keys().map(|text| (text, self.reward(text)))
    }

    fn best(&self) -> &str {
        self.responses().max_by(|one, other| one.1.total_cmp(&other.1)).unwrap().0
    }

    /// What a search finds, with π_ref as the base.
    fn found(&self, search: &Search, prompt: u64, max_new_tokens: usize) -> Hypothesis {
        let (logprobs, ratios) = (|text: &str| self.logprobs(text), |text: &str| self.ratios(text));
        let (mut base, mut pair) = (TableBase::new(&logprobs), TablePair::new(&ratios));
        let asked = Asked { max_new_tokens, semantics: Semantics::Paper, with_trace: false };
        let stream = Stream::new(self.seed, "search", &prompt.to_string());
        let query = Query { prompt: Prompt::new("", ""), stream };
        Drive { proposer: &mut base, scorer: &mut pair, in_flight: 1 }
            .answer(query, &|opened| search.settings().begin(&asked, opened))
            .unwrap()
            .best
    }
}

fn read(kind: &str, keys: serde_json::Value) -> Search {
    Search::read(kind, keys).unwrap().unwrap()
}

#[test]
fn the_policy_is_a_policy_and_the_score_telescopes() {
    for seed in 0..5 {
        let solved = Solved::new(seed);
        let ratios = |text: &str| solved.ratios(text);
        let pair = TablePair::new(&ratios);
        let start = solved.values[""];
        assert_eq!(solved.values.len(), 1 + 3 + 9 + 27 + 81);
        for (text, reward) in solved.responses() {
            let reference = solved.reference(text);
            let tuned = ratios(text).into_iter().zip(reference);
            let sum: f64 = tuned.map(|(ratio, of)| of * f64::from(ratio).exp()).sum();
            assert!((sum - 1.0).abs() < 1e-5, "π* sums to {sum}");
            // Eq. 13: the partial score is a difference of values, the whole one has the reward.
            let partial = BETA * f64::from(pair.worth(text, false));
            let whole = BETA * f64::from(pair.worth(text, true));
            assert!((partial - (solved.values[text] - start)).abs() < 1e-4, "{text}");
            assert!((whole - (reward - start)).abs() < 1e-4, "{text}");
        }
    }
}

#[test]
fn a_beam_that_holds_every_prefix_finds_the_highest_reward() {
    let mut missed = 0;
    for seed in 0..40 {
        let solved = Solved::new(seed);
        let beam = |beam_width: usize| read("guided_beam", json!({ "beam_width": beam_width }));
        let found = solved.found(&beam(200), 0, DEPTH + 1);
        assert_eq!(found.response.text, solved.best(), "seed {seed}");
        assert_eq!(found.response.finish, Some(Finish::Eos));
        let reward = solved.reward(&found.response.text);
        let score = BETA * f64::from(found.score);
        assert!((score - (reward - solved.values[""])).abs() < 1e-4, "the end is scored once");
        missed += usize::from(solved.found(&beam(1), 0, DEPTH + 1).response.text != solved.best());
        // Cut off, a response is worth its prefix: no end is scored.
        let cut = solved.found(&beam(200), 0, 1);
        let of_prefix = solved.values[&cut.response.text] - solved.values[""];
        let expected = match cut.response.finish {
            Some(Finish::Eos) => solved.reward("") - solved.values[""],
            _ => of_prefix,
        };
        assert!((BETA * f64::from(cut.score) - expected).abs() < 1e-4);
    }
    assert!(missed > 0, "V* is soft: one hypothesis does not always lead there");
}

#[test]
fn the_mean_reward_of_chunk_level_beam_search_rises_with_what_is_searched() {
    let solved = Solved::new(3);
    let mean = |beam_width: usize, successors: usize| {
        let keys = json!({ "beam_width": beam_width, "successors": successors, "chunk_len": 1 });
        let search = read("cbs", keys);
        let rewards = (0..300)
            .map(|prompt| solved.reward(&solved.found(&search, prompt, DEPTH + 1).response.text));
        rewards.sum::<f64>() / 300.0
    };
    let means = [(1, 1), (1, 2), (2, 2), (2, 4), (4, 4), (4, 16)].map(|(w, k)| mean(w, k));
    assert!(means.is_sorted(), "{means:?}");
    let best = solved.reward(solved.best());
    assert!(means[0] < best - 1.0 && means[5] > best - 0.3, "{means:?} of {best}");
}
