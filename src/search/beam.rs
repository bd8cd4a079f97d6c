//! Token-level beam search over the base's own log-probabilities: no guide, no sampling. The rules are those of transformers' beam search
//! (`generate` with `num_beams` and without sampling), so that the answers are the same, token for token.
//!
//! Keep the B likeliest unfinished responses; give each its likeliest next tokens; those among the B best that end are finished, with the
//! score log p(y|x) / |y|^`length_penalty`, |y| counting the end-of-sequence token. The search ends when no unfinished response, at its
//! present length, scores above the worst of B finished ones, or at the token budget, where the unfinished ones are cut off.

use serde::{Deserialize, Serialize};

use super::in_flight::{self, Rounds};
use super::settings::{Asked, Base, Key, KeyValue, Kind, SearchSettings, at_least_one};
use super::{Finish, Found, Hypothesis, Judge, NextTokens, Node, Query, Response, Scorer};
use crate::error::{Error, Result};

/// What may be said of a token-level beam search.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeamSettings {
    pub beam_width: usize,
    #[serde(default = "one")]
    pub length_penalty: f64,
    #[serde(default)]
    pub early_stopping: bool,
}

fn one() -> f64 {
    1.0
}

impl BeamSettings {
    pub const KIND: Kind = Kind {
        name: "beam",
        keys: &[
            Key { name: "beam_width", symbol: Some("W"), value: KeyValue::Count(4), help: "B of beam" },
            Key {
                name: "length_penalty",
                symbol: None,
                value: KeyValue::Number(1.0),
                help: "Of beam: scores are divided by the length to this power",
            },
            Key { name: "early_stopping", symbol: None, value: KeyValue::Switch, help: "Of beam: end with the first B finished responses" },
        ],
        draws: false,
        compares: false,
    };
}

impl SearchSettings for BeamSettings {
    fn problems(&self, key: &str) -> Vec<String> {
        let Self { beam_width, length_penalty, early_stopping: _ } = self;
        let mut problems = at_least_one(key, &[("beam_width", *beam_width)]);
        if !length_penalty.is_finite() {
            problems.push(format!("`{key}.length_penalty` is {length_penalty}, expected a number"));
        }
        problems
    }

    fn words(&self, proposal: &str) -> String {
        let Self { beam_width, length_penalty, early_stopping } = self;
        let ends = match early_stopping {
            true => format!("at the first {beam_width} finished responses"),
            false => "where none can improve".to_owned(),
        };
        format!("token-level beam search of {proposal}, beam width {beam_width}, length penalty {length_penalty}, ends {ends}")
    }

    fn rows(&self) -> usize {
        self.beam_width
    }

    fn run(
        &self,
        asked: &Asked,
        base: &mut dyn Base,
        scorer: &mut dyn Scorer,
        pause: &mut dyn FnMut() -> Result<()>,
        done: &mut dyn FnMut(usize, Found) -> Result<()>,
    ) -> Result<()> {
        let Self { beam_width, length_penalty, early_stopping } = *self;
        let search = BeamSearch { beam_width, max_new_tokens: asked.max_new_tokens, length_penalty: length_penalty as f32, early_stopping };
        search.search_all(asked.queries, asked.in_flight, base, scorer, pause, done)
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BeamSearch {
    /// B, at least 1.
    pub beam_width: usize,
    pub max_new_tokens: usize,
    /// 0 compares log-probabilities as they are; above 0, longer responses gain.
    pub length_penalty: f32,
    /// Ends as soon as there are B finished responses.
    pub early_stopping: bool,
}

impl BeamSearch {
    /// Answers all queries, as [`super::Cbs::search_all`] does; their streams are not used. `scorer` scores the answers only.
    pub fn search_all(
        &self,
        queries: &[Query],
        in_flight: usize,
        proposer: &mut dyn NextTokens,
        scorer: &mut dyn Scorer,
        pause: &mut dyn FnMut() -> Result<()>,
        done: &mut dyn FnMut(usize, Found) -> Result<()>,
    ) -> Result<()> {
        let mut search = Search { settings: *self, queries, proposer, scorer };
        in_flight::run(&mut search, queries.len(), in_flight, pause, done)
    }

    /// What finished responses are compared by.
    fn score(&self, logprob: f32, length: usize) -> f32 {
        logprob / (length as f32).powf(self.length_penalty)
    }
}

struct Search<'a> {
    settings: BeamSearch,
    queries: &'a [Query<'a>],
    proposer: &'a mut dyn NextTokens,
    scorer: &'a mut dyn Scorer,
}

/// A response and its log-probability under the base.
#[derive(Clone)]
struct Beam {
    node: Node,
    response: Response,
    logprob: f32,
}

