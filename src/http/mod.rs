//! A client for bad days: requests of JSON to a server that may be slow, busy, restarting, broken
//! or expensive, several at a time, within the server's limits and the user's budget.
//!
//! Knows nothing of language models but that what they are asked costs tokens. What is asked, and
//! what an answer means, is left to those who ask.

pub mod address;
mod ask;
mod calls;
mod failure;
mod ledger;
mod line;
mod of_recipe;
mod pace;
mod patience;
mod pump;
mod retry_after;
mod secret;
mod service;
mod stats;
mod wait;
mod window;
mod words;
mod workers;

pub use calls::Calls;
pub use failure::{Cause, Failure};
pub use line::{Body, Reply};
pub use of_recipe::service;
pub use retry_after::retry_after;
pub use secret::Secret;
pub use service::{Budget, Call, Limits, Service, Timeouts, Tokens};
pub use stats::Stats;
pub use wait::pause;
pub use words::one_line;
pub use workers::Answer;
