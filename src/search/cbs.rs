//! Chunk-level beam search, Algorithm 1 of arXiv 2405.19262, with the rules of its edge cases
//! fixed.
//!
//! Hold W hypotheses; sample K continuations of at most L tokens for each incomplete one; score
//! all; keep the best W; stop when all kept ones are complete or the token budget is used. `W=1,
//! K=N, L=∞` is best-of-N, `W=K=1` plain sampling.
//!
//! [`ChunkSearch`] is the loop of Algorithm 1, turned inside out: H is `hypotheses`, C is `round`,
//! and each of its methods one line.

use std::collections::BTreeSet;

use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};

use super::chunk_len::ChunkLen;
use super::searcher::shared;
use super::settings::{Asked, Kind, SearchSettings};
use super::{Ask, Continue, Drive, Live, Opened, Query, Searcher, Told};
use super::{
    Extended, Finish, Found, Hypothesis, Node, Proposer, Response, Scored, Scorer, Semantics,
    ToScore, TraceCandidate, TraceStep,
};
use crate::error::{Error, Result};
use crate::prompt::{Prompt, PromptText};
use crate::sampling::Stream;

/// Chunk-level beam search (Algorithm 1 of arXiv 2405.19262).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CbsSettings {
    /// Hypotheses kept after each chunk (W).
    #[schemars(range(min = 1), extend("x-usual" = 4, "x-symbol" = "W"))]
    pub beam_width: usize,
    /// Continuations of each hypothesis (K).
    #[schemars(range(min = 1), extend("x-usual" = 4, "x-symbol" = "K"))]
    pub successors: usize,
    /// Tokens of a continuation (L); `"inf"` for whole responses.
    #[schemars(range(min = 1), extend("x-usual" = 5, "x-symbol" = "L"))]
    pub chunk_len: ChunkLen,
}

impl CbsSettings {
    pub const KIND: Kind = Kind {
        name: "cbs",
        draws: true,
        compares: true,
        one_vocabulary: false,
        schema: || schema_for!(CbsSettings),
    };
}

impl SearchSettings for CbsSettings {
    fn words(&self, _proposal: &str) -> String {
        let Self { beam_width, successors, chunk_len } = self;
        let chunks = match chunk_len {
            ChunkLen::Tokens(tokens) => format!("chunks of {tokens} tokens"),
            ChunkLen::Whole => "whole responses as chunks".to_owned(),
        };
        format!(
            "chunk-level beam search, beam width {beam_width}, {successors} successors, {chunks}"
        )
    }

    fn samples(&self) -> usize {
        self.beam_width.saturating_mul(self.successors)
    }

    fn chunk(&self, max_new_tokens: usize) -> usize {
        self.chunk_len.tokens().map_or(max_new_tokens, |tokens| tokens.min(max_new_tokens))
    }

    fn begin(&self, asked: &Asked, opened: Opened) -> Box<dyn Searcher> {
        let Self { beam_width, successors, chunk_len } = *self;
        let &Asked { max_new_tokens, semantics, with_trace } = asked;
        let chunk_len = chunk_len.tokens();
        Cbs { beam_width, successors, chunk_len, max_new_tokens, semantics }
            .begin(opened, with_trace)
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
        Self {
            beam_width: 1,
            successors: n,
            chunk_len: None,
            max_new_tokens,
            semantics: Semantics::Paper,
        }
    }

    /// One sample.
    pub fn plain(max_new_tokens: usize) -> Self {
        Self::best_of_n(1, max_new_tokens)
    }

    /// The search for the best response to one prompt.
    pub fn begin(&self, opened: Opened, with_trace: bool) -> Box<dyn Searcher> {
        let Opened { proposer, scorer, .. } = opened;
        let root = Hypothesis {
            response: Response::empty(),
            score: 0.0,
            logprob: Some(0.0),
            proposer,
            scorer,
        };
        Box::new(ChunkSearch {
            cbs: *self,
            with_trace,
            hypotheses: vec![root],
            // Algorithm 1 starts from W copies of the prompt with K continuations each: W·K samples
            // of the one root.
            successors: self.beam_width * self.successors,
            used: 0,
            round: Round::default(),
            trace: Vec::new(),
            sampled: 0,
            fed: 0,
            cut: 0,
        })
    }

