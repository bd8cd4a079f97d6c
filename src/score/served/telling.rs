//! How servers tell the log-probabilities of given tokens: one request for each, and how its reply
//! is read. Knows no network.

use serde_json::{Value, json};

use super::{Row, most};
use crate::error::Result;
use crate::http::{Call, Tokens};
use crate::policy::remote::Server;
use crate::text::Tokenizer;

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
    /// Where each token of a text begins, in characters, and where the text ends.
    offsets: Vec<usize>,
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

    /// Whether it sends texts.
    pub fn reads_texts(self) -> bool {
        matches!(self, Self::EchoText { .. })
    }

    /// The text that is sent in place of these ids, where it is one.
    pub fn text(self, tokenizer: &Tokenizer, ids: &[i64]) -> Result<Option<String>> {
        let Self::EchoText { without_bos } = self else { return Ok(None) };
        let is_first = without_bos && ids.first().copied() == tokenizer.bos_id();
        tokenizer.decode_with_special(&ids[usize::from(is_first)..]).map(Some)
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
                let sent = ids_of(&body["prompt"])?.len();
                let told = echoed(reply)?;
                if told.logprobs.len() < sent {
                    return Err("the reply has fewer tokens than the prompt".to_owned());
                }
                of_ids(told.logprobs[..sent].to_vec())
            }
            Self::EchoText { .. } => {
                let text = body["prompt"].as_str().unwrap_or_default();
                echoed(reply)?.up_to(text.chars().count())
            }
        };
        let prompt = told.read.unwrap_or(call.most.prompt);
        Ok((told, Tokens { prompt, completion: 1 }))
    }

    /// The log-probabilities that the row asks for.
    ///
    /// # Errors
    /// Where the server read other tokens than those of the row, or tells less.
    pub fn of_row(self, told: &Told, row: &Row, tokenizer: &Tokenizer) -> Result<Vec<f32>, String> {
        let Row { ids, from } = row;
        let asked = ids.len() - from;
        if self.reads_texts() {
            told.same_tokens(row, tokenizer)?;
        }
        let first = told.logprobs.len().checked_sub(asked).ok_or("too few tokens are told")?;
        let values = told.logprobs[first..]
            .iter()
            .map(|told| told.filter(|told| told.is_finite()).map(|told| told as f32));
        values
            .collect::<Option<Vec<f32>>>()
            .ok_or_else(|| "the server does not tell the log-probability of every token".to_owned())
    }
}

impl Told {
    /// The tokens of a text of so many characters; what was sampled behind it is left out.
    fn up_to(mut self, characters: usize) -> Self {
        let start = self.offsets.first().copied().unwrap_or(0);
        let end = start + characters;
        // What stands before the text, as BOS does, shifts it.
        let sampled = self.offsets.iter().rposition(|offset| *offset >= end);
        let count = sampled.unwrap_or(self.offsets.len());
        self.logprobs.truncate(count);
        self.offsets.truncate(count + 1);
        self
    }

    /// Whether a text was read as the row has it: as many tokens, and a token's border where the
    /// asked ones begin.
    fn same_tokens(&self, row: &Row, tokenizer: &Tokenizer) -> Result<(), String> {
        let Row { ids, from } = row;
        let other = |what: String| {
            format!("the server reads the text in other tokens than the tokenizer here: {what}")
        };
        if let Some(read) = self.read.filter(|read| *read != ids.len() as u64) {
            return Err(other(format!("{read} instead of {}", ids.len())));
        }
        let asked = ids.len() - from;
        let first = self.logprobs.len().checked_sub(asked);
        let first = first.ok_or_else(|| other(format!("{} of them", self.logprobs.len())))?;
        // An end token may have no text.
        let ends = usize::from(tokenizer.eos_id() == ids.last().copied());
        let last = self.logprobs.len() - ends;
        let characters = |ids: &[i64]| {
            let text = tokenizer.decode_with_special(ids).unwrap_or_default();
            text.chars().count()
        };
        let (whole, before) = (&ids[..ids.len() - ends], &ids[..*from]);
        let expected = characters(whole).checked_sub(characters(before));
        let found = (self.offsets.get(last).zip(self.offsets.get(first)))
            .and_then(|(end, start)| end.checked_sub(*start));
        match found.is_some() && found == expected {
            true => Ok(()),
            false => Err(other("the response begins inside of one".to_owned())),
        }
    }
}

fn of_ids(logprobs: Vec<Option<f64>>) -> Told {
    Told { logprobs, offsets: Vec::new(), read: None }
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

fn echoed(reply: &Value) -> Result<Told, String> {
    let choice = &reply["choices"][0];
    let list = |key: &str| {
        let list = choice["logprobs"][key].as_array();
        list.ok_or_else(|| format!("the reply has no `logprobs.{key}`"))
    };
    let logprobs = list("token_logprobs")?.iter().map(Value::as_f64).collect();
    let offsets = list("text_offset")?.iter();
    let offsets = offsets.map(|offset| offset.as_u64().unwrap_or(0) as usize).collect();
    Ok(Told { logprobs, offsets, read: reply["usage"]["prompt_tokens"].as_u64() })
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

        let echo = |told: Value| json!({ "choices": [{ "logprobs": { "token_logprobs": told, "text_offset": [] } }] });
        assert_eq!(read(Telling::EchoIds, echo(json!([null, -1.0, -2.0, -9.0]))), Ok(all));
        assert!(read(Telling::EchoIds, echo(json!([-9.0]))).is_err(), "only what was sampled");
    }

    #[test]
    fn of_an_echoed_text_the_sampled_token_is_no_part() {
        let sent = call(json!({ "prompt": "ab cd" }));
        let reply = json!({
            "usage": { "prompt_tokens": 2 },
            "choices": [{ "logprobs": {
                "token_logprobs": [null, -1.0, -9.0], "text_offset": [0, 2, 5]
            } }]
        });
        let (told, _) = Telling::EchoText { without_bos: false }.read(&sent, &reply).unwrap();
        assert_eq!(told.logprobs, [None, Some(-1.0)]);
        assert_eq!((told.offsets, told.read), (vec![0, 2, 5], Some(2)));
    }
}
