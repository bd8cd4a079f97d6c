//! `transformers serve` 5.24, as it was seen to answer: text prompts, one answer, greedy whatever
//! the temperature unless `generation_config` asks for samples, stop strings that stay in the text,
//! `length` for an end token at the very limit, and no space in front where the tokenizer is of
//! SentencePiece's kind.

use serde_json::{Value, json};

use super::knobs::Knobs;
use super::model::End;
use super::not_found;
use super::prompts::{completion, models, usage};
use super::server::{Names, Server, count, stops};
use crate::common::loopback::{Asked, Reply};

const KNOWN: [&str; 18] = [
    "model",
    "prompt",
    "max_tokens",
    "temperature",
    "top_p",
    "seed",
    "stop",
    "frequency_penalty",
    "suffix",
    "stream",
    "generation_config",
    // Taken and not used.
    "n",
    "echo",
    "logprobs",
    "best_of",
    "presence_penalty",
    "logit_bias",
    "user",
];

const NAMES: Names = Names {
    top_k: "top_k",
    penalty: "repetition_penalty",
    order: &Knobs::USUAL,
    temperature: 1.0,
    default_top_k: 50,
    default_top_p: 1.0,
    default_min_p: 0.0,
    default_penalty: 1.0,
};

pub fn handle(server: &Server, asked: &Asked) -> Result<Value, Reply> {
    match asked.path.as_str() {
        "/health" => Ok(json!({ "status": "ok" })),
        "/openapi.json" => Ok(json!({ "openapi": "3.1.0", "info": { "title": "FastAPI" } })),
        "/v1/models" => Ok(models("local", json!({ "created": 0 }))),
        "/v1/completions" => completions(server, &asked.json()),
        _ => Err(not_found(asked)),
    }
}

fn detail(status: u16, message: String) -> Reply {
    Reply::json(status, &json!({ "detail": message }))
}

fn broken() -> Reply {
    Reply::text(500, "Internal Server Error")
}

fn completions(server: &Server, body: &Value) -> Result<Value, Reply> {
    let keys = body.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
    if let Some(key) = keys.into_iter().find(|key| !KNOWN.contains(key)) {
        return Err(detail(422, format!("Unexpected fields in the request: {{'{key}'}}")));
    }
    let Some(text) = body["prompt"].as_str() else {
        return Err(detail(400, "prompt must be a string.".into()));
    };
    if body["model"].as_str().is_some_and(|model| model != "tiny") {
        let wanted = &body["model"];
        return Err(detail(400, format!("Server is pinned to 'tiny'; requested {wanted}.")));
    }
    let prompt = server.encode(text, true);
    if prompt.is_empty() || prompt.len() >= server.model.context {
        return Err(broken());
    }
    let asked = generation(body)?;
    let most = count(&asked, "max_new_tokens", 1024);
    let mut knobs = NAMES.knobs(&asked);
    if asked["do_sample"] != true {
        knobs.temperature = 0.0;
    } else if knobs.temperature == 0.0 {
        return Err(broken());
    }
    if most == 0 {
        return Err(broken());
    }
    let seed = body["seed"].as_u64();
    let answers = server.answer(prompt, 1, seed, &knobs, most, &stops(&asked, "stop_strings"));
    let drawn = &answers.drawn[0];
    let is_full = drawn.ids.len() >= most || drawn.end == End::Limit;
    // The new tokens by themselves: a SentencePiece tokenizer then drops the space in front.
    let text = server.model.tokenizer.decode(&drawn.ids).unwrap();
    let choice = json!({
        "index": 0, "text": text, "finish_reason": if is_full { "length" } else { "stop" },
    });
    Ok(completion(vec![choice], usage(&[answers])))
}

/// The generation config of the request under its other keys.
fn generation(body: &Value) -> Result<Value, Reply> {
    let mut asked = match &body["generation_config"] {
        Value::Null => json!({}),
        Value::String(text) => serde_json::from_str(text).map_err(|_| broken())?,
        _ => return Err(broken()),
    };
    for name in ["temperature", "top_p"] {
        if !body[name].is_null() {
            asked[name] = body[name].clone();
        }
    }
    if body["temperature"] == 0.0 {
        asked["do_sample"] = json!(false);
    }
    if !body["max_tokens"].is_null() {
        asked["max_new_tokens"] = body["max_tokens"].clone();
    }
    if let Some(penalty) = body["frequency_penalty"].as_f64() {
        asked["repetition_penalty"] = json!(1.0 + penalty);
    }
    if !body["stop"].is_null() {
        asked["stop_strings"] = body["stop"].clone();
    }
    Ok(asked)
}
