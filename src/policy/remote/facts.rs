//! What a server can do: what its dialect says, and what was found by asking it.

use serde::Serialize;

use crate::sampling::Sampling;

/// What is known of a server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Facts {
    /// Continuations of one request, at most.
    pub max_n: usize,
    /// Whether prompts may be token ids, and new ids come back.
    pub ids: Ids,
    pub top_k: bool,
    pub top_p: bool,
    /// Whether samples depend on the seed that is sent.
    pub seed: bool,
    /// Stop strings that it takes, at most; further ones are looked for here.
    pub max_stops: usize,
    /// Whether it tells an end token from a stop string.
    pub tells_stop: bool,
    /// Whether the texts of tokens come back.
    pub token_texts: bool,
    /// Whether log-probabilities are those of the model itself, at temperature 1 without any cut.
    pub logprobs: bool,
    /// Whether it takes settings beyond OpenAI's (`min_p`, repetition penalties).
    pub extra_knobs: bool,
    /// Tokens of prompt and response together, where it says so.
    pub context: Option<usize>,
    /// Whether the space in front of what it says gets lost, as SentencePiece's does where an
    /// answer is decoded by itself.
    pub loses_space: bool,
    /// Whether what it is told not to put before a prompt is not put there.
    pub takes_special: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ids {
    /// Neither in nor back.
    No,
    /// In and back.
    Both,
    /// Both, and a text with ids behind it.
    Mixed,
}

impl Facts {
    /// Settings of the sampling that the server cannot take, as a recipe says them.
    pub fn unsupported(&self, sampling: &Sampling) -> Vec<String> {
        let Sampling::Random { top_k, top_p, .. } = *sampling else { return Vec::new() };
        let mut all = Vec::new();
        if top_k > 0 && !self.top_k {
            all.push(format!("top_k = {top_k}"));
        }
        if top_p < 1.0 && !self.top_p {
            all.push(format!("top_p = {top_p}"));
        }
        all
    }

    /// The sampling without what the server cannot take.
    pub fn supported(&self, sampling: Sampling) -> Sampling {
        match sampling {
            Sampling::Greedy => Sampling::Greedy,
            Sampling::Random { temperature, top_k, top_p } => Sampling::Random {
                temperature,
                top_k: if self.top_k { top_k } else { 0 },
                top_p: if self.top_p { top_p } else { 1.0 },
            },
        }
    }
}
