//! Search over text: what proposes continuations, what scores them, and the searches between the two.
//!
//! Nothing here knows a tensor. Concrete proposers live in `policy`, scorers in `score`; both hand out [`Node`]s, handles to whatever they
//! keep for a hypothesis (cache rows, partial sums), so that a chunk is paid for once and pruning frees memory. Calls take many
//! requests at once and never assume that they come from one prompt.

#[macro_use]
mod settings;

mod beam;
mod best_of_n;
mod cbs;
mod in_flight;
mod sample;
mod semantics;

pub use beam::{BeamSearch, BeamSettings};
pub use best_of_n::BestOfN;
pub use cbs::{Cbs, CbsSettings};
pub use sample::Sample;
pub use semantics::Semantics;
pub use settings::{Asked, Base, Key, KeyValue, Kind, SearchSettings};

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::sampling::Stream;

searches! {
    Sample(Sample),
    BestOfN(BestOfN),
    Cbs(CbsSettings),
    Beam(BeamSettings),
}

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
    /// The end-of-sequence token that ended it; a model may have several.
    pub end: Option<i64>,
    /// Tokens sampled for it, EOS included.
    pub sampled: u64,
    /// Sum of the log-probabilities of the response's tokens and of its EOS under the base itself, at temperature 1 and without any cut;
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

/// Tells what may come next: what token-level beam search asks of the base.
pub trait NextTokens {
    /// Reads prompts; each node is the empty response to one.
    fn open(&mut self, prompts: &[&str]) -> Result<Vec<Node>>;

    /// For each response its `count` likeliest next tokens, likeliest first, and their log-probabilities at temperature 1 without any cut.
    fn likeliest(&mut self, nodes: &[Node], count: usize) -> Result<Vec<Vec<(i64, f32)>>>;

    /// The response of `node`, whose next tokens have been told, with `token` behind it.
    fn append(&mut self, node: Node, token: i64) -> Result<(Node, Response)>;

    /// How many tokens end a response.
    fn end_tokens(&self) -> usize;

    /// Frees all that does not belong to `live`.
    fn retain(&mut self, live: &[Node]);
}

/// One response to score, as a continuation of the response that `parent` stands for.
pub struct Judge<'a> {
    pub parent: Node,
    pub response: &'a Response,
    /// Whether the scorer's end-of-sequence token comes behind it.
    pub ends: bool,
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
///
/// A response may be longer than a scorer can read. It is then worth what the scorer reads of it, its beginning, whose score does not hold the
/// end: too long a response ends no search, whoever the scorer is.
pub trait Scorer {
    /// Reads prompts; each node is the empty response to one, worth 0.
    fn open(&mut self, prompts: &[&str]) -> Result<Vec<Node>>;

    /// Scores whole responses, in order.
    fn score(&mut self, requests: &[Judge]) -> Result<Vec<Judged>>;

    /// What the score of a live node is the sum of, a number for each of the scorer's tokens; empty where it is of one piece.
    fn token_rewards(&self, _node: Node) -> Vec<f32> {
        Vec::new()
    }

    /// Whether the response of a live node was too long for the scorer, so that its score is that of its beginning.
    fn is_cut(&self, _node: Node) -> bool {
        false
    }

    /// Frees all that does not belong to `live`.
    fn retain(&mut self, live: &[Node]);
}

/// A response with all that the search knows of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Hypothesis {
    pub response: Response,
    pub score: f32,
    /// See [`Extended::logprob`].
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
    /// Scored responses that were too long for the scorer; see [`Scorer::is_cut`].
    pub cut: u64,
    /// This prompt's share of the time: that of each round is divided among the prompts in flight.
    pub seconds: f64,
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
