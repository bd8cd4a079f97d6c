//! `transformers serve`: texts alone, one continuation a request. Its `/completions` is greedy
//! unless a whole generation config, as a text of JSON, says otherwise.

use serde_json::{Value, json};

use super::super::ask::{Ask, Choice, End, Given, Read};
use super::completions;
use super::shape::text_of;
use crate::sampling::Sampling;

pub fn body(model: Option<&str>, ask: &Ask) -> Value {
    let Read::Text(text) = &ask.context else { return Value::Null };
    let mut config = json!({
        "max_new_tokens": ask.max_tokens,
        "typical_p": 1.0,
        "repetition_penalty": 1.0,
    });
    match ask.sampling {
        Sampling::Greedy => config["do_sample"] = json!(false),
        Sampling::Random { temperature, top_k, top_p } => {
            config["do_sample"] = json!(true);
            config["temperature"] = json!(temperature);
            config["top_k"] = json!(top_k);
            config["top_p"] = json!(top_p);
        }
    }
    if !ask.stop.is_empty() {
        config["stop_strings"] = json!(ask.stop);
    }
    json!({
        "model": model,
        "prompt": text,
        "seed": ask.seed,
        "stream": false,
        "generation_config": config.to_string(),
    })
}

/// A stop string stays in the text, where it is found; an end token at the limit says `length`,
/// which is seen where it is all that came.
pub fn read(reply: &Value) -> Result<Given, String> {
    let sampled = reply["usage"]["completion_tokens"].as_u64().map(|count| count as usize);
    completions::read(reply, |choice| {
        let text = text_of(choice, "text")?.to_owned();
        let is_empty = text.is_empty() && sampled.is_some_and(|count| count > 0);
        let is_over = choice["finish_reason"] == json!("stop") || is_empty;
        let end = is_over.then_some(End::Eos(None));
        Ok(Choice { text, sampled, end, ..Choice::default() })
    })
}
