//! What a search returns: the best response, what it cost, and the way to it. It is judged and
//! written down by others.

use serde::{Deserialize, Serialize};

use super::nodes::Node;
use super::response::{Finish, Response};

/// A response with all that the search knows of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Hypothesis {
    pub response: Response,
    pub score: f32,
    /// See [`super::Extended::logprob`].
    pub logprob: Option<f64>,
    /// What the proposer and the scorer keep of it.
    pub proposer: Node,
    pub scorer: Node,
}

/// The best response, the way to it when a trace was asked for, and what it cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub best: Hypothesis,
    pub trace: Vec<TraceStep>,
    /// [`super::Scorer::token_rewards`] of the best response.
    pub token_rewards: Vec<f32>,
    /// Tokens sampled from the proposer.
    pub sampled: u64,
    /// Response tokens that went through each guide.
    pub fed: u64,
    /// Scored responses that were too long for the scorer; see [`super::Scored::is_cut`].
    pub cut: u64,
    /// This prompt's share of the time: that of each round of calls is divided among the prompts in
    /// flight.
    pub seconds: f64,
    /// What of `seconds` went by in the scorer.
    pub guide_seconds: f64,
}

impl Found {
    /// What a search knows itself; `cost` is sampled, fed and cut. The rest is for the driver to
    /// fill in.
    pub fn of(best: Hypothesis, trace: Vec<TraceStep>, cost: [u64; 3]) -> Self {
        let [sampled, fed, cut] = cost;
        let (token_rewards, seconds, guide_seconds) = (Vec::new(), 0.0, 0.0);
        Self { best, trace, token_rewards, sampled, fed, cut, seconds, guide_seconds }
    }
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
