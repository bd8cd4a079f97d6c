//! How servers tell the log-probabilities of given tokens: one request for each, and how its reply
//! is read. Knows no network.

use serde_json::{Value, json};

use super::row::{Row, most};
use crate::error::{Error, Result};
use crate::http::{Call, Tokens};
use crate::policy::remote::Server;
use crate::text::Tokenizer;

const OTHER_TOKENS: &str = "the server reads the text in other tokens than the tokenizer here";

/// The ways in which servers tell them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// vLLM's `prompt_logprobs`.
    Prompt,
    /// SGLang's `input_token_logprobs`.
    Input,
    /// `echo` with `logprobs` behind a prompt of ids.
    EchoIds,
    /// The same behind a text, which the server makes tokens of: one that begins without the BOS
    /// that the server puts there, or with all that is to be read.
    EchoText { without_bos: bool },
}

/// What a reply tells of the tokens that were sent, or of its own tokens of the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Of each token; none of the first one, and none of what was not asked for.
    logprobs: Vec<Option<f64>>,
    /// Tokens that the server read, as it says.
    read: Option<u64>,
}

impl Telling {
    /// The request for a row.
    pub fn call(self, server: &Server, tokenizer: &Tokenizer, row: &Row) -> Result<Call> {
        let Row { ids, from } = row;
        let (model, url) = (&server.model, &server.service.url);
        let (path, body) = match self {
            Self::Prompt => (
                "completions".to_owned(),
                json!({
                    "model": model, "prompt": ids, "max_tokens": 1, "temperature": 0.0,
                    // That of each token itself, without others.
                    "prompt_logprobs": 0,
                }),
            ),
            Self::Input => (
                format!("{}/generate", url.trim_end_matches("/v1")),
                json!({
                    "input_ids": ids, "return_logprob": true, "logprob_start_len": from - 1,
                    "sampling_params": { "max_new_tokens": 1, "temperature": 0.0 },
                }),
            ),
            Self::EchoIds | Self::EchoText { .. } => {
                let prompt = match self.text(tokenizer, ids)? {
                    Some(text) => json!(text),
                    None => json!(ids),
                };
                ("completions".to_owned(), echo(model.as_deref(), prompt))
            }
        };
        Ok(Call { path, body: Some(body), most: most(ids.len()) })
    }

    /// The text that is sent in place of these ids, where it is one.
    ///
    /// # Errors
    /// Where the text is other tokens, as where a response goes on with a word of the prompt.
    pub fn text(self, tokenizer: &Tokenizer, ids: &[i64]) -> Result<Option<String>> {
        let Self::EchoText { without_bos } = self else { return Ok(None) };
        let is_first = without_bos && ids.first().copied() == tokenizer.bos_id();
        let sent = &ids[usize::from(is_first)..];
        let text = tokenizer.decode_with_special(sent)?;
        match tokenizer.encode(&text)? == sent {
            true => Ok(Some(text)),
            false => Err(Error::failed(format!(
                "{OTHER_TOKENS}: prompt and response meet within one\n\nhint: servers that take \
                 token ids, such as vLLM and SGLang, score every response"
            ))),
        }
    }

    /// What a reply tells, and what it cost.
    ///
    /// # Errors
    /// What is wrong with it, where it does not tell.
    pub fn read(self, call: &Call, reply: &Value) -> Result<(Told, Tokens), String> {
        let none = Value::Null;
        let body = call.body.as_ref().unwrap_or(&none);
        let told = match self {
            Self::Prompt => of_ids(prompt_logprobs(&ids_of(&body["prompt"])?, reply)?),
            Self::Input => of_ids(input_logprobs(&ids_of(&body["input_ids"])?, reply)?),
            Self::EchoIds => {
                let (sent, told) = (ids_of(&body["prompt"])?.len(), echoed(reply)?.logprobs);
                match told.len() == sent {
                    true => of_ids(told),
                    false => return Err(format!("{} tokens are told of {sent}", told.len())),
                }
            }
            Self::EchoText { .. } => echoed(reply)?,
        };
        let prompt = told.read.unwrap_or(call.most.prompt);
        Ok((told, Tokens { prompt, completion: 1 }))
    }

    /// The log-probabilities that the row asks for, of a tokenizer with this BOS.
    ///
    /// # Errors
    /// Where the server read other tokens than those of the row, or tells less.
    pub fn of_row(self, told: &Told, row: &Row, bos: Option<i64>) -> Result<Vec<f32>, String> {
        let Row { ids, from } = row;
        if let Some(read) = told.read.filter(|read| *read != ids.len() as u64) {
            return Err(format!("{OTHER_TOKENS}: {read} of them instead of {}", ids.len()));
        }
        // BOS may be read and not be told of.
        let untold = usize::from(ids.first().copied() == bos);
        let count = told.logprobs.len();
        if count != ids.len() && count + untold != ids.len() {
            return Err(format!("{count} tokens are told of {}", ids.len()));
        }
        let asked = told.logprobs[count - (ids.len() - from)..].iter();
        let finite = asked.map(|told| told.filter(|told| told.is_finite()).map(|told| told as f32));
        finite
            .collect::<Option<Vec<f32>>>()
            .ok_or_else(|| "the server does not tell the log-probability of every token".to_owned())
    }
}

fn of_ids(logprobs: Vec<Option<f64>>) -> Told {
    Told { logprobs, read: None }
}

/// The legacy shape, which tells of the prompt what it tells of what is sampled.
fn echo(model: Option<&str>, prompt: Value) -> Value {
    json!({
        "model": model, "prompt": prompt, "max_tokens": 1, "temperature": 1.0, "top_p": 1.0,
        "echo": true, "logprobs": 1,
    })
}

