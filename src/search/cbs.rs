//! Chunk-level beam search, Algorithm 1 of arXiv 2405.19262, with the rules of its edge cases fixed.
//!
//! Hold W hypotheses; sample K continuations of at most L tokens for each incomplete one; score all; keep the best W; stop when all kept
//! ones are complete or the token budget is used. `W=1, K=N, L=∞` is best-of-N, `W=K=1` plain sampling.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Extend, Finish, Judge, Node, Proposer, Response, Scorer};
use crate::error::{Error, Result};
use crate::sampling::Stream;

/// Settings of one search; every number at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cbs {
    /// W, hypotheses kept after each chunk.
    pub beam_width: usize,
    /// K, continuations sampled for each incomplete hypothesis.
    pub successors: usize,
    /// L, tokens of a continuation; `None` is ∞ (up to the budget).
    pub chunk_len: Option<usize>,
    /// Token budget of a response. One that reaches it unfinished is truncated: scored as it stands, `Finish::Length`.
    pub max_new_tokens: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Hypothesis {
    pub response: Response,
    pub score: f32,
    proposer: Node,
    scorer: Node,
}

/// The best response, and the way to it when a trace was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub best: Hypothesis,
    pub trace: Vec<TraceStep>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceStep {
    pub candidates: Vec<TraceCandidate>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceCandidate {
    pub text: String,
    pub score: f32,
    pub finish: Option<Finish>,
    pub kept: bool,
}

impl Cbs {
    /// Best of `n` full samples by the scorer.
    pub fn best_of_n(n: usize, max_new_tokens: usize) -> Self {
        Self { beam_width: 1, successors: n, chunk_len: None, max_new_tokens }
    }

    /// One sample.
    pub fn plain(max_new_tokens: usize) -> Self {
        Self::best_of_n(1, max_new_tokens)
    }

    /// Searches for the best response to `prompt`. `stream` is the prompt's own: sample number `slot` of a chunk draws token `t` of its
    /// response with number (t, slot), so neither the chunk length nor the company of other prompts changes a sample.
    pub fn search(
        &self,
        prompt: &str,
        stream: &Stream,
        proposer: &mut dyn Proposer,
        scorer: &mut dyn Scorer,
        with_trace: bool,
    ) -> Result<Found> {
        let root = Hypothesis {
            response: Response { text: String::new(), ids: Vec::new(), finish: None },
            score: 0.0,
            proposer: proposer.open(prompt)?,
            scorer: scorer.open(prompt)?,
        };
        // Algorithm 1 starts from W copies of the prompt with K continuations each: W·K samples of the one root.
        let mut beam = vec![root];
        let mut successors = self.beam_width * self.successors;
        let mut used = 0;
        let mut trace = Vec::new();
        while used < self.max_new_tokens && beam.iter().any(|hypothesis| hypothesis.response.finish.is_none()) {
            let chunk = self.chunk_len.unwrap_or(usize::MAX).min(self.max_new_tokens - used);
            used += chunk;
            let last = used == self.max_new_tokens;
            let mut candidates = self.grow(beam, successors, chunk, last, stream, proposer, scorer)?;
            successors = self.successors;
            // Stable: among equal scores the earlier candidate stays first.
            candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
            if with_trace {
                trace.push(trace_step(&candidates, self.beam_width));
            }
            candidates.truncate(self.beam_width);
            beam = candidates;
            proposer.retain(&beam.iter().map(|hypothesis| hypothesis.proposer).collect::<Vec<_>>());
            scorer.retain(&beam.iter().map(|hypothesis| hypothesis.scorer).collect::<Vec<_>>());
        }
        proposer.retain(&[]);
        scorer.retain(&[]);
        let best = beam.into_iter().next().ok_or_else(|| Error::failed("the search kept no hypothesis"))?;
        Ok(Found { best, trace })
    }

    /// The candidate set of one round: complete hypotheses as they are, and the scored continuations of the others. A set: identical
    /// (text, finish) enter once, the first of them.
    #[expect(clippy::too_many_arguments, reason = "one round of one search; a struct for it would be built and taken apart once")]
    fn grow(
        &self,
        beam: Vec<Hypothesis>,
        successors: usize,
        chunk: usize,
        last: bool,
        stream: &Stream,
        proposer: &mut dyn Proposer,
        scorer: &mut dyn Scorer,
    ) -> Result<Vec<Hypothesis>> {
        let (mut candidates, open): (Vec<_>, Vec<_>) = beam.into_iter().partition(|hypothesis| hypothesis.response.finish.is_some());
        let mut seen: BTreeSet<(String, Option<Finish>)> =
            candidates.iter().map(|hypothesis| (hypothesis.response.text.clone(), hypothesis.response.finish)).collect();
        let parents = |slot: usize| &open[slot / successors];
        let requests: Vec<Extend> = (0..open.len() * successors)
            .map(|slot| Extend { node: parents(slot).proposer, stream, slot: slot as u64, max_tokens: chunk })
            .collect();
        let mut fresh = Vec::new();
        for (slot, (node, mut response)) in proposer.extend(&requests)?.into_iter().enumerate() {
            if last && response.finish.is_none() {
                response.finish = Some(Finish::Length);
            }
            if seen.insert((response.text.clone(), response.finish)) {
                fresh.push((parents(slot).scorer, node, response));
            }
        }
        let judgements =
            scorer.score(&fresh.iter().map(|(parent, _, response)| Judge { parent: *parent, response }).collect::<Vec<_>>())?;
        for ((_, node, response), judged) in fresh.into_iter().zip(judgements) {
            if !judged.score.is_finite() {
                return Err(Error::failed(format!("the guides gave the score {} to `{}`", judged.score, response.text)));
            }
            candidates.push(Hypothesis { response, score: judged.score, proposer: node, scorer: judged.node });
        }
        Ok(candidates)
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
