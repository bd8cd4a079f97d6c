//! What becomes of prompts: what stands before them, what is told of them, how long they may be.

use serde_json::{Value, json};

use super::super::dialect::{Dialect, Route};
use super::{Finding, Prober, TEXT, finding};
use crate::error::Result;

/// What models call the token before a text.
const FIRST_TOKENS: [&str; 5] =
    ["<s>", "<|begin_of_text|>", "<|endoftext|>", "<bos>", "<|startoftext|>"];

/// Likely next tokens that vLLM tells where it is not told to tell all, and one more.
const SOME: usize = 21;

impl Prober {
    pub(super) fn next_tokens(&self) -> String {
        match self.server.vocabulary_told(SOME) {
            Ok(told) => format!("all {told} told: guides can be added (`eft`, `tilt`)"),
            Err(_) => "not all are told: neither `eft` nor `tilt`".to_owned(),
        }
    }

    pub(super) fn prompts(&self) -> Result<Vec<Finding>> {
        let context = self.server.facts.context;
        let context = context.map_or("not told".to_owned(), |tokens| format!("{tokens} tokens"));
        Ok(vec![
            finding("before a text", self.before()?),
            finding("echo", self.echo()?),
            finding("prompt log-probabilities", self.prompt_logprobs()?),
            finding("tokenizer routes", self.tokenizer_routes()?),
            finding("context", context),
        ])
    }

    /// Tokens of a prompt, as the server counts them.
    fn count(&self, text: &str) -> Result<Option<i64>> {
        let given = self.given(&self.ask(text, 1))?.ok();
        Ok(given.and_then(|given| given.prompt_tokens).map(|count| count as i64))
    }

    /// How many tokens stand before a text that does not bring them, and whether one that it brings
    /// stands there twice. By how the count grows with the text.
    fn before(&self) -> Result<String> {
        if self.server.dialect == Dialect::Chat {
            return Ok("the chat's own template".to_owned());
        }
        // Byte-level tokenizers know the one as a word, those of SentencePiece's kind the other.
        let (mut word, mut least) = ("", None);
        for tried in [" film", "film"] {
            if let Some(found) = self.added(tried)?
                && least.is_none_or(|(added, _)| found.0 < added)
            {
                (word, least) = (tried, Some(found));
            }
        }
        let Some((added, one)) = least else {
            return Ok("not told: it counts no tokens of prompts, or not evenly".to_owned());
        };
        let mut said = match added {
            0 => "nothing".to_owned(),
            count => format!("{count} of its own, so no text should bring it"),
        };
        for first in FIRST_TOKENS {
            let count = self.count(&format!("{first}{word}"))?;
            let more = count.map_or(9, |count| count - one);
            match more {
                1 if added > 0 => said.push_str(&format!("; `{first}` stands there twice")),
                1 => said.push_str(&format!("; `{first}` is one token")),
                0 if added > 0 => said.push_str(&format!("; `{first}` stands there once")),
                _ => {}
            }
        }
        Ok(said)
    }

    /// Tokens that stand before this word, once and again, and all that the word alone has.
    fn added(&self, word: &str) -> Result<Option<(i64, i64)>> {
        let mut counts = Vec::new();
        for text in [word.to_owned(), format!("{word} film"), format!("{word} film film")] {
            counts.push(self.count(&text)?);
        }
        let [Some(one), Some(two), Some(three)] = counts[..] else { return Ok(None) };
        let (added, is_even) = (2 * one - two, three - two == two - one);
        Ok((is_even && added >= 0).then_some((added, one)))
    }

    /// Whether a prompt comes back where that is asked for.
    fn echo(&self) -> Result<String> {
        let mut body = json!({
            "prompt": TEXT, "max_tokens": 1, "echo": true, "logprobs": 1, "temperature": 0,
        });
        if let Some(model) = &self.server.model {
            body["model"] = json!(model);
        }
        let reply = match self.post(Route::OpenAi("/completions"), body)? {
            Ok(reply) => reply,
            Err(said) => return Ok(format!("refused: {said}")),
        };
        let choice = &reply["choices"][0];
        let comes = choice["text"].as_str().is_some_and(|text| text.starts_with(TEXT));
        let told = choice["logprobs"]["token_logprobs"].as_array().map_or(0, Vec::len);
        Ok(match (comes, told > 2) {
            (true, true) => "yes, with log-probabilities",
            (true, false) => "yes, without log-probabilities",
            (false, _) => "ignored: answered as if it were not asked for",
        }
        .to_owned())
    }

    /// By the dialect's own way.
    fn prompt_logprobs(&self) -> Result<String> {
        let model = self.server.model.as_deref();
        let (route, body, place): (Route, Value, fn(&Value) -> &Value) = match self.server.dialect {
            Dialect::Vllm => (
                Route::OpenAi("/completions"),
                json!({
                    "model": model, "prompt": TEXT, "max_tokens": 1, "prompt_logprobs": 0,
                }),
                |reply| &reply["choices"][0]["prompt_logprobs"],
            ),
            Dialect::Sglang => (
                Route::Native("/generate"),
                json!({
                    "text": TEXT, "sampling_params": { "max_new_tokens": 1 },
                    "return_logprob": true, "logprob_start_len": 0,
                }),
                |reply| &reply["meta_info"]["input_token_logprobs"],
            ),
            Dialect::Tgi => (
                Route::Native("/generate"),
                json!({ "inputs": TEXT, "parameters": {
                    "max_new_tokens": 1, "details": true, "decoder_input_details": true,
                } }),
                |reply| &reply["details"]["prefill"],
            ),
            _ => {
                return Ok(match self.echo()?.as_str() {
                    "yes, with log-probabilities" => "by `echo`".to_owned(),
                    _ => "none".to_owned(),
                });
            }
        };
        Ok(match self.post(route, body)? {
            Ok(reply) if place(&reply).as_array().is_some_and(|all| all.len() > 1) => {
                "yes, by its own way".to_owned()
            }
            Ok(_) => "none".to_owned(),
            Err(said) => format!("refused: {said}"),
        })
    }

    /// Where texts can be made tokens.
    fn tokenizer_routes(&self) -> Result<String> {
        let body = json!({
            "model": self.server.model, "prompt": TEXT, "content": TEXT, "inputs": TEXT,
            "input": TEXT,
        });
        let mut found = Vec::new();
        for path in ["/tokenize", "/extras/tokenize"] {
            let reply = self.post(Route::Native(path), body.clone())?;
            let has = |reply: &Value| {
                let tokens = if reply.is_array() { reply } else { &reply["tokens"] };
                tokens.as_array().is_some_and(|tokens| !tokens.is_empty())
            };
            if reply.as_ref().is_ok_and(has) {
                found.push(path);
            }
        }
        Ok(if found.is_empty() { "none".to_owned() } else { found.join(", ") })
    }
}
