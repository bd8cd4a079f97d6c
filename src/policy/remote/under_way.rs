//! Requests on their way to a server, and what they were asked for.

use super::ask::Ask;
use crate::error::Error;
use crate::search::{Extend, Ticket};

/// A request under way.
pub struct Away {
    pub samples: Vec<Sample>,
    pub ask: Ask,
}

/// A continuation that was asked for.
pub struct Sample {
    pub ticket: Ticket,
    pub extend: Extend,
    /// What it is found by once it was paid for.
    pub key: String,
    /// Its random number.
    pub number: u64,
}

/// The same error for another prompt.
pub fn again(error: &Error) -> Error {
    Error::failed(error.to_string())
}

/// What a search asks for that it has let go of.
pub fn not_kept() -> Error {
    Error::failed("a finished or pruned response cannot be extended")
}
