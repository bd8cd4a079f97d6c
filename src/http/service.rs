//! What is known of a server before it is asked: its address and key, how patient one is with it,
//! what it allows and what it may cost; and what it is asked. Asking is left to `ask.rs`, for one
//! question, and `calls.rs`, for many at once.

use std::time::Duration;

use serde_json::Value;

use super::address::is_address;
use super::secret::Secret;

#[derive(Debug, Clone)]
pub struct Service {
    /// In messages, such as `models.large`.
    pub name: String,
    /// The base address, without a slash at its end.
    pub url: String,
    /// Told to the host of `url` alone.
    pub key: Option<Secret>,
    pub timeouts: Timeouts,
    /// How often a call is tried in all.
    pub attempts: u32,
    pub limits: Limits,
    pub budget: Budget,
}

#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For the name of the host, and for the connection.
    pub connect: Duration,
    /// From the end of a request to the first byte of its answer; also how long a server that has
    /// answered before, or that only says that it is busy, is waited for.
    pub first_byte: Duration,
    /// Between two pieces of an answer.
    pub silence: Duration,
    /// The wait after the first failure, which doubles with each further one.
    pub first_wait: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(600),
            silence: Duration::from_secs(60),
            first_wait: Duration::from_millis(500),
        }
    }
}

/// What the server allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests on their way; fewer where the server refuses so many.
    pub at_once: usize,
    /// In any 60 seconds.
    pub requests_per_minute: Option<u32>,
    /// In any 60 seconds, of prompts and completions together.
    pub tokens_per_minute: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { at_once: 32, requests_per_minute: None, tokens_per_minute: None }
    }
}

/// What may be spent at most, in tokens of prompts and completions together, and in money.
#[derive(Debug, Clone, Copy, Default)]
pub struct Budget {
    pub tokens: Option<u64>,
    pub cost: Option<f64>,
    /// For a million tokens.
    pub price_prompt: f64,
    /// For a million tokens.
    pub price_completion: f64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    pub prompt: u64,
    pub completion: u64,
}

impl Tokens {
    pub fn total(self) -> u64 {
        self.prompt + self.completion
    }

    pub fn and(self, other: Self) -> Self {
        Self { prompt: self.prompt + other.prompt, completion: self.completion + other.completion }
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self { prompt: self.prompt - other.prompt, completion: self.completion - other.completion }
    }
}

/// One request.
#[derive(Debug, Clone)]
pub struct Call {
    /// Behind the base address; one with `http://` or `https://` stands alone.
    pub path: String,
    /// `None` asks by GET.
    pub body: Option<Value>,
    /// What it may cost at most.
    pub most: Tokens,
}

impl Call {
    /// One that costs nothing.
    pub fn get(path: impl Into<String>) -> Self {
        Self { path: path.into(), body: None, most: Tokens::default() }
    }

    /// One that costs nothing.
    pub fn post(path: impl Into<String>, body: Value) -> Self {
        Self { path: path.into(), body: Some(body), most: Tokens::default() }
    }
}

impl Service {
    /// One without key, limits and budget, with the usual patience. A slash at the address's end
    /// is cut.
    pub fn new(name: impl Into<String>, url: &str) -> Self {
        Self {
            name: name.into(),
            url: url.trim_end_matches('/').to_owned(),
            key: None,
            timeouts: Timeouts::default(),
            attempts: 6,
            limits: Limits::default(),
            budget: Budget::default(),
        }
    }

    /// Where a call goes.
    pub fn address(&self, path: &str) -> String {
        if is_address(path) {
            return path.to_owned();
        }
        let path = path.trim_start_matches('/');
        if path.is_empty() { self.url.clone() } else { format!("{}/{path}", self.url) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stand_behind_the_base_address_or_alone() {
        let service = Service::new("models.large", "http://here:8000/v1/");
        for (path, address) in [
            ("completions", "http://here:8000/v1/completions"),
            ("/completions", "http://here:8000/v1/completions"),
            ("", "http://here:8000/v1"),
            ("http://here:8000/tokenize", "http://here:8000/tokenize"),
            ("https://there/x", "https://there/x"),
        ] {
            assert_eq!(service.address(path), address);
        }
    }
}
