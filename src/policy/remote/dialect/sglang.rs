//! SGLang's native `/generate`, which has ids both ways and says what ended a text.

use serde_json::{Value, json};

use super::super::ask::{Ask, Choice, End, Given, Read};
use super::shape::{ids_of, text_of};
use crate::sampling::Sampling;

pub fn body(ask: &Ask) -> Value {
    let (temperature, top_k, top_p) = match ask.sampling {
        Sampling::Greedy => (0.0, -1, 1.0),
        Sampling::Random { temperature, top_k: 0, top_p } => (temperature, -1, top_p),
        Sampling::Random { temperature, top_k, top_p } => (temperature, top_k as i64, top_p),
    };
    let mut body = json!({
        "sampling_params": {
            "max_new_tokens": ask.max_tokens,
            "n": ask.n,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "min_p": 0.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "repetition_penalty": 1.0,
            "sampling_seed": ask.seed,
            "stop": ask.stop,
            "ignore_eos": false,
            "skip_special_tokens": true,
            "spaces_between_special_tokens": false,
        },
        "return_logprob": true,
        "stream": false,
    });
    match &ask.context {
        Read::Ids(ids) => body["input_ids"] = json!(ids),
        Read::Text(text) | Read::Mixed(text, _) => {
            body["text"] = json!(text);
            // The prompt's ids come with its log-probabilities alone.
            body["logprob_start_len"] = json!(0);
        }
        Read::Turns(..) => {}
    }
    body
}

pub fn read(reply: &Value) -> Result<Given, String> {
    let all = match reply {
        Value::Array(all) => all.iter().collect(),
        one => vec![one],
    };
    let prompt_tokens = all.first().and_then(|one| one["meta_info"]["prompt_tokens"].as_u64());
    let cached_tokens = all.first().and_then(|one| one["meta_info"]["cached_tokens"].as_u64());
    let told = all.first().and_then(|one| one["meta_info"]["input_token_logprobs"].as_array());
    let prompt_ids = told.and_then(|all| all.iter().map(|one| one[1].as_i64()).collect());
    let choices = all.into_iter().map(choice).collect::<Result<Vec<_>, _>>()?;
    Ok(Given { choices, prompt_tokens, cached_tokens, prompt_ids })
}

fn choice(one: &Value) -> Result<Choice, String> {
    let text = text_of(one, "text")?.to_owned();
    let meta = &one["meta_info"];
    let reason = &meta["finish_reason"];
    let end = match reason["type"].as_str() {
        Some("stop") if reason["matched"].is_string() => Some(End::Stop),
        Some("stop") => Some(End::Eos(reason["matched"].as_i64())),
        Some("abort") => return Err("the request was given up".to_owned()),
        _ => None,
    };
    // Each is [log-probability, id, text or null].
    let told = meta["output_token_logprobs"].as_array();
    let listed = told.and_then(|all| all.iter().map(|one| one[1].as_i64()).collect());
    let mut ids = ids_of(&one["output_ids"]).or(listed);
    let sampled = ids.as_ref().map(Vec::len);
    if let (Some(End::Eos(named)), Some(ids)) = (end, &mut ids)
        && ids.last().copied() == named
    {
        ids.pop();
    }
    let logprobs: Option<Vec<f64>> =
        told.and_then(|all| all.iter().map(|one| one[0].as_f64()).collect());
    let logprob = logprobs.as_ref().map(|all| all.iter().sum());
    Ok(Choice { text, ids, sampled, end, logprob, logprobs, token_texts: None })
}
