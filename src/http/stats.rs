//! How the calls to a server stand, for progress lines and summaries.

use std::collections::BTreeMap;

use super::service::Tokens;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// Requests, tries of the same call included.
    pub sent: u64,
    /// Calls with an answer that can be used.
    pub answered: u64,
    /// Calls that stay without one.
    pub failed: u64,
    /// Tries that failed and were to be repeated, by what went wrong.
    pub retries: BTreeMap<String, u64>,
    /// Calls that are not on their way.
    pub waiting: usize,
    pub in_flight: usize,
    /// How many may be on their way at once now.
    pub allowed: usize,
    /// By the answers, those of earlier runs included.
    pub used: Tokens,
    /// What answers that never came whole may have used besides, at most.
    pub perhaps: Tokens,
    /// Of both, by the budget's prices.
    pub cost: f64,
    /// Since the first call.
    pub seconds: f64,
}

impl Stats {
    pub fn answers_per_second(&self) -> f64 {
        if self.seconds > 0.0 { self.answered as f64 / self.seconds } else { 0.0 }
    }
}
