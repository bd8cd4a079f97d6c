//! Chunk-level beam search, Algorithm 1 of arXiv 2405.19262, with the rules of its edge cases fixed.
//!
//! Hold W hypotheses; sample K continuations of at most L tokens for each incomplete one; score all; keep the best W; stop when all kept
//! ones are complete or the token budget is used. `W=1, K=N, L=∞` is best-of-N, `W=K=1` plain sampling.

use std::collections::BTreeSet;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{Extend, Extended, Finish, Judge, Node, Proposer, Response, Scorer};
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
    /// See [`super::Extended::logprob`].
    pub logprob: Option<f64>,
    proposer: Node,
    scorer: Node,
}

/// One prompt to search for. `stream` is its own: sample number `slot` of a chunk draws token `t` of its response with number (t, slot), so
/// neither the chunk length nor the company of other prompts changes a sample.
pub struct Query<'a> {
    pub prompt: &'a str,
    pub stream: &'a Stream,
}

/// The best response, the way to it when a trace was asked for, and what it cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub best: Hypothesis,
    pub trace: Vec<TraceStep>,
    /// With a trace: [`Scorer::token_rewards`] of the best response.
    pub token_rewards: Vec<f32>,
    /// Tokens sampled from the proposer.
    pub sampled: u64,
    /// Response tokens that went through each guide.
    pub fed: u64,
    /// This prompt's share of the time: that of each round is divided among the prompts in flight.
    pub seconds: f64,
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
    seconds: f64,
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
        let mut beams: Vec<Beam> = Vec::new();
        let mut next = 0;
        while next < queries.len() || !beams.is_empty() {
            pause()?;
            let started = Instant::now();
            let count = in_flight.max(1).saturating_sub(beams.len()).min(queries.len() - next);
            beams.extend(self.open(queries, next, count, proposer, scorer)?);
            next += count;
            self.round(queries, &mut beams, with_trace, proposer, scorer)?;
            let share = started.elapsed().as_secs_f64() / beams.len() as f64;
            beams.iter_mut().for_each(|beam| beam.seconds += share);
            let (found, open): (Vec<Beam>, Vec<Beam>) = beams.into_iter().partition(|beam| self.is_done(beam));
            beams = open;
            let found: Vec<(usize, Found)> = found.into_iter().map(|beam| finish(beam, with_trace, scorer)).collect::<Result<_>>()?;
            let live = || beams.iter().flat_map(|beam| &beam.hypotheses);
            proposer.retain(&live().map(|hypothesis| hypothesis.proposer).collect::<Vec<_>>());
            scorer.retain(&live().map(|hypothesis| hypothesis.scorer).collect::<Vec<_>>());
            found.into_iter().try_for_each(|(query, found)| done(query, found))?;
        }
        Ok(())
    }

    fn is_done(&self, beam: &Beam) -> bool {
        beam.used >= self.max_new_tokens || beam.hypotheses.iter().all(|hypothesis| hypothesis.response.finish.is_some())
    }

    fn open(
        &self,
        queries: &[Query],
        first: usize,
        count: usize,
        proposer: &mut dyn Proposer,
        scorer: &mut dyn Scorer,
    ) -> Result<Vec<Beam>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let prompts: Vec<&str> = queries[first..first + count].iter().map(|query| query.prompt).collect();
        let nodes = proposer.open(&prompts)?.into_iter().zip(scorer.open(&prompts)?);
        let beams = nodes.zip(first..).map(|((proposer, scorer), query)| {
            let response = Response { text: String::new(), ids: Vec::new(), finish: None };
            let root = Hypothesis { response, score: 0.0, logprob: Some(0.0), proposer, scorer };
            // Algorithm 1 starts from W copies of the prompt with K continuations each: W·K samples of the one root.
            let successors = self.beam_width * self.successors;
            Beam { query, hypotheses: vec![root], successors, used: 0, trace: Vec::new(), sampled: 0, fed: 0, seconds: 0.0 }
        });
        Ok(beams.collect())
    }

    /// One chunk of every beam. The candidates of each are a set: complete hypotheses as they are, and the scored continuations of the
    /// others, of which identical (text, finish) enter once, the first of them.
    fn round(
        &self,
        queries: &[Query],
        beams: &mut [Beam],
        with_trace: bool,
        proposer: &mut dyn Proposer,
        scorer: &mut dyn Scorer,
    ) -> Result<()> {
        let mut requests = Vec::new();
        // For each request: its beam, and its parent's scorer node.
        let mut parents = Vec::new();
        for (b, beam) in beams.iter_mut().enumerate() {
            let chunk = self.chunk_len.unwrap_or(usize::MAX).min(self.max_new_tokens - beam.used);
            beam.used += chunk;
            let open = beam.hypotheses.iter().filter(|hypothesis| hypothesis.response.finish.is_none());
            for (slot, hypothesis) in open.flat_map(|hypothesis| std::iter::repeat_n(hypothesis, beam.successors)).enumerate() {
                let stream = queries[beam.query].stream;
                requests.push(Extend { node: hypothesis.proposer, stream, slot: slot as u64, max_tokens: chunk });
                parents.push((b, hypothesis.scorer));
            }
            beam.successors = self.successors;
        }
        let mut seen: Vec<BTreeSet<(String, Option<Finish>)>> = Vec::new();
        for beam in beams.iter_mut() {
            beam.hypotheses.retain(|hypothesis| hypothesis.response.finish.is_some());
            seen.push(beam.hypotheses.iter().map(|hypothesis| (hypothesis.response.text.clone(), hypothesis.response.finish)).collect());
        }
        let mut fresh = Vec::new();
        for (mut extended, (b, parent)) in proposer.extend(&requests)?.into_iter().zip(parents) {
            beams[b].sampled += extended.sampled;
            if beams[b].used == self.max_new_tokens && extended.response.finish.is_none() {
                extended.response.finish = Some(Finish::Length);
            }
            if seen[b].insert((extended.response.text.clone(), extended.response.finish)) {
                fresh.push((b, parent, extended));
            }
        }
        let judges: Vec<Judge> =
            fresh.iter().map(|(_, parent, extended)| Judge { parent: *parent, response: &extended.response }).collect();
        let judgements = scorer.score(&judges)?;
        for ((b, _, extended), judged) in fresh.into_iter().zip(judgements) {
            let Extended { node, response, logprob, .. } = extended;
            if !judged.score.is_finite() {
                return Err(Error::failed(format!("the guides gave the score {} to `{}`", judged.score, response.text)));
            }
            beams[b].fed += judged.fed;
            beams[b].hypotheses.push(Hypothesis { response, score: judged.score, logprob, proposer: node, scorer: judged.node });
        }
        for beam in beams {
            // Stable: among equal scores the earlier candidate stays first.
            beam.hypotheses.sort_by(|a, b| b.score.total_cmp(&a.score));
            if with_trace {
                beam.trace.push(trace_step(&beam.hypotheses, self.beam_width));
            }
            beam.hypotheses.truncate(self.beam_width);
        }
        Ok(())
    }
}

fn finish(beam: Beam, with_trace: bool, scorer: &dyn Scorer) -> Result<(usize, Found)> {
    let Beam { query, hypotheses, trace, sampled, fed, seconds, .. } = beam;
    let best = hypotheses.into_iter().next().ok_or_else(|| Error::failed("the search kept no hypothesis"))?;
    let token_rewards = if with_trace { scorer.token_rewards(best.scorer) } else { Vec::new() };
    Ok((query, Found { best, trace, token_rewards, sampled, fed, seconds }))
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
