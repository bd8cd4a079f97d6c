//! Servers that tell all of what may come next, of how many tokens, and why others cannot be
//! tilted. How it is asked is left to the dialects.

use serde_json::{Value, json};

use super::dialect::{Dialect, Route, Told};
use super::facts::Ids;
use super::server::{Server, get};
use crate::error::{Error, Result};
use crate::http::{Call, Calls, Tokens};

/// More than any model has, so that a server says how many it tells at most.
const TOO_MANY: usize = 1_000_000_000;

impl Server {
    /// The tokens of which the server tells log-probabilities, behind any ids: at least those of a
    /// tokenizer with `needed` tokens.
    ///
    /// # Errors
    /// [`Error::Recipe`] with the reason where it does not tell them all.
    pub fn vocabulary_told(&self, needed: usize) -> Result<usize> {
        let told = match self.dialect {
            Dialect::LlamaCpp if self.facts.ids != Ids::No => {
                let list = get(&self.service, Route::OpenAi("/models"))?.unwrap_or_default();
                list["data"][0]["meta"]["n_vocab"].as_u64().map(|tokens| tokens as usize)
            }
            Dialect::Vllm => self.most_told()?,
            _ => None,
        };
        match told {
            Some(told) if told >= needed => Ok(told),
            told => Err(self.tells_too_few(told, needed)),
        }
    }

    /// How many likely next tokens vLLM tells: it refuses more with that number.
    fn most_told(&self) -> Result<Option<usize>> {
        let body = json!({
            "model": self.model, "prompt": "The", "max_tokens": 1, "logprobs": TOO_MANY,
            "return_tokens_as_token_ids": true,
        });
        Ok(match self.try_once(body)? {
            Ok(reply) => {
                let told = &reply["choices"][0]["logprobs"]["top_logprobs"][0];
                told.as_object().map(|told| told.len())
            }
            Err(refusal) => {
                let number = refusal.split("max allowed: ").nth(1).unwrap_or_default();
                number.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse().ok()
            }
        })
    }

    fn tells_too_few(&self, told: Option<usize>, needed: usize) -> Error {
        let (name, url, dialect) = (&self.service.name, &self.service.url, self.dialect.name());
        let (what, hint) = match (self.dialect, told) {
            (Dialect::Vllm, _) => (
                told.map_or("not all of them".to_owned(), |told| {
                    format!("{told} likely ones of {needed}, at most")
                }),
                "start vLLM with `--max-logprobs -1`; `cbs` and `best_of_n` need nothing of it",
            ),
            (_, Some(told)) => (
                format!("{told}, and `api.tokenizer` has {needed}"),
                "give the tokenizer of the model that is served",
            ),
            _ => (
                "none, or a few likely ones".to_owned(),
                "llama.cpp tells them all, and vLLM with `--max-logprobs -1`; elsewhere use `cbs` \
                 or `best_of_n`, whose guides read text",
            ),
        };
        Error::recipe(format!(
            "`{name}`: guides are added to the log-probabilities of all next tokens, and the \
             server at {url} ({dialect}) tells {what}\n\nhint: {hint}"
        ))
    }
}

/// How replies are read, and what they cost.
pub fn calls(server: &Server, vocabulary: usize) -> Calls<Told> {
    let dialect = server.dialect;
    Calls::start(server.service.clone(), move |call: &Call, reply: Value| {
        let told = dialect.read_next_tokens(&reply, vocabulary)?;
        let prompt = told.prompt_tokens.unwrap_or(call.most.prompt);
        Ok((told, Tokens { prompt, completion: 1 }))
    })
}
