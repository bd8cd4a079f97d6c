//! `sampling` of `[preferences]`, `[steer]` and models: how continuations are drawn, and how
//! responses are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How tokens are drawn; applied in the order of the keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingTable {
    /// What logits are divided by; 0 is greedy, which leaves nothing to choose from where several
    /// samples are drawn.
    #[schemars(range(min = 0), extend("x-also" = ["do_sample"]))]
    pub temperature: f64,
    /// The most likely tokens that are kept; 0 keeps all.
    pub top_k: usize,
    /// The most likely tokens are kept until they have this share of the probability; 1 keeps all.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub top_p: f64,
}

impl Default for SamplingTable {
    fn default() -> Self {
        Self { temperature: 0.7, top_k: 50, top_p: 1.0 }
    }
}

impl SamplingTable {
    /// As `w2s check` says it.
    pub(super) fn words(&self) -> String {
        let Self { temperature, top_k, top_p } = *self;
        if temperature == 0.0 {
            return "greedy".to_owned();
        }
        let top_k = if top_k == 0 { "off".to_owned() } else { top_k.to_string() };
        let top_p = if top_p == 1.0 { "off".to_owned() } else { top_p.to_string() };
        format!("temperature {temperature}, top-k {top_k}, top-p {top_p}")
    }
}

/// What the responses of one model are sampled by.
#[derive(Debug, Clone, PartialEq)]
pub struct Answering {
    pub sampling: SamplingTable,
    pub stop: Vec<String>,
    pub max_new_tokens: usize,
}

impl Answering {
    /// As `w2s check` says it.
    pub(super) fn words(&self) -> String {
        let Self { sampling, stop, max_new_tokens } = self;
        let stop = match stop.is_empty() {
            true => "no stop strings".to_owned(),
            false => format!("stops at {stop:?}"),
        };
        format!("up to {max_new_tokens} new tokens; {}; {stop}", sampling.words())
    }
}
