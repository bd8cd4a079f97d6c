//! vLLM's `/completions`: ids in and back, and `stop_reason`, which tells stop strings from end
//! tokens.

use serde_json::{Value, json};

use super::super::ask::{Ask, Choice, End, Given};
use super::completions::{self, logprobs};
use super::shape::{ids_of, text_of};
use crate::sampling::Sampling;

pub fn body(model: Option<&str>, ask: &Ask) -> Value {
    let top_k = match ask.sampling {
        Sampling::Random { top_k, .. } if top_k > 0 => top_k as i64,
        _ => -1,
    };
    let mut body = completions::body(model, ask);
    let more = json!({
        "top_k": top_k,
        "min_p": 0.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
        "ignore_eos": false,
        "skip_special_tokens": true,
        "spaces_between_special_tokens": false,
        "return_token_ids": true,
        // That of the token itself, without others.
        "logprobs": 0,
    });
    let (Value::Object(body_map), Value::Object(more)) = (&mut body, more) else { return body };
    body_map.extend(more);
    if let Some(adds) = ask.adds_special {
        body["add_special_tokens"] = json!(adds);
    }
    body
}

pub fn read(reply: &Value) -> Result<Given, String> {
    let mut given = completions::read(reply, |choice| {
        let text = text_of(choice, "text")?.to_owned();
        let mut ids = ids_of(&choice["token_ids"]);
        let reason = &choice["stop_reason"];
        let end = match choice["finish_reason"].as_str() {
            Some("stop") if reason.is_string() => Some(End::Stop),
            // An end token of generation_config.json beyond the first is named.
            Some("stop") => Some(End::Eos(reason.as_i64())),
            Some("abort" | "error") => return Err("the request was given up".to_owned()),
            _ => None,
        };
        let logprobs = logprobs(choice).map(|(_, logprobs)| logprobs);
        let logprob = logprobs.as_ref().map(|all| all.iter().sum());
        let sampled = ids.as_ref().map(Vec::len);
        if let (Some(End::Eos(named)), Some(ids)) = (end, &mut ids) {
            let last = ids.pop();
            let end = End::Eos(named.or(last));
            let ids = Some(std::mem::take(ids));
            let end = Some(end);
            return Ok(Choice { text, ids, sampled, end, logprob, logprobs, token_texts: None });
        }
        Ok(Choice { text, ids, sampled, end, logprob, logprobs, token_texts: None })
    })?;
    given.prompt_ids = ids_of(&reply["choices"][0]["prompt_token_ids"]);
    Ok(given)
}
