//! Whether a server tells the log-probabilities of given tokens, and whether they are those that it
//! samples by: servers take what they do not know without a word, and some tell those of the tokens
//! beside.

use serde_json::Value;
use tracing::info;

use super::row::{Row, most};
use super::telling::Telling;
use crate::error::{Error, Result};
use crate::http::Call;
use crate::policy::remote::{Ask, Choice, Dialect, Read, Server};
use crate::prompt::PromptText;
use crate::sampling::Sampling;
use crate::text::{PromptTemplate, Tokenizer};

/// How far the means of both may lie apart: half precision differs by far less, the tokens beside
/// by far more.
const TOLERANCE: f64 = 0.2;
const PROMPT: &str = "The film was good, and so was";
/// Samples that may turn out to be other tokens once they are texts.
const SAMPLES: u64 = 8;

/// Why one way of telling is not taken.
enum Not {
    /// The server does not tell so.
    Told(String),
    /// There is no server, or what was to be sent cannot be.
    Asked(Error),
}

impl From<String> for Not {
    fn from(problem: String) -> Self {
        Self::Told(problem)
    }
}

impl From<Error> for Not {
    fn from(error: Error) -> Self {
        Self::Asked(error)
    }
}

/// A server on trial.
struct Trial<'a> {
    server: &'a Server,
    tokenizer: &'a Tokenizer,
    prompt: Vec<i64>,
}

/// How `server` tells them.
///
/// # Errors
/// [`Error::Recipe`] where it does not.
pub fn find(server: &Server, tokenizer: &Tokenizer, template: &PromptTemplate) -> Result<Telling> {
    let ways: &[Telling] = match server.dialect {
        Dialect::Vllm => &[Telling::Prompt],
        Dialect::Sglang => &[Telling::Input],
        Dialect::OpenAi => &[
            Telling::EchoIds,
            Telling::EchoText { without_bos: false },
            Telling::EchoText { without_bos: true },
        ],
        Dialect::LlamaCpp
        | Dialect::Tgi
        | Dialect::Ollama
        | Dialect::Transformers
        | Dialect::Chat => &[],
    };
    let prompt = template.encode(tokenizer, &PromptText::Plain(PROMPT.to_owned()))?;
    let trial = Trial { server, tokenizer, prompt };
    let mut problem = format!("servers of the dialect `{}` tell none", server.dialect.name());
    for way in ways {
        match trial.of(*way) {
            Ok(()) => {
                info!("{}: scores by {way:?}", server.service.name);
                return Ok(*way);
            }
            Err(Not::Told(found)) => problem = found,
            Err(Not::Asked(error)) => return Err(error),
        }
    }
    Err(Error::recipe(format!(
        "`{}` is to score responses, but its server at {} does not tell the log-probabilities of \
         given texts: {problem}\n\nhint: vLLM, SGLang and llama-cpp-python with `logits_all` tell \
         them; elsewhere name the guide's folder or hub id",
        server.service.name, server.service.url
    )))
}

impl Trial<'_> {
    fn of(&self, way: Telling) -> Result<(), Not> {
        let mut problem = "what it samples are other tokens than those of the tokenizer here";
        for seed in 1..=SAMPLES {
            // 1. What the server samples, and by which log-probabilities.
            let Choice { text, ids, logprobs, .. } = self.sampled(way, seed)?;
            let ids = match ids {
                Some(ids) => ids,
                None => self.tokenizer.encode_continuation(&text)?,
            };
            let Some(logprobs) = logprobs else {
                problem = "it does not even tell those of what it samples";
                break;
            };
            if ids.is_empty() || logprobs.len() < ids.len() {
                continue;
            }
            // 2. What it tells of the same tokens where they are given.
            let row = Row { ids: [&self.prompt[..], &ids].concat(), from: self.prompt.len() };
            let Ok(call) = way.call(self.server, self.tokenizer, &row) else { continue };
            let (told, _) = way.read(&call, &self.ask(&call)?)?;
            let told = way.of_row(&told, &row, self.tokenizer.bos_id())?;
            return Ok(compare(&told, &logprobs)?);
        }
        Err(problem.to_owned().into())
    }

    /// One token behind the prompt.
    fn sampled(&self, way: Telling, seed: u64) -> Result<Choice, Not> {
        let Self { server, tokenizer, prompt } = self;
        let context = match way.text(tokenizer, prompt)? {
            Some(text) => Read::Text(text),
            None => Read::Ids(prompt.clone()),
        };
        let ask = Ask {
            context,
            n: 1,
            max_tokens: 1,
            seed,
            sampling: Sampling::new(1.0, 0, 1.0),
            stop: Vec::new(),
            adds_special: None,
        };
        let body = server.dialect.body(server.model.as_deref(), &ask, &server.facts);
        let call = Call { path: server.path(), body: Some(body), most: most(prompt.len()) };
        let given = server.dialect.read(&self.ask(&call)?)?;
        let choice = given.choices.into_iter().next();
        Ok(choice.ok_or_else(|| "it gives nothing".to_owned())?)
    }

    fn ask(&self, call: &Call) -> Result<Value, Not> {
        let service = &self.server.service;
        let reply = service.ask_once(call).map_err(Error::from)?;
        let is_refusal = !matches!(reply.status, 401 | 403);
        reply.success(service, call).map_err(|failure| match is_refusal {
            true => Not::Told(failure.to_string()),
            false => Not::Asked(failure.into()),
        })
    }
}

fn compare(given: &[f32], sampled: &[f64]) -> Result<(), String> {
    let apart = given.iter().zip(sampled).map(|(given, own)| (f64::from(*given) - own).abs());
    let mean = apart.sum::<f64>() / given.len() as f64;
    match mean <= TOLERANCE {
        true => Ok(()),
        false => Err(format!(
            "those that it tells are not those that it samples by ({mean:.2} apart for a token)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_the_tokens_beside_are_not_taken() {
        let sampled = [-0.5, -3.0, -1.25];
        assert_eq!(compare(&[-0.5, -2.9, -1.2], &sampled), Ok(()), "half precision");
        let problem = compare(&[-3.0, -1.25, -0.5], &sampled).unwrap_err();
        assert!(problem.contains("not those that it samples by (1.67 apart"), "{problem}");
    }
}
