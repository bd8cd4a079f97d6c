//! Token-level beam search over the base's own log-probabilities: no guide, no sampling. The rules
//! are those of transformers' beam search (`generate` with `num_beams` and without sampling), so
//! that the answers are the same, token for token.
//!
//! Keep the B likeliest unfinished responses; give each its likeliest next tokens; those among the
//! B best that end are finished, with the score log p(y|x) / |y|^`length_penalty`, |y| counting the
//! end-of-sequence token. The search ends when no unfinished response, at its present length,
//! scores above the worst of B finished ones, or at the token budget, where the unfinished ones are
//! cut off.

use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};

use super::searcher::shared;
use super::settings::{Asked, Kind, SearchSettings};
use super::{Ask, Live, Opened, Searcher, Told};
use super::{Finish, Found, Hypothesis, Node, Response, Scored, ToScore};
use crate::error::{Error, Result};

/// Token-level beam search of the base alone, without guides or sampling, by the rules of
/// transformers' `generate(num_beams=…)`; the same for every seed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BeamSettings {
    /// Unfinished responses kept after each token (B).
    #[schemars(range(min = 1))]
    #[schemars(extend("x-usual" = 4, "x-symbol" = "W", "x-also" = ["num_beams"]))]
    pub beam_width: usize,
    /// Scores are divided by the length to this power.
    #[serde(default = "one")]
    pub length_penalty: f64,
    /// End with the first B finished responses.
    #[serde(default)]
    pub early_stopping: bool,
}

fn one() -> f64 {
    1.0
}

impl BeamSettings {
    pub const KIND: Kind = Kind {
        name: "beam",
        draws: false,
        compares: false,
        one_vocabulary: false,
        schema: || schema_for!(BeamSettings),
    };
}

impl SearchSettings for BeamSettings {
    fn words(&self, proposal: &str) -> String {
        let Self { beam_width, length_penalty, early_stopping } = self;
        let ends = match early_stopping {
            true => format!("at the first {beam_width} finished responses"),
            false => "where none can improve".to_owned(),
        };
        format!(
            "token-level beam search of {proposal}, beam width {beam_width}, length penalty \
             {length_penalty}, ends {ends}"
        )
    }

    fn rows(&self) -> usize {
        self.beam_width
    }

    fn begin(&self, asked: &Asked, opened: Opened) -> Box<dyn Searcher> {
        let Self { beam_width, length_penalty, early_stopping } = *self;
        let length_penalty = length_penalty as f32;
        BeamSearch {
            beam_width,
            max_new_tokens: asked.max_new_tokens,
            length_penalty,
            early_stopping,
        }
        .begin(opened)
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
    /// The search for the likeliest response to one prompt; the proposer must tell next tokens. The
    /// scorer scores the answer only.
    pub fn begin(&self, opened: Opened) -> Box<dyn Searcher> {
        let Opened { proposer, scorer, end_tokens } = opened;
        let root = Beam { node: proposer, response: Response::empty(), logprob: 0.0 };
        let (running, finished) = (vec![root], Vec::new());
        Box::new(TokenSearch {
            settings: *self,
            scorer,
            end_tokens: end_tokens.len(),
            running,
            finished,
            ranked: Vec::new(),
            length: 0,
            sampled: 0,
        })
    }

    /// What finished responses are compared by.
    fn score(&self, logprob: f32, length: usize) -> f32 {
        logprob / (length as f32).powf(self.length_penalty)
    }
}

/// A response and its log-probability under the base.
#[derive(Clone)]
struct Beam {
    node: Node,
    response: Response,
    logprob: f32,
}

/// One prompt's search.
struct TokenSearch {
    settings: BeamSearch,
    /// The empty response in the scorer.
    scorer: Node,
    end_tokens: usize,
    /// Likeliest first.
    running: Vec<Beam>,
    /// Best first, with their scores.
    finished: Vec<(f32, Beam)>,
    /// Log-probabilities of the continuations that were asked for, likeliest first.
    ranked: Vec<f32>,
    /// Tokens of each running response.
    length: usize,
    sampled: u64,
}

impl Searcher for TokenSearch {
    /// One token of every running response: the likeliest next ones, the best continuations by
    /// them, and what becomes of these.
    fn next(&mut self, told: Told) -> Result<Ask> {
        match told {
            Told::Opened => Ok(self.ask()),
            Told::Likeliest(next) => Ok(Ask::Append(self.continuations(next))),
            Told::Appended(continuations) => {
                self.choose(continuations);
                if self.is_done() { self.to_score() } else { Ok(self.ask()) }
            }
            Told::Scored(scores) => self.answer(scores),
            other @ (Told::Extended(_) | Told::Weighed(_)) => Err(other.unasked()),
        }
    }

