//! What the answers of a base that others serve have cost.

use serde::{Deserialize, Serialize};

use crate::recipe::ApiBudget;

/// Requests of all prompts and seeds of a row, and what was paid for them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Served {
    pub requests: u64,
    /// Tokens of prompts, and of responses that were gone on from.
    pub prompt_tokens: u64,
    /// Those of them that the server says it had read before; 0 where it does not say.
    #[serde(default)]
    pub cached_tokens: u64,
    pub completion_tokens: u64,
    /// By the recipe's prices; 0 without any.
    pub cost: f64,
}

impl Served {
    /// Counts one answer.
    pub fn add(
        &mut self,
        [prompt_tokens, cached_tokens, completion_tokens]: [u64; 3],
        prices: &ApiBudget,
    ) {
        let price = |tokens: u64, price: f64| tokens as f64 * price / 1e6;
        self.requests += 1;
        self.prompt_tokens += prompt_tokens;
        self.cached_tokens += cached_tokens;
        self.completion_tokens += completion_tokens;
        self.cost += price(prompt_tokens, prices.price_prompt)
            + price(completion_tokens, prices.price_completion);
    }

    /// Both together.
    pub fn and(&self, other: &Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            prompt_tokens: self.prompt_tokens + other.prompt_tokens,
            cached_tokens: self.cached_tokens + other.cached_tokens,
            completion_tokens: self.completion_tokens + other.completion_tokens,
            cost: self.cost + other.cost,
        }
    }
}
