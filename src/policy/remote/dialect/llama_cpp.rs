//! llama.cpp's native `/completion`: ids and texts in, ids back, and `stop_type`.

use serde_json::{Value, json};

use super::super::ask::{Ask, Choice, End, Given, Read};
use super::shape::{ids_of, in_order, text_of};
use crate::sampling::Sampling;

pub fn body(ask: &Ask) -> Value {
    let (temperature, top_k, top_p) = match ask.sampling {
        Sampling::Greedy => (0.0, 0, 1.0),
        Sampling::Random { temperature, top_k, top_p } => (temperature, top_k, top_p),
    };
    let prompt = match &ask.context {
        Read::Ids(ids) => json!(ids),
        Read::Text(text) => json!(text),
        Read::Mixed(text, ids) => {
            Value::Array([json!(text)].into_iter().chain(ids.iter().map(|id| json!(id))).collect())
        }
        Read::Turns(..) => Value::Null,
    };
    json!({
        "prompt": prompt,
        "n_predict": ask.max_tokens,
        "n": ask.n,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        // All that it would do of its own accord is put off, and the order of the rest is ours.
        "samplers": ["temperature", "top_k", "top_p"],
        "min_p": 0.0,
        "typical_p": 1.0,
        "xtc_probability": 0.0,
        "dry_multiplier": 0.0,
        "top_n_sigma": -1.0,
        "dynatemp_range": 0.0,
        "mirostat": 0,
        "repeat_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "ignore_eos": false,
        "seed": ask.seed,
        "stop": ask.stop,
        "n_probs": 1,
        "post_sampling_probs": false,
        "return_tokens": true,
        "cache_prompt": true,
        "stream": false,
    })
}

/// Several continuations come as a list, one alone.
pub fn read(reply: &Value) -> Result<Given, String> {
    let all = match reply {
        Value::Array(all) => in_order(all),
        one => vec![one],
    };
    let prompt_tokens = all.first().and_then(|one| one["tokens_evaluated"].as_u64());
    let cached_tokens = all.first().and_then(|one| one["timings"]["cache_n"].as_u64());
    let choices = all.into_iter().map(choice).collect::<Result<Vec<_>, _>>()?;
    Ok(Given { choices, prompt_tokens, cached_tokens, prompt_ids: None })
}

fn choice(one: &Value) -> Result<Choice, String> {
    let text = text_of(one, "content")?.to_owned();
    let mut ids = ids_of(&one["tokens"]);
    let end = match one["stop_type"].as_str() {
        // Its id is the last one.
        Some("eos") => Some(End::Eos(ids.as_mut().and_then(Vec::pop))),
        Some("word") => Some(End::Stop),
        Some("limit") => None,
        _ => return Err("a continuation has no `stop_type`".to_owned()),
    };
    let sampled = one["tokens_predicted"].as_u64().map(|count| count as usize);
    // Of tokens that are parts of a character nothing is told, so that the sum is not known.
    let told = one["completion_probabilities"].as_array();
    let told = told.filter(|all| Some(all.len()) == sampled);
    let logprobs: Option<Vec<f64>> =
        told.and_then(|all| all.iter().map(|token| token["logprob"].as_f64()).collect());
    let logprob = logprobs.as_ref().map(|all| all.iter().sum());
    Ok(Choice { text, ids, sampled, end, logprob, logprobs, token_texts: None })
}
