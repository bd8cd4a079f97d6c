//! Token-level beam search under the guides: chunk-level beam search with `L = 1` and `K = ∞`,
//! where every next token of the base is inspected and none is sampled (§4.2 of arXiv 2405.19262).
//!
//! Hold W hypotheses; every token that may follow an open one makes a candidate, worth its score
//! and what the guides add for the token, the base's end-of-sequence token what they add for their
//! own; keep the best W of these and of the finished ones; stop when all kept ones are finished or
//! the token budget is used. The guides say all next tokens' worth at once, so no candidate is read
//! for it. Candidates are a set, as in `cbs.rs`. Texts are made of the best ones alone: a token
//! that completes a stop string is found where its own worth puts it among them, and is then worth
//! what the shortened response is.

use std::collections::BTreeSet;

use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};

use super::searcher::shared;
use super::settings::{Asked, Kind, SearchSettings};
use super::{Ask, Live, Opened, Searcher, Told};
use super::{
    Finish, Found, Hypothesis, Node, Response, Scored, ToScore, TraceCandidate, TraceStep, Weighed,
};
use crate::error::{Error, Result};

/// Token-level beam search under the guides, without sampling: chunk-level beam search in which
/// every next token of the base is a successor of one token. Needs guides with the base's
/// vocabulary; the same for every seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GuidedBeamSettings {
    /// Hypotheses kept after each token (W).
    #[schemars(range(min = 1), extend("x-usual" = 4, "x-symbol" = "W"))]
    pub beam_width: usize,
    /// The base's likeliest next tokens that are inspected; 0 for all.
    #[serde(default)]
    pub top_k: usize,
}

impl GuidedBeamSettings {
    pub const KIND: Kind = Kind {
        name: "guided_beam",
        draws: false,
        compares: true,
        one_vocabulary: true,
        schema: || schema_for!(GuidedBeamSettings),
    };

    fn inspected(self) -> Option<usize> {
        Some(self.top_k).filter(|top_k| *top_k > 0)
    }
}

impl SearchSettings for GuidedBeamSettings {
    fn words(&self, proposal: &str) -> String {
        let inspected = match self.inspected() {
            None => "every next token".to_owned(),
            Some(top_k) => format!("the {top_k} likeliest next tokens"),
        };
        format!(
            "token-level beam search under the guides, beam width {}, {inspected} of {proposal}",
            self.beam_width
        )
    }

    fn rows(&self) -> usize {
        self.beam_width
    }

    fn chunk(&self, _max_new_tokens: usize) -> usize {
        1
    }

    fn weighs_next(&self) -> bool {
        true
    }

    fn begin(&self, asked: &Asked, opened: Opened) -> Box<dyn Searcher> {
        let Opened { proposer, scorer, end_tokens } = opened;
        let root = Hypothesis {
            response: Response::empty(),
            score: 0.0,
            logprob: Some(0.0),
            proposer,
            scorer,
        };
        Box::new(GuidedSearch {
            settings: *self,
            asked: *asked,
            end_tokens,
            hypotheses: vec![root],
            length: 0,
            round: Round::default(),
            trace: Vec::new(),
            sampled: 0,
            fed: 0,
            cut: 0,
        })
    }
}

/// One prompt's search.
struct GuidedSearch {
    settings: GuidedBeamSettings,
    asked: Asked,
    /// Those of the base.
    end_tokens: Vec<i64>,
    /// Best first. The scorer's node of a finished one is its parent's, until it is the answer.
    hypotheses: Vec<Hypothesis>,
    /// Tokens of each open hypothesis.
    length: usize,
    round: Round,
    trace: Vec<TraceStep>,
    sampled: u64,
    fed: u64,
    cut: u64,
}

/// What the step to the next token gathers.
#[derive(Default)]
struct Round {
    /// For each open hypothesis what the guides add for next tokens, and the base's next tokens.
    weighed: Vec<Weighed>,
    next: Vec<Vec<(i64, f32)>>,
    /// The best continuations; those before `looked` have their texts.
    ranked: Vec<Continuation>,
    looked: usize,
    /// Whether `ranked` holds all continuations.
    is_all: bool,
    /// Finished hypotheses, and continuations with their texts; no two are the same.
    candidates: Vec<Candidate>,
    seen: BTreeSet<Key>,
    /// Places of the candidates that are to be scored: they end at a stop string.
    unscored: Vec<usize>,
}

/// A token behind an open hypothesis.
#[derive(Debug, Clone, Copy)]
struct Continuation {
    score: f32,
    logprob: f32,
    /// Which of the open hypotheses, and which of its next tokens.
    parent: usize,
    token: i64,
}

struct Candidate {
    hypothesis: Hypothesis,
    is_new: bool,
}

/// Tells candidates apart: by their texts, but where a character is not whole yet by their tokens.
type Key = (String, Option<Finish>, Vec<i64>);

