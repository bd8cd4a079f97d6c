//! What evaluation knows of one response; the statistics over many are in `summary.rs` and
//! `length_control.rs`.

use std::collections::BTreeMap;

/// One response as evaluation sees it.
#[derive(Debug, Clone)]
pub struct Answer {
    pub seed: u64,
    pub id: String,
    pub prompt: String,
    pub response: String,
    /// Ended by itself, not by the token budget.
    pub complete: bool,
    pub score: Option<f64>,
    pub gold_reward: Option<f64>,
    /// What judges beside the gold say, by their names.
    pub judges: BTreeMap<String, f64>,
    pub base_logprob_per_token: Option<f64>,
    pub response_tokens: usize,
    pub base_tokens: u64,
    pub guide_tokens: u64,
    pub seconds: f64,
    /// The guides' part of `seconds`, where they score.
    pub guide_seconds: Option<f64>,
}