fn ids_of(value: &Value) -> Result<Vec<i64>, String> {
    let ids = value.as_array().map(|all| all.iter().filter_map(Value::as_i64).collect());
    ids.ok_or_else(|| "no ids were sent".to_owned())
}

/// A map from ids to what is told of them, for each token of the prompt; null for the first.
fn prompt_logprobs(ids: &[i64], reply: &Value) -> Result<Vec<Option<f64>>, String> {
    let told = reply["choices"][0]["prompt_logprobs"].as_array();
    let told = told.ok_or("the reply has no `prompt_logprobs`")?;
    if told.len() != ids.len() {
        return Err(format!("{} tokens are told of {}", told.len(), ids.len()));
    }
    let of = |(told, id): (&Value, &i64)| told[id.to_string()]["logprob"].as_f64();
    Ok(told.iter().zip(ids).map(of).collect())
}

/// Log-probability, id and text of each of the last tokens of the prompt.
fn input_logprobs(ids: &[i64], reply: &Value) -> Result<Vec<Option<f64>>, String> {
    let one = reply.as_array().and_then(|all| all.first()).unwrap_or(reply);
    let told = one["meta_info"]["input_token_logprobs"].as_array();
    let told = told.ok_or("the reply has no `input_token_logprobs`")?;
    let skipped = ids.len().checked_sub(told.len()).ok_or("more tokens are told than were sent")?;
    let is_other = |(told, id): (&Value, &i64)| told[1].as_i64() != Some(*id);
    if told.iter().zip(&ids[skipped..]).any(is_other) {
        return Err("other tokens are told than were sent".to_owned());
    }
    let before = std::iter::repeat_n(None, skipped);
    Ok(before.chain(told.iter().map(|told| told[0].as_f64())).collect())
}

/// What is told of the prompt: the token behind it is listed too, unless it ended all.
fn echoed(reply: &Value) -> Result<Told, String> {
    let choice = &reply["choices"][0];
    let told = choice["logprobs"]["token_logprobs"].as_array();
    let told = told.ok_or("the reply has no `logprobs.token_logprobs`")?;
    let sampled = usize::from(choice["finish_reason"] == "length");
    let logprobs = told[..told.len().saturating_sub(sampled)].iter().map(Value::as_f64);
    Ok(Told { logprobs: logprobs.collect(), read: reply["usage"]["prompt_tokens"].as_u64() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(body: Value) -> Call {
        Call { path: String::new(), body: Some(body), most: most(3) }
    }

    #[test]
    fn each_way_of_telling_is_read_and_its_lies_are_not() {
        let sent = call(json!({ "prompt": [5, 6, 7], "input_ids": [5, 6, 7] }));
        let read = |telling: Telling, reply: Value| {
            telling.read(&sent, &reply).map(|(told, _)| told.logprobs)
        };
        let all = vec![None, Some(-1.0), Some(-2.0)];
        let vllm = |told: Value| json!({ "choices": [{ "prompt_logprobs": told }] });
        let told = json!([null, { "6": { "logprob": -1.0 } }, {
            "9": { "logprob": -0.1 }, "7": { "logprob": -2.0 }
        }]);
        assert_eq!(read(Telling::Prompt, vllm(told)), Ok(all.clone()));
        assert!(read(Telling::Prompt, vllm(json!([null]))).is_err());
        assert!(read(Telling::Prompt, vllm(Value::Null)).is_err(), "it did not hear");

        let sglang = |told: Value| json!({ "meta_info": { "input_token_logprobs": told } });
        let told = json!([[null, 6, null], [-2.0, 7, null]]);
        assert_eq!(read(Telling::Input, sglang(told)), Ok(vec![None, None, Some(-2.0)]));
        assert!(read(Telling::Input, sglang(json!([[-2.0, 8, null]]))).is_err());

        let echo = |told: Value, finish: &str| {
            let logprobs = json!({ "token_logprobs": told });
            json!({ "choices": [{ "logprobs": logprobs, "finish_reason": finish }] })
        };
        let length = echo(json!([null, -1.0, -2.0, -9.0]), "length");
        assert_eq!(read(Telling::EchoIds, length), Ok(all.clone()));
        assert_eq!(read(Telling::EchoIds, echo(json!([null, -1.0, -2.0]), "stop")), Ok(all));
        assert!(read(Telling::EchoIds, echo(json!([-9.0]), "length")).is_err(), "no echo");
    }

    #[test]
    fn a_row_takes_the_last_tokens_and_only_numbers() {
        let row = Row { ids: vec![0, 5, 6, 7], from: 2 };
        let of_row = |logprobs: &[Option<f64>], read| {
            let told = Told { logprobs: logprobs.to_vec(), read };
            Telling::EchoText { without_bos: true }.of_row(&told, &row, Some(0))
        };
        let whole = [None, Some(-1.0), Some(-2.0)];
        assert_eq!(of_row(&whole, Some(4)), Ok(vec![-1.0, -2.0]));
        assert_eq!(of_row(&[&[None][..], &whole].concat(), None), Ok(vec![-1.0, -2.0]));
        assert!(of_row(&whole, Some(5)).is_err(), "BOS was read twice");
        assert!(of_row(&whole[1..], None).is_err(), "one more is not told");
        assert!(of_row(&[None, None, Some(-2.0)], None).is_err());
        assert!(of_row(&[None, Some(f64::NEG_INFINITY), Some(-1.0)], None).is_err());
    }
}