impl Searcher for GuidedSearch {
    fn next(&mut self, told: Told) -> Result<Ask> {
        match told {
            Told::Opened => Ok(self.weigh()),
            Told::Weighed(weighed) => Ok(self.likeliest(weighed)),
            Told::Likeliest(next) => {
                self.begin_round(next)?;
                self.go_on()
            }
            Told::Appended(continuations) => match self.look(continuations) {
                to_score if to_score.is_empty() => self.go_on(),
                to_score => Ok(Ask::Score(to_score)),
            },
            Told::Scored(scores) if self.round.unscored.is_empty() => self.answer(scores),
            Told::Scored(scores) => {
                self.score(scores);
                self.go_on()
            }
            other @ Told::Extended(_) => Err(other.unasked()),
        }
    }

    fn live(&self) -> Live {
        let candidates = self.round.candidates.iter().map(|candidate| &candidate.hypothesis);
        let all: Vec<&Hypothesis> = self.hypotheses.iter().chain(candidates).collect();
        let nodes =
            |node: fn(&Hypothesis) -> &Node| all.iter().map(|of| node(of).clone()).collect();
        Live { proposer: nodes(|of| &of.proposer), scorer: nodes(|of| &of.scorer) }
    }

    fn committed(&self, _growing: &[&str]) -> String {
        shared(self.hypotheses.iter().map(|hypothesis| hypothesis.response.text.as_str()))
    }
}

impl GuidedSearch {
    fn open(&self) -> impl Iterator<Item = &Hypothesis> {
        self.hypotheses.iter().filter(|hypothesis| hypothesis.response.finish.is_none())
    }

    /// What do the guides add for every next token of the open hypotheses?
    fn weigh(&self) -> Ask {
        let to_score = |hypothesis: &Hypothesis| ToScore {
            parent: hypothesis.scorer.clone(),
            response: hypothesis.response.clone(),
            ends: false,
        };
        Ask::Weigh(self.open().map(to_score).collect())
    }

    /// Which tokens may come next?
    fn likeliest(&mut self, weighed: Vec<Weighed>) -> Ask {
        let open = self.hypotheses.iter_mut();
        let open = open.filter(|hypothesis| hypothesis.response.finish.is_none());
        for (hypothesis, Weighed { scored, .. }) in open.zip(&weighed) {
            hypothesis.scorer = scored.node.clone();
            hypothesis.score = scored.score;
            self.fed += scored.fed;
            self.cut += u64::from(scored.is_cut);
        }
        self.round.weighed = weighed;
        let nodes = self.open().map(|hypothesis| hypothesis.proposer.clone()).collect();
        Ask::Likeliest { nodes, count: self.settings.inspected() }
    }

    fn begin_round(&mut self, next: Vec<Vec<(i64, f32)>>) -> Result<()> {
        self.length += 1;
        self.round.next = next;
        let finished = self.hypotheses.iter().filter(|known| known.response.finish.is_some());
        for hypothesis in finished {
            self.round.seen.insert(key(&hypothesis.response));
            let hypothesis = hypothesis.clone();
            self.round.candidates.push(Candidate { hypothesis, is_new: false });
        }
        self.rank(4 * self.settings.beam_width)
    }

    /// The `most` best continuations, best first: of equal ones what the base finds likelier.
    fn rank(&mut self, most: usize) -> Result<()> {
        let mut all = Vec::new();
        for (parent, hypothesis) in self.open().enumerate() {
            let Weighed { next: worth, end, .. } = &self.round.weighed[parent];
            for &(token, logp) in &self.round.next[parent] {
                let is_end = self.end_tokens.contains(&token);
                let place = usize::try_from(token).ok();
                let worth = place.and_then(|place| worth.get(place)).copied();
                let worth = if is_end { *end } else { worth.unwrap_or(f32::NEG_INFINITY) };
                if worth == f32::NEG_INFINITY {
                    continue;
                }
                if !worth.is_finite() {
                    return Err(Error::failed(format!("the guides gave token {token} {worth}")));
                }
                let logprob = hypothesis.logprob.unwrap_or_default() as f32 + logp;
                all.push(Continuation { score: hypothesis.score + worth, logprob, parent, token });
            }
        }
        let order = |one: &Continuation, other: &Continuation| {
            let by_base = || other.logprob.total_cmp(&one.logprob);
            let by_place = || (one.parent, one.token).cmp(&(other.parent, other.token));
            other.score.total_cmp(&one.score).then_with(by_base).then_with(by_place)
        };
        self.round.is_all = all.len() <= most;
        if !self.round.is_all {
            all.select_nth_unstable_by(most, order);
            all.truncate(most);
        }
        all.sort_unstable_by(order);
        self.round.ranked = all;
        Ok(())
    }

    /// Looks at the next best continuations, or chooses where none of them can be chosen.
    fn go_on(&mut self) -> Result<Ask> {
        loop {
            let Round { ranked, looked, is_all, .. } = &self.round;
            let last = ranked.last().map_or(f32::NEG_INFINITY, |last| last.score);
            match ranked.get(*looked) {
                Some(best) if !self.is_settled(best.score) => return Ok(self.append()),
                None if !is_all && !self.is_settled(last) => self.rank(8 * ranked.len())?,
                _ => break,
            }
        }
        self.select()?;
        let is_done = self.length >= self.asked.max_new_tokens || self.open().next().is_none();
        if !is_done {
            return Ok(self.weigh());
        }
        let Hypothesis { response, scorer, .. } = self.best()?.clone();
        let ends = response.finish.is_some_and(Finish::is_complete);
        Ok(Ask::Score(vec![ToScore { parent: scorer, response, ends }]))
    }

