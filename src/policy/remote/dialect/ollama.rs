//! Ollama's native `/api/generate`, raw: the text goes in as it is, one continuation comes back.

use serde_json::{Value, json};

use super::super::ask::{Ask, Choice, End, Given, Read};
use super::shape::text_of;
use crate::sampling::Sampling;

pub fn body(model: Option<&str>, ask: &Ask) -> Value {
    let Read::Text(text) = &ask.context else { return Value::Null };
    let (temperature, top_k, top_p) = match ask.sampling {
        Sampling::Greedy => (0.0, 0, 1.0),
        Sampling::Random { temperature, top_k, top_p } => (temperature, top_k, top_p),
    };
    json!({
        "model": model,
        "prompt": text,
        // No template of its own around it.
        "raw": true,
        "stream": false,
        "options": {
            "num_predict": ask.max_tokens,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "min_p": 0.0,
            "typical_p": 1.0,
            "repeat_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "mirostat": 0,
            "seed": ask.seed,
            "stop": ask.stop,
        },
    })
}

/// Its `stop` is an end token or a stop string.
pub fn read(reply: &Value) -> Result<Given, String> {
    let text = text_of(reply, "response")?.to_owned();
    let end = match reply["done_reason"].as_str() {
        Some("stop") => Some(End::Either),
        Some("length") => None,
        _ => return Err("a continuation has no `done_reason`".to_owned()),
    };
    let sampled = reply["eval_count"].as_u64().map(|count| count as usize);
    let choice = Choice { text, sampled, end, ..Choice::default() };
    let prompt_tokens = reply["prompt_eval_count"].as_u64();
    Ok(Given { choices: vec![choice], prompt_tokens, ..Given::default() })
}
