//! The two parts that a search joins: what proposes continuations, and what scores them.
//!
//! Both hand out [`Node`]s for the responses that they keep something of (cache rows, partial
//! sums), so that a chunk is paid for once and pruning frees memory. Calls take many requests at
//! once and never assume that they come from one prompt.

use std::time::Duration;

use super::nodes::Node;
use super::response::Response;
use crate::error::Result;
use crate::prompt::PromptText;
use crate::sampling::Stream;

/// One continuation to sample: token `t` of the whole response is drawn with number (t, `slot`) of
/// `stream`.
#[derive(Debug, Clone)]
pub struct Extend {
    pub node: Node,
    pub stream: Stream,
    pub slot: u64,
    /// At least 1; a response that is cut here, unfinished, has just as many more.
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
    /// Sum of the log-probabilities of the response's tokens and of its EOS under the base itself,
    /// at temperature 1 and without any cut; `None` where it is not known.
    pub logprob: Option<f64>,
}

/// Tells the answers to requests apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Continues text: the frozen base model.
///
/// Requests are handed in and fetched when they are done: whoever computes them itself does so for
/// all at once in [`Self::collect`], whoever asks somebody else keeps them on their way and gives
/// what is back.
pub trait Proposer {
    /// Reads prompts; each node is the empty response to one.
    fn open(&mut self, prompts: &[&PromptText]) -> Result<Vec<Node>>;

    /// Tokens that one request should have at most. Between requests prompts join and leave, so a
    /// model of our own takes few; `None` where each request pays for its prompt anew.
    fn max_call_tokens(&self) -> Option<usize>;

    /// Takes requests. A response that is already finished must not be extended.
    fn submit(&mut self, requests: Vec<(Ticket, Extend)>);

    /// What is done of all that was handed in, in any order, each with its own outcome; waits for
    /// `patience` at most where that is nothing and only time will change it.
    ///
    /// # Errors
    /// Where no request can be answered any more.
    fn collect(&mut self, patience: Duration) -> Result<Vec<(Ticket, Result<Extended>)>>;

    /// Frees all responses to the prompt that `root` stands for but `live`.
    fn retain(&mut self, root: &Node, live: &[Node]);

    /// Frees all of the prompt that `root` stands for; its requests that are on their way need not
    /// be answered.
    fn release(&mut self, root: &Node);

    /// What may come next, where it can be told.
    fn next_tokens(&mut self) -> Option<&mut dyn NextTokens> {
        None
    }
}

/// Tells what may come next: what token-level beam searches ask of the base.
pub trait NextTokens {
    /// For each response its `count` likeliest next tokens, likeliest first, or all of them in the
    /// order of their ids, and their log-probabilities at temperature 1 without any cut.
    fn likeliest(&mut self, nodes: &[Node], count: Option<usize>) -> Result<Vec<Vec<(i64, f32)>>>;

    /// Responses whose next tokens have been told, each with one of them behind it.
    fn append(&mut self, continuations: &[(Node, i64)]) -> Result<Vec<(Node, Response)>>;

    /// The tokens that end a response.
    fn end_tokens(&self) -> Vec<i64>;
}

/// One response to score, as a continuation of the response that `parent` stands for.
#[derive(Debug, Clone)]
pub struct ToScore {
    pub parent: Node,
    pub response: Response,
    /// Whether the scorer's end-of-sequence token comes behind it.
    pub ends: bool,
}

/// The score of a response and the scorer's node for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    pub node: Node,
    pub score: f32,
    /// Tokens of the response that went through each guide for this.
    pub fed: u64,
    /// Whether the response was too long for the scorer, so that its score is that of its
    /// beginning.
    pub is_cut: bool,
}

/// Judges responses: the guide pair.
///
/// A response may be longer than a scorer can read. It is then worth what the scorer reads of it,
/// its beginning, whose score does not hold the end: too long a response ends no search, whoever
/// the scorer is.
pub trait Scorer {
    /// Reads prompts; each node is the empty response to one, worth 0.
    fn open(&mut self, prompts: &[&PromptText]) -> Result<Vec<Node>>;

    /// Scores whole responses, in order.
    fn score(&mut self, requests: &[ToScore]) -> Result<Vec<Scored>>;

    /// The terms whose sum is the score of a live node, one for each of the scorer's tokens; empty
    /// where the scorer gives the sum alone.
    fn token_rewards(&self, _node: &Node) -> Vec<f32> {
        Vec::new()
    }

    /// Frees all responses to the prompt that `root` stands for but `live`.
    fn retain(&mut self, root: &Node, live: &[Node]);

    /// Frees all of the prompt that `root` stands for.
    fn release(&mut self, root: &Node) {
        self.retain(root, &[]);
    }

    /// What next tokens are worth, where it can be told.
    fn next_scores(&mut self) -> Option<&mut dyn NextScores> {
        None
    }
}

/// A response as it stands, and what each token behind it would add to its score.
#[derive(Debug, Clone, PartialEq)]
pub struct Weighed {
    pub scored: Scored,
    /// By the proposer's token ids; −∞ where an id is no token. 0 for what can be read no more.
    pub next: Vec<f32>,
    /// What the scorer's end-of-sequence token would add.
    pub end: f32,
}

/// Tells what next tokens are worth: what token-level beam search under guides asks of a scorer.
pub trait NextScores {
    /// Scores responses as [`Scorer::score`] does, none of which ends, and weighs their next
    /// tokens; in order.
    fn weigh(&mut self, requests: &[ToScore]) -> Result<Vec<Weighed>>;
}