/// One prompt in flight.
struct State {
    query: usize,
    /// Likeliest first.
    running: Vec<Beam>,
    /// Best first, with their scores.
    finished: Vec<(f32, Beam)>,
    /// Tokens of each running response.
    length: usize,
    is_done: bool,
    sampled: u64,
}

impl Search<'_> {
    /// The likeliest continuations of a prompt's running responses. As many as there would still be B unfinished ones of, if every
    /// response had all its end tokens among them.
    fn continuations(&mut self, state: &State, next: Vec<Vec<(i64, f32)>>) -> Result<Vec<Beam>> {
        let mut ranked: Vec<(f32, usize, i64)> = (state.running.iter().zip(next).enumerate())
            .flat_map(|(b, (beam, next))| next.into_iter().map(move |(token, logp)| (beam.logprob + logp, b, token)))
            .collect();
        ranked.sort_by(|x, y| y.0.total_cmp(&x.0).then((x.1, x.2).cmp(&(y.1, y.2))));
        ranked.truncate(self.kept());
        (ranked.into_iter())
            .map(|(logprob, b, token)| {
                let (node, response) = self.proposer.append(state.running[b].node, token)?;
                Ok(Beam { node, response, logprob })
            })
            .collect()
    }

    fn kept(&self) -> usize {
        self.settings.beam_width * (1 + self.proposer.end_tokens()).max(2)
    }
}

impl Rounds for Search<'_> {
    type State = State;

    fn open(&mut self, first: usize, count: usize) -> Result<Vec<State>> {
        let prompts: Vec<&str> = self.queries[first..first + count].iter().map(|query| query.prompt).collect();
        let states = self.proposer.open(&prompts)?.into_iter().zip(first..).map(|(node, query)| {
            let root = Beam { node, response: Response { text: String::new(), ids: Vec::new(), finish: None }, logprob: 0.0 };
            State { query, running: vec![root], finished: Vec::new(), length: 0, is_done: false, sampled: 0 }
        });
        Ok(states.collect())
    }

    /// One token of every running response.
    fn round(&mut self, states: &mut [State]) -> Result<()> {
        let nodes: Vec<Node> = states.iter().flat_map(|state| state.running.iter().map(|beam| beam.node)).collect();
        let mut likeliest = self.proposer.likeliest(&nodes, self.kept())?.into_iter();
        let BeamSearch { beam_width, max_new_tokens, early_stopping, .. } = self.settings;
        for state in states {
            let next = likeliest.by_ref().take(state.running.len()).collect();
            let mut continuations = self.continuations(state, next)?;
            state.length += 1;
            if state.length == max_new_tokens {
                for beam in continuations.iter_mut().filter(|beam| beam.response.finish.is_none()) {
                    beam.response.finish = Some(Finish::Length);
                }
            }
            let ends = |beam: &Beam| beam.response.finish.is_some();
            let finished = continuations.iter().take(beam_width).filter(|beam| ends(beam));
            state.finished.extend(finished.map(|beam| (self.settings.score(beam.logprob, state.length), beam.clone())));
            state.finished.sort_by(|a, b| b.0.total_cmp(&a.0));
            state.finished.truncate(beam_width);
            continuations.retain(|beam| !ends(beam));
            continuations.truncate(beam_width);
            state.running = continuations;
            state.sampled += state.running.len() as u64;
            let is_full = state.finished.len() == beam_width;
            let may_improve = state.running.first().is_some_and(|best| {
                let worst = state.finished.last().map_or(f32::NEG_INFINITY, |(score, _)| *score);
                !is_full || self.settings.score(best.logprob, state.length) > worst
            });
            state.is_done = !may_improve || (is_full && early_stopping);
        }
        Ok(())
    }

    fn is_done(&self, state: &State) -> bool {
        state.is_done
    }

    fn finish(&mut self, state: State, seconds: f64) -> Result<(usize, Found)> {
        let State { query, finished, sampled, .. } = state;
        let (_, Beam { node, response, logprob }) =
            finished.into_iter().next().ok_or_else(|| Error::failed("beam search finished no response"))?;
        let parent = self.scorer.open(&[self.queries[query].prompt])?[0];
        let ends = response.finish.is_some_and(Finish::is_complete);
        let judged = self.scorer.score(&[Judge { parent, response: &response, ends }])?[0];
        let token_rewards = self.scorer.token_rewards(judged.node);
        let cut = u64::from(self.scorer.is_cut(judged.node));
        self.scorer.retain(&[]);
        let best = Hypothesis { response, score: judged.score, logprob: Some(f64::from(logprob)), proposer: node, scorer: judged.node };
        Ok((query, Found { best, trace: Vec::new(), token_rewards, sampled, fed: judged.fed, cut, seconds }))
    }

    fn retain(&mut self, states: &[State]) {
        let live: Vec<Node> = states.iter().flat_map(|state| state.running.iter().map(|beam| beam.node)).collect();
        self.proposer.retain(&live);
    }
}
