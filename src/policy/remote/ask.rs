//! What is asked of a server and what it gives, whatever it understands: the dialects turn one into
//! requests and replies into the other.

use serde::{Deserialize, Serialize};

use super::facts::Facts;
use crate::prompt::Message;
use crate::sampling::Sampling;

/// One request: some continuations of one response.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    pub context: Read,
    /// Continuations, at least 1.
    pub n: usize,
    pub max_tokens: usize,
    /// Below 2³¹, which every server takes.
    pub seed: u64,
    pub sampling: Sampling,
    /// Those that the server is told; all are looked for in what comes back.
    pub stop: Vec<String>,
    /// Whether the server puts before a text what its tokenizer puts there; `None` leaves it to
    /// the server.
    pub adds_special: Option<bool>,
}

/// What the model reads.
#[derive(Debug, Clone, PartialEq)]
pub enum Read {
    Text(String),
    Ids(Vec<i64>),
    /// A text and ids behind it.
    Mixed(String, Vec<i64>),
    /// The turns before the assistant's, and what it has said of that.
    Turns(Vec<Message>, String),
}

/// One continuation as the server gave it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Only what is new.
    pub text: String,
    /// The new ids, where the server tells them; an end token is none of them.
    pub ids: Option<Vec<i64>>,
    /// The text of each new token, where the server tells them and they make up `text`.
    pub token_texts: Option<Vec<String>>,
    /// Tokens sampled, as far as the server tells; the end token is one of them.
    pub sampled: Option<usize>,
    pub end: Option<End>,
    /// Sum of the log-probabilities of the tokens sampled, at temperature 1 and without any cut;
    /// `None` where the server tells none, or others.
    pub logprob: Option<f64>,
    /// The same, token by token, the end token's last.
    pub logprobs: Option<Vec<f64>>,
}

/// Why a continuation ended; `None` of it is that its tokens were used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// With the end token, where it is told.
    Eos(Option<i64>),
    Stop,
    /// One of the two; the server does not say which.
    Either,
}

/// A reply as it was read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Given {
    pub choices: Vec<Choice>,
    /// Tokens of the prompt, as the server counts them.
    pub prompt_tokens: Option<u64>,
    /// Those that it had read before.
    pub cached_tokens: Option<u64>,
    /// The prompt's ids, where the server tells them.
    pub prompt_ids: Option<Vec<i64>>,
}

impl Given {
    /// As an answer to `ask`: what has been said is no part of what is new, and what the server
    /// leaves open is settled by what was asked.
    pub fn to(mut self, ask: &Ask, facts: &Facts) -> Self {
        let is_plain = ask.sampling == Sampling::new(1.0, 0, 1.0);
        for choice in &mut self.choices {
            if let Read::Turns(_, said) = &ask.context
                && let Some(new) = choice.text.strip_prefix(said.as_str())
            {
                choice.text = new.to_owned();
            }
            if choice.end == Some(End::Either) {
                choice.end = Some(if ask.stop.is_empty() { End::Eos(None) } else { End::Stop });
            }
            // Elsewhere they are those of the distribution that is sampled from.
            if !facts.logprobs && !is_plain {
                (choice.logprob, choice.logprobs) = (None, None);
            }
            let texts = choice.token_texts.take();
            choice.token_texts = texts.and_then(|texts| making_up(texts, &choice.text));
        }
        self
    }

    /// Tokens sampled in all.
    pub fn sampled(&self) -> u64 {
        let of = |choice: &Choice| {
            let ids = choice.ids.as_ref().map(Vec::len);
            let texts = choice.token_texts.as_ref().map(Vec::len);
            let counted = ids.or(texts).unwrap_or(0);
            // What a server says of itself is no less than what came.
            choice.sampled.unwrap_or(0).max(counted) as u64
        };
        self.choices.iter().map(of).sum()
    }
}

/// Those of the tokens that make up the text: an end token may come behind them.
fn making_up(mut texts: Vec<String>, text: &str) -> Option<Vec<String>> {
    let mut bytes = 0;
    let count = texts.iter().take_while(|token| {
        bytes += token.len();
        bytes <= text.len()
    });
    let count = count.count();
    texts.truncate(count);
    (texts.concat() == text).then_some(texts)
}
