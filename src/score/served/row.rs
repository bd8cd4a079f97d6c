//! What is asked of a server: a row of tokens, and the most that it may cost.

use crate::http::Tokens;

/// Token ids, and from which on their log-probabilities are asked for; at least 1.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Row {
    pub ids: Vec<i64>,
    pub from: usize,
}

/// What a request for `ids` takes at most.
pub fn most(ids: usize) -> Tokens {
    Tokens { prompt: ids as u64, completion: 1 }
}