    /// Searches for the best response to one prompt alone.
    ///
    /// # Errors
    /// Whatever the proposer, the scorer or the search could not do.
    pub fn search(
        &self,
        prompt: &PromptText,
        stream: &Stream,
        proposer: &mut dyn Proposer,
        scorer: &mut dyn Scorer,
        with_trace: bool,
    ) -> Result<Found> {
        let query = Query { prompt: Prompt::new("", prompt.clone()), stream: stream.clone() };
        Drive { proposer, scorer, in_flight: 1 }
            .answer(query, &|opened| self.begin(opened, with_trace))
    }
}

/// One prompt's search.
struct ChunkSearch {
    cbs: Cbs,
    with_trace: bool,
    /// Best first.
    hypotheses: Vec<Hypothesis>,
    /// Continuations of each open hypothesis in the next round.
    successors: usize,
    /// Tokens of the budget used.
    used: usize,
    round: Round,
    trace: Vec<TraceStep>,
    sampled: u64,
    fed: u64,
    cut: u64,
}

/// What one round of the loop gathers.
#[derive(Default)]
struct Round {
    /// Those that are known: at first the hypotheses that are finished.
    candidates: Vec<Candidate>,
    /// The slot of each continuation that was asked for, and its parent's scorer node.
    asked: Vec<(usize, Node)>,
    /// Continuations that are candidates once they are scored, and their slots.
    fresh: Vec<(usize, Extended)>,
}

/// What is chosen from. Among equal scores the lower place wins: finished hypotheses of Algorithm 1
/// have none and come first.
struct Candidate {
    place: Option<usize>,
    hypothesis: Hypothesis,
}

impl Searcher for ChunkSearch {
    /// while H holds an incomplete (x, y'): ask for Y, merge it into C, select H from it.
    fn next(&mut self, told: Told) -> Result<Ask> {
        match told {
            Told::Opened => {}
            Told::Extended(continuations) => return Ok(Ask::Score(self.merge(continuations))),
            Told::Scored(scores) => self.select(scores)?,
            other => return Err(other.unasked()),
        }
        Ok(if self.is_done() { Ask::Done(self.answer()?) } else { Ask::Extend(self.ask()) })
    }

    fn live(&self) -> Live {
        let Round { candidates, asked, fresh } = &self.round;
        let hypotheses = || {
            self.hypotheses.iter().chain(candidates.iter().map(|candidate| &candidate.hypothesis))
        };
        Live {
            proposer: hypotheses()
                .map(|hypothesis| &hypothesis.proposer)
                .chain(fresh.iter().map(|(_, new)| &new.node))
                .cloned()
                .collect(),
            scorer: hypotheses()
                .map(|hypothesis| &hypothesis.scorer)
                .chain(asked.iter().map(|(_, parent)| parent))
                .cloned()
                .collect(),
        }
    }

    fn committed(&self, growing: &[&str]) -> String {
        let kept = self
            .hypotheses
            .iter()
            .filter(|hypothesis| growing.is_empty() || hypothesis.response.finish.is_some());
        shared(
            kept.map(|hypothesis| hypothesis.response.text.as_str()).chain(growing.iter().copied()),
        )
    }
}

