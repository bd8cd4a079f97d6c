//! `/completions` as OpenAI documents it, and every server that has it. Beyond that a server takes
//! what it was found to take.

use serde_json::{Value, json};

use super::super::ask::{Ask, Choice, End, Given};
use super::super::facts::Facts;
use super::completions::{self, logprobs};
use super::shape::text_of;

pub fn body(model: Option<&str>, ask: &Ask, facts: &Facts) -> Value {
    let mut body = completions::body(model, ask);
    completions::further(&mut body, ask, facts);
    if facts.token_texts {
        body["logprobs"] = json!(1);
    }
    body
}

/// Its `stop` is an end token or a stop string.
pub fn read(reply: &Value) -> Result<Given, String> {
    let mut given = completions::read(reply, |choice| {
        let text = text_of(choice, "text")?.to_owned();
        let told = logprobs(choice);
        let end = match choice["finish_reason"].as_str() {
            Some("stop") => Some(End::Either),
            Some("content_filter") => return Err("a filter withheld the text".to_owned()),
            _ => None,
        };
        let (token_texts, logprobs) = told.unzip();
        // An end token is not among what is told.
        let logprob = logprobs.as_ref().filter(|_| end.is_none()).map(|all| all.iter().sum());
        let sampled = token_texts.as_ref().map(|texts| texts.len() + usize::from(end.is_some()));
        Ok(Choice { text, token_texts, sampled, end, logprob, logprobs, ids: None })
    })?;
    // Of several continuations it is not known what is counted.
    if let [only] = given.choices.as_mut_slice() {
        let told = reply["usage"]["completion_tokens"].as_u64().map(|count| count as usize);
        only.sampled = only.sampled.or(told);
    }
    Ok(given)
}
