//! Search over text: what proposes continuations, what scores them, and chunk-level beam search between the two.
//!
//! Nothing here knows a tensor. Concrete proposers live in `policy`, scorers in `score`; both hand out [`Node`]s, handles to whatever they
//! keep for a hypothesis (cache rows, partial sums), so that a chunk is paid for once and pruning frees memory. Calls take many
//! requests at once and never assume that they come from one prompt.

mod cbs;

pub use cbs::{Cbs, Found, Hypothesis, Query, TraceCandidate, TraceStep};

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::sampling::Stream;

/// Why a response ended. *Complete* is `Eos` or `Stop`; `Length` was cut by the token budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    Eos,
    Stop,
    Length,
}

impl Finish {
    pub fn is_complete(self) -> bool {
        self != Self::Length
    }
}

/// A proposer's or a scorer's handle to one hypothesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node(pub u64);

/// A response so far: the text, the proposer's token ids (without EOS), and how it ended, if it did.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    pub text: String,
    pub ids: Vec<i64>,
    pub finish: Option<Finish>,
}

/// One continuation to sample: token `t` of the whole response is drawn with number (t, `slot`) of `stream`.
pub struct Extend<'a> {
    pub node: Node,
    pub stream: &'a Stream,
    pub slot: u64,
    pub max_tokens: usize,
}

/// A continuation: the whole response, and what it cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Extended {
    pub node: Node,
    pub response: Response,
    /// Tokens sampled for it, EOS included.
    pub sampled: u64,
    /// Sum of the log-probabilities of the response's tokens and of its EOS under the proposer itself, at temperature 1 and without any cut;
    /// `None` where it is not known.
    pub logprob: Option<f64>,
}

/// Continues text: the frozen base model.
pub trait Proposer {
    /// Reads prompts; each node is the empty response to one.
    fn open(&mut self, prompts: &[&str]) -> Result<Vec<Node>>;

    /// Samples a continuation for each request, in order. A response that is already finished must not be extended.
    fn extend(&mut self, requests: &[Extend]) -> Result<Vec<Extended>>;

    /// Frees all that does not belong to `live`.
    fn retain(&mut self, live: &[Node]);
}

/// One response to score, as a continuation of the response that `parent` stands for.
pub struct Judge<'a> {
    pub parent: Node,
    pub response: &'a Response,
}

/// The score of a response and the scorer's node for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    pub node: Node,
    pub score: f32,
    /// Tokens of the response that went through each guide for this.
    pub fed: u64,
}

/// Judges responses: the guide pair.
pub trait Scorer {
    /// Reads prompts; each node is the empty response to one, worth 0.
    fn open(&mut self, prompts: &[&str]) -> Result<Vec<Node>>;

    /// Scores whole responses, in order; a complete one includes its end-of-sequence token.
    fn score(&mut self, requests: &[Judge]) -> Result<Vec<Judged>>;

    /// What the score of a live node is the sum of, a number for each of the scorer's tokens; empty where it is of one piece.
    fn token_rewards(&self, _node: Node) -> Vec<f32> {
        Vec::new()
    }

    /// Frees all that does not belong to `live`.
    fn retain(&mut self, live: &[Node]);
}