impl ChunkSearch {
    /// Y ← K continuations y_L ~ π_base(· | x, y') of each open hypothesis. A finished one is its
    /// own only continuation, or K of them by the released code.
    fn ask(&mut self) -> Vec<Continue> {
        let chunk =
            self.cbs.chunk_len.unwrap_or(usize::MAX).min(self.cbs.max_new_tokens - self.used);
        self.used += chunk;
        let (mut slot, mut continuations) = (0, Vec::new());
        for hypothesis in &self.hypotheses {
            let slots = slot..slot + self.successors;
            match (hypothesis.response.finish, self.cbs.semantics) {
                (None, _) => {
                    for slot in slots.clone() {
                        self.round.asked.push((slot, hypothesis.scorer.clone()));
                        continuations.push(Continue {
                            node: hypothesis.proposer.clone(),
                            slot: slot as u64,
                            max_tokens: chunk,
                        });
                    }
                    slot = slots.end;
                }
                (Some(_), Semantics::Paper) => self
                    .round
                    .candidates
                    .push(Candidate { place: None, hypothesis: hypothesis.clone() }),
                (Some(_), Semantics::Official) => {
                    slot = slots.end;
                    self.round.candidates.extend(slots.map(|slot| Candidate {
                        place: Some(slot),
                        hypothesis: hypothesis.clone(),
                    }));
                }
            }
        }
        self.successors = self.cbs.successors;
        continuations
    }

    /// C ← C ∪ {(x, y' ∘ y_L) | y_L ∈ Y}, a set whose members are told apart by (text, finish);
    /// what is new in it is to be scored.
    fn merge(&mut self, continuations: Vec<Extended>) -> Vec<ToScore> {
        let Cbs { max_new_tokens, semantics, .. } = self.cbs;
        let key = |response: &Response| (response.text.clone(), response.finish);
        let mut seen: BTreeSet<(String, Option<Finish>)> = self
            .round
            .candidates
            .iter()
            .map(|candidate| key(&candidate.hypothesis.response))
            .collect();
        let mut to_score = Vec::new();
        for (mut new, (slot, parent)) in
            continuations.into_iter().zip(std::mem::take(&mut self.round.asked))
        {
            self.sampled += new.sampled;
            if self.used == max_new_tokens && new.response.finish.is_none() {
                new.response.finish = Some(Finish::Length);
            }
            let is_new = semantics == Semantics::Official || seen.insert(key(&new.response));
            if is_new {
                to_score.push(ToScore {
                    parent,
                    response: new.response.clone(),
                    ends: semantics.ends(new.response.finish),
                });
                self.round.fresh.push((slot, new));
            }
        }
        to_score
    }

    /// H ← Top-W of C by score.
    fn select(&mut self, scores: Vec<Scored>) -> Result<()> {
        let Round { mut candidates, fresh, .. } = std::mem::take(&mut self.round);
        for ((slot, new), Scored { node: scorer, score, fed, is_cut }) in
            fresh.into_iter().zip(scores)
        {
            let Extended { node: proposer, response, logprob, .. } = new;
            if !score.is_finite() {
                return Err(Error::failed(format!(
                    "the guides gave the score {score} to `{}`",
                    response.text
                )));
            }
            self.fed += fed;
            self.cut += u64::from(is_cut);
            candidates.push(Candidate {
                place: Some(slot),
                hypothesis: Hypothesis { response, score, logprob, proposer, scorer },
            });
        }
        candidates.sort_by(|a, b| {
            b.hypothesis.score.total_cmp(&a.hypothesis.score).then(a.place.cmp(&b.place))
        });
        self.hypotheses = candidates.into_iter().map(|candidate| candidate.hypothesis).collect();
        if self.with_trace {
            self.trace.push(trace_step(&self.hypotheses, self.cbs.beam_width));
        }
        self.hypotheses.truncate(self.cbs.beam_width);
        Ok(())
    }

    /// Whether H holds no incomplete (x, y'), or the token budget is used.
    fn is_done(&self) -> bool {
        self.used >= self.cbs.max_new_tokens
            || self.hypotheses.iter().all(|hypothesis| hypothesis.response.finish.is_some())
    }

    /// argmax of H by score.
    fn answer(&mut self) -> Result<Found> {
        let best = self
            .hypotheses
            .first()
            .cloned()
            .ok_or_else(|| Error::failed("the search kept no hypothesis"))?;
        let trace = std::mem::take(&mut self.trace);
        Ok(Found::of(best, trace, [self.sampled, self.fed, self.cut]))
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