    fn live(&self) -> Live {
        let best = self.finished.iter().map(|(_, beam)| beam);
        Live {
            proposer: self.running.iter().chain(best).map(|beam| beam.node.clone()).collect(),
            scorer: vec![self.scorer.clone()],
        }
    }

    fn committed(&self, _growing: &[&str]) -> String {
        let best = self.finished.iter().map(|(_, beam)| beam);
        shared(self.running.iter().chain(best).map(|beam| beam.response.text.as_str()))
    }
}

impl TokenSearch {
    fn ask(&self) -> Ask {
        Ask::Likeliest {
            nodes: self.running.iter().map(|beam| beam.node.clone()).collect(),
            count: Some(self.kept()),
        }
    }

    /// As many continuations as there would still be B unfinished ones of, if every response had
    /// all its end tokens among them.
    fn kept(&self) -> usize {
        self.settings.beam_width * (1 + self.end_tokens).max(2)
    }

    /// The likeliest continuations of the running responses by what may come next.
    fn continuations(&mut self, next: Vec<Vec<(i64, f32)>>) -> Vec<(Node, i64)> {
        let mut ranked: Vec<(f32, usize, i64)> = (self.running.iter().zip(next).enumerate())
            .flat_map(|(b, (beam, next))| {
                next.into_iter().map(move |(token, logp)| (beam.logprob + logp, b, token))
            })
            .collect();
        ranked.sort_by(|x, y| y.0.total_cmp(&x.0).then((x.1, x.2).cmp(&(y.1, y.2))));
        ranked.truncate(self.kept());
        self.ranked = ranked.iter().map(|(logprob, ..)| *logprob).collect();
        ranked.into_iter().map(|(_, b, token)| (self.running[b].node.clone(), token)).collect()
    }

    /// Finished continuations among the B best are kept beside the finished ones, the B best
    /// unfinished ones run on.
    fn choose(&mut self, continuations: Vec<(Node, Response)>) {
        let BeamSearch { beam_width, max_new_tokens, .. } = self.settings;
        self.length += 1;
        let mut continuations: Vec<Beam> =
            (std::mem::take(&mut self.ranked).into_iter().zip(continuations))
                .map(|(logprob, (node, response))| Beam { node, response, logprob })
                .collect();
        if self.length == max_new_tokens {
            for beam in continuations.iter_mut().filter(|beam| beam.response.finish.is_none()) {
                beam.response.finish = Some(Finish::Length);
            }
        }
        let ends = |beam: &Beam| beam.response.finish.is_some();
        let finished = continuations.iter().take(beam_width).filter(|beam| ends(beam));
        self.finished.extend(
            finished.map(|beam| (self.settings.score(beam.logprob, self.length), beam.clone())),
        );
        self.finished.sort_by(|a, b| b.0.total_cmp(&a.0));
        self.finished.truncate(beam_width);
        continuations.retain(|beam| !ends(beam));
        continuations.truncate(beam_width);
        self.running = continuations;
        self.sampled += self.running.len() as u64;
    }

    fn is_done(&self) -> bool {
        let is_full = self.finished.len() == self.settings.beam_width;
        let may_improve = self.running.first().is_some_and(|best| {
            let worst = self.finished.last().map_or(f32::NEG_INFINITY, |(score, _)| *score);
            !is_full || self.settings.score(best.logprob, self.length) > worst
        });
        !may_improve || (is_full && self.settings.early_stopping)
    }

    fn best(&self) -> Result<&Beam> {
        self.finished
            .first()
            .map(|(_, beam)| beam)
            .ok_or_else(|| Error::failed("beam search finished no response"))
    }

    fn to_score(&self) -> Result<Ask> {
        let response = self.best()?.response.clone();
        let ends = response.finish.is_some_and(Finish::is_complete);
        Ok(Ask::Score(vec![ToScore { parent: self.scorer.clone(), response, ends }]))
    }

    fn answer(&self, scores: Vec<Scored>) -> Result<Ask> {
        let Beam { node, response, logprob } = self.best()?.clone();
        let Some(Scored { node: scorer, score, fed, is_cut }) = scores.into_iter().next() else {
            return Err(Error::failed("the answer of a beam search was not scored"));
        };
        let best = Hypothesis {
            response,
            score,
            logprob: Some(f64::from(logprob)),
            proposer: node,
            scorer,
        };
        let cost = [self.sampled, fed, u64::from(is_cut)];
        Ok(Ask::Done(Found::of(best, Vec::new(), cost)))
    }
}
