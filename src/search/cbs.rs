//! Chunk-level beam search, Algorithm 1 of arXiv 2405.19262, with the rules of its edge cases fixed.
//!
//! Hold W hypotheses; sample K continuations of at most L tokens for each incomplete one; score all; keep the best W; stop when all kept
//! ones are complete or the token budget is used. `W=1, K=N, L=∞` is best-of-N, `W=K=1` plain sampling.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::in_flight::{self, Rounds};
use super::settings::{Asked, Base, Key, KeyValue, Kind, SearchSettings, at_least_one};
use super::{Extend, Extended, Finish, Found, Hypothesis, Judge, Proposer, Query, Response, Scorer, Semantics, TraceCandidate, TraceStep};
use crate::error::{Error, Result};
use crate::sampling::Stream;

/// What may be said of a chunk-level beam search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CbsSettings {
    pub beam_width: usize,
    pub successors: usize,
    pub chunk_len: usize,
}

impl CbsSettings {
    pub const KIND: Kind = Kind {
        name: "cbs",
        keys: &[
            Key { name: "beam_width", symbol: Some("W"), value: KeyValue::Count(4), help: "W of cbs: hypotheses kept after each chunk" },
            Key { name: "successors", symbol: Some("K"), value: KeyValue::Count(4), help: "K of cbs: continuations of each hypothesis" },
            Key { name: "chunk_len", symbol: Some("L"), value: KeyValue::Count(5), help: "L of cbs: tokens of a continuation" },
        ],
        draws: true,
        compares: true,
    };
}

impl SearchSettings for CbsSettings {
    fn problems(&self, key: &str) -> Vec<String> {
        let Self { beam_width, successors, chunk_len } = *self;
        at_least_one(key, &[("beam_width", beam_width), ("successors", successors), ("chunk_len", chunk_len)])
    }

    fn words(&self, _proposal: &str) -> String {
        let Self { beam_width, successors, chunk_len } = self;
        format!("chunk-level beam search, beam width {beam_width}, {successors} successors, chunks of {chunk_len} tokens")
    }

    fn samples(&self) -> usize {
        self.beam_width.saturating_mul(self.successors)
    }

    fn chunk(&self, max_new_tokens: usize) -> usize {
        self.chunk_len.min(max_new_tokens)
    }

    fn run(
        &self,
        asked: &Asked,
        base: &mut dyn Base,
        scorer: &mut dyn Scorer,
        pause: &mut dyn FnMut() -> Result<()>,
        done: &mut dyn FnMut(usize, Found) -> Result<()>,
    ) -> Result<()> {
        let Self { beam_width, successors, chunk_len } = *self;
        let &Asked { queries, in_flight, max_new_tokens, semantics, with_trace } = asked;
        let search = Cbs { beam_width, successors, chunk_len: Some(chunk_len), max_new_tokens, semantics };
        search.search_all(queries, in_flight, base, scorer, with_trace, pause, done)
    }
}

/// Settings of one search; every number at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cbs {
    /// W, hypotheses kept after each chunk.
    pub beam_width: usize,
    /// K, continuations sampled for each incomplete hypothesis.
    pub successors: usize,
    /// L, tokens of a continuation; `None` is ∞ (up to the budget).
    pub chunk_len: Option<usize>,
    /// Token budget of a response. One that reaches it unfinished is truncated: `Finish::Length`.
    pub max_new_tokens: usize,
    pub semantics: Semantics,
}

impl Cbs {
    /// Best of `n` full samples by the scorer.
    pub fn best_of_n(n: usize, max_new_tokens: usize) -> Self {
        Self { beam_width: 1, successors: n, chunk_len: None, max_new_tokens, semantics: Semantics::Paper }
    }

    /// One sample.
    pub fn plain(max_new_tokens: usize) -> Self {
        Self::best_of_n(1, max_new_tokens)
    }

    /// Searches for the best response to one prompt.
    pub fn search(
        &self,
        prompt: &str,
        stream: &Stream,
        proposer: &mut dyn Proposer,
        scorer: &mut dyn Scorer,
        with_trace: bool,
    ) -> Result<Found> {
        let mut found = None;
        let done = &mut |_, answer| {
            found = Some(answer);
            Ok(())
        };
        self.search_all(&[Query { prompt, stream }], 1, proposer, scorer, with_trace, &mut || Ok(()), done)?;
        found.ok_or_else(|| Error::failed("the search kept no hypothesis"))
    }