    /// Whether W candidates are worth as much as anything that was not looked at, `bound` at most.
    fn is_settled(&self, bound: f32) -> bool {
        let as_good = |candidate: &&Candidate| candidate.hypothesis.score >= bound;
        self.round.candidates.iter().filter(as_good).count() >= self.settings.beam_width
    }

    fn append(&mut self) -> Ask {
        let Round { ranked, looked, .. } = &mut self.round;
        let more = *looked..ranked.len().min(*looked + self.settings.beam_width);
        *looked = more.end;
        let open: Vec<&Hypothesis> = self
            .hypotheses
            .iter()
            .filter(|hypothesis| hypothesis.response.finish.is_none())
            .collect();
        let token = |of: &Continuation| (open[of.parent].proposer.clone(), of.token);
        Ask::Append(ranked[more].iter().map(token).collect())
    }

    /// C ← C ∪ the continuations that were appended last; what is to be scored of them.
    fn look(&mut self, continuations: Vec<(Node, Response)>) -> Vec<ToScore> {
        let first = self.round.looked - continuations.len();
        let open: Vec<Hypothesis> = self.open().cloned().collect();
        let mut to_score = Vec::new();
        for (index, (proposer, mut response)) in continuations.into_iter().enumerate() {
            let Continuation { score, logprob, parent, .. } = self.round.ranked[first + index];
            if self.length == self.asked.max_new_tokens && response.finish.is_none() {
                response.finish = Some(Finish::Length);
            }
            if !self.round.seen.insert(key(&response)) {
                continue;
            }
            let parent = &open[parent];
            let mut logprob = Some(f64::from(logprob));
            if response.finish == Some(Finish::Stop) {
                // The token is not in the response, or a part of it alone.
                logprob = parent.logprob.filter(|_| response.ids == parent.response.ids);
                self.round.unscored.push(self.round.candidates.len());
                to_score.push(ToScore {
                    parent: parent.scorer.clone(),
                    response: response.clone(),
                    ends: true,
                });
            }
            let scorer = parent.scorer.clone();
            let hypothesis = Hypothesis { response, score, logprob, proposer, scorer };
            self.round.candidates.push(Candidate { hypothesis, is_new: true });
        }
        to_score
    }

    fn score(&mut self, scores: Vec<Scored>) {
        for (place, scored) in std::mem::take(&mut self.round.unscored).into_iter().zip(scores) {
            let Scored { score, fed, is_cut, .. } = scored;
            self.round.candidates[place].hypothesis.score = score;
            self.fed += fed;
            self.cut += u64::from(is_cut);
        }
    }

    /// H ← Top-W of C by score; of equal ones those that finished before, then by rank.
    fn select(&mut self) -> Result<()> {
        let Round { mut candidates, .. } = std::mem::take(&mut self.round);
        candidates.sort_by(|a, b| b.hypothesis.score.total_cmp(&a.hypothesis.score));
        let kept = self.settings.beam_width;
        if self.asked.with_trace {
            let step = candidates.iter().enumerate().map(|(rank, Candidate { hypothesis, .. })| {
                let (text, finish) = (hypothesis.response.text.clone(), hypothesis.response.finish);
                TraceCandidate { text, score: hypothesis.score, finish, kept: rank < kept }
            });
            self.trace.push(TraceStep { candidates: step.collect() });
        }
        candidates.truncate(kept);
        self.sampled += candidates.iter().filter(|candidate| candidate.is_new).count() as u64;
        self.hypotheses = candidates.into_iter().map(|candidate| candidate.hypothesis).collect();
        self.best().map(drop)
    }

    /// argmax of H by score.
    fn best(&self) -> Result<&Hypothesis> {
        self.hypotheses.first().ok_or_else(|| Error::failed("no token can come next"))
    }

    fn answer(&mut self, scores: Vec<Scored>) -> Result<Ask> {
        let best = self.best()?.clone();
        let Some(Scored { node: scorer, score, fed, is_cut }) = scores.into_iter().next() else {
            return Err(Error::failed("the answer of a beam search was not scored"));
        };
        let trace = std::mem::take(&mut self.trace);
        let cost = [self.sampled, self.fed + fed, self.cut + u64::from(is_cut)];
        Ok(Ask::Done(Found::of(Hypothesis { score, scorer, ..best }, trace, cost)))
    }
}

fn key(response: &Response) -> Key {
    let is_whole = response.finish.is_some() || !response.text.ends_with('\u{FFFD}');
    let ids = if is_whole { Vec::new() } else { response.ids.clone() };
    (response.text.clone(), response.finish, ids)
}
