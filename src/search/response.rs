//! Responses, and how they end. Texts and ids are made by proposers.

use serde::{Deserialize, Serialize};

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

/// A response so far: the text, the proposer's token ids (without EOS), and how it ended, if it
/// did.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    pub text: String,
    pub ids: Vec<i64>,
    pub finish: Option<Finish>,
}

impl Response {
    /// Nothing said yet.
    pub fn empty() -> Self {
        Self { text: String::new(), ids: Vec::new(), finish: None }
    }
}