    /// Searches for the best responses to all queries, up to `in_flight` of them at once; one that is found makes room for the next at
    /// the border of a chunk. `pause` is called between rounds and may end the search with its error; `done` gets each query's number and
    /// answer as they are found.
    #[expect(clippy::too_many_arguments, reason = "a search is the settings, the parts it joins, and the caller's two hooks")]
    pub fn search_all(
        &self,
        queries: &[Query],
        in_flight: usize,
        proposer: &mut dyn Proposer,
        scorer: &mut dyn Scorer,
        with_trace: bool,
        pause: &mut dyn FnMut() -> Result<()>,
        done: &mut dyn FnMut(usize, Found) -> Result<()>,
    ) -> Result<()> {
        let mut search = Search { cbs: *self, queries, proposer, scorer, with_trace };
        in_flight::run(&mut search, queries.len(), in_flight, pause, done)
    }
}

struct Search<'a> {
    cbs: Cbs,
    queries: &'a [Query<'a>],
    proposer: &'a mut dyn Proposer,
    scorer: &'a mut dyn Scorer,
    with_trace: bool,
}

/// One prompt in flight.
struct Beam {
    query: usize,
    hypotheses: Vec<Hypothesis>,
    /// Continuations of each open hypothesis in the next round.
    successors: usize,
    /// Tokens of the budget used.
    used: usize,
    trace: Vec<TraceStep>,
    sampled: u64,
    fed: u64,
    cut: u64,
}

/// What a beam chooses from. Among equal scores the lower place wins: finished hypotheses of Algorithm 1 have none and come first.
struct Candidate {
    place: Option<usize>,
    hypothesis: Hypothesis,
}

impl Rounds for Search<'_> {
    type State = Beam;

    fn open(&mut self, first: usize, count: usize) -> Result<Vec<Beam>> {
        let prompts: Vec<&str> = self.queries[first..first + count].iter().map(|query| query.prompt).collect();
        let nodes = self.proposer.open(&prompts)?.into_iter().zip(self.scorer.open(&prompts)?);
        let beams = nodes.zip(first..).map(|((proposer, scorer), query)| {
            let response = Response { text: String::new(), ids: Vec::new(), finish: None };
            let root = Hypothesis { response, score: 0.0, logprob: Some(0.0), proposer, scorer };
            // Algorithm 1 starts from W copies of the prompt with K continuations each: W·K samples of the one root.
            let successors = self.cbs.beam_width * self.cbs.successors;
            Beam { query, hypotheses: vec![root], successors, used: 0, trace: Vec::new(), sampled: 0, fed: 0, cut: 0 }
        });
        Ok(beams.collect())
    }

    /// One chunk of every beam.
    fn round(&mut self, beams: &mut [Beam]) -> Result<()> {
        let Cbs { beam_width, max_new_tokens, semantics, .. } = self.cbs;
        let mut requests = Vec::new();
        // For each request: its beam, and its parent's scorer node.
        let mut parents = Vec::new();
        let mut candidates: Vec<Vec<Candidate>> = Vec::with_capacity(beams.len());
        // By Algorithm 1 the candidates are a set, whose members are told apart by (text, finish).
        let mut seen: Vec<BTreeSet<(String, Option<Finish>)>> = Vec::new();
        for (b, beam) in beams.iter_mut().enumerate() {
            let chunk = self.cbs.chunk_len.unwrap_or(usize::MAX).min(max_new_tokens - beam.used);
            beam.used += chunk;
            let (mut slot, mut of_beam) = (0, Vec::new());
            for hypothesis in std::mem::take(&mut beam.hypotheses) {
                match (hypothesis.response.finish, semantics) {
                    (None, _) => {
                        for slot in slot..slot + beam.successors {
                            let stream = self.queries[beam.query].stream;
                            requests.push(Extend { node: hypothesis.proposer, stream, slot: slot as u64, max_tokens: chunk });
                            parents.push((b, slot, hypothesis.scorer));
                        }
                        slot += beam.successors;
                    }
                    (Some(_), Semantics::Paper) => of_beam.push(Candidate { place: None, hypothesis }),
                    (Some(_), Semantics::Official) => {
                        let copies = (slot..slot + beam.successors).map(Some);
                        of_beam.extend(copies.map(|place| Candidate { place, hypothesis: hypothesis.clone() }));
                        slot += beam.successors;
                    }
                }
            }
            seen.push(
                of_beam.iter().map(|Candidate { hypothesis, .. }| (hypothesis.response.text.clone(), hypothesis.response.finish)).collect(),
            );
            candidates.push(of_beam);
            beam.successors = self.cbs.successors;
        }
        let mut fresh = Vec::new();
        for (mut extended, (b, slot, parent)) in self.proposer.extend(&requests)?.into_iter().zip(parents) {
            beams[b].sampled += extended.sampled;
            if beams[b].used == max_new_tokens && extended.response.finish.is_none() {
                extended.response.finish = Some(Finish::Length);
            }
            let is_new = semantics == Semantics::Official || seen[b].insert((extended.response.text.clone(), extended.response.finish));
            if is_new {
                fresh.push((b, slot, parent, extended));
            }
        }
        let judges: Vec<Judge> = (fresh.iter())
            .map(|(_, _, parent, Extended { response, .. })| Judge { parent: *parent, response, ends: semantics.ends(response.finish) })
            .collect();
        let judgements = self.scorer.score(&judges)?;
        for ((b, slot, _, extended), judged) in fresh.into_iter().zip(judgements) {
            let Extended { node, response, logprob, .. } = extended;
            if !judged.score.is_finite() {
                return Err(Error::failed(format!("the guides gave the score {} to `{}`", judged.score, response.text)));
            }
            beams[b].fed += judged.fed;
            beams[b].cut += u64::from(self.scorer.is_cut(judged.node));
            let hypothesis = Hypothesis { response, score: judged.score, logprob, proposer: node, scorer: judged.node };
            candidates[b].push(Candidate { place: Some(slot), hypothesis });
        }
        for (beam, mut candidates) in beams.iter_mut().zip(candidates) {
            candidates.sort_by(|a, b| b.hypothesis.score.total_cmp(&a.hypothesis.score).then(a.place.cmp(&b.place)));
            beam.hypotheses = candidates.into_iter().map(|candidate| candidate.hypothesis).collect();
            if self.with_trace {
                beam.trace.push(trace_step(&beam.hypotheses, beam_width));
            }
            beam.hypotheses.truncate(beam_width);
        }
        Ok(())
    }

    fn is_done(&self, beam: &Beam) -> bool {
        beam.used >= self.cbs.max_new_tokens || beam.hypotheses.iter().all(|hypothesis| hypothesis.response.finish.is_some())
    }

    fn finish(&mut self, beam: Beam, seconds: f64) -> Result<(usize, Found)> {
        let Beam { query, hypotheses, trace, sampled, fed, cut, .. } = beam;
        let best = hypotheses.into_iter().next().ok_or_else(|| Error::failed("the search kept no hypothesis"))?;
        let token_rewards = if self.with_trace { self.scorer.token_rewards(best.scorer) } else { Vec::new() };
        Ok((query, Found { best, trace, token_rewards, sampled, fed, cut, seconds }))
    }

    fn retain(&mut self, beams: &[Beam]) {
        let live = || beams.iter().flat_map(|beam| &beam.hypotheses);
        self.proposer.retain(&live().map(|hypothesis| hypothesis.proposer).collect::<Vec<_>>());
        self.scorer.retain(&live().map(|hypothesis| hypothesis.scorer).collect::<Vec<_>>());
    }
}

fn trace_step(candidates: &[Hypothesis], kept: usize) -> TraceStep {
    let candidates = candidates.iter().enumerate().map(|(rank, hypothesis)| TraceCandidate {
        text: hypothesis.response.text.clone(),
        score: hypothesis.score,
        finish: hypothesis.response.finish,
        kept: rank < kept,
    });
    TraceStep { candidates: candidates.collect() }
}
