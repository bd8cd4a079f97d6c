//! llama-cpp-python's server: text prompts, `n` taken and not used, a hidden repeat penalty of 1.1,
//! and the older shape of log-probabilities, with the prompt's where `echo` asks for them.

use serde_json::{Value, json};

use super::knobs::Step;
use super::not_found;
use super::prompts::{completion, finish, models, text_logprobs, usage};
use super::server::{Names, Server, count, stops};
use crate::common::loopback::{Asked, Reply};

const NAMES: Names = Names {
    top_k: "top_k",
    penalty: "repeat_penalty",
    order: &[Step::Penalty, Step::TopK, Step::TopP, Step::MinP, Step::Temperature],
    temperature: 0.8,
    default_top_k: 40,
    default_top_p: 0.95,
    default_min_p: 0.05,
    default_penalty: 1.1,
};

pub fn handle(server: &Server, asked: &Asked) -> Result<Value, Reply> {
    let body = asked.json();
    match asked.path.as_str() {
        "/v1/models" => Ok(models("me", json!({ "permissions": [] }))),
        "/openapi.json" => {
            Ok(json!({ "openapi": "3.1.0", "info": { "title": "🦙 llama.cpp Python API" } }))
        }
        "/extras/tokenize" => {
            let tokens = server.encode(body["input"].as_str().unwrap_or_default(), true);
            Ok(json!({ "tokens": tokens }))
        }
        "/v1/completions" => completions(server, &body),
        _ => Err(not_found(asked)),
    }
}

fn completions(server: &Server, body: &Value) -> Result<Value, Reply> {
    let Some(text) = body["prompt"].as_str() else {
        let message = json!({ "error": {
            "message": "[{'type': 'string_type', 'loc': ('body', 'prompt')}]", "code": null,
            "type": "internal_server_error", "param": null,
        } });
        return Err(Reply::json(500, &message));
    };
    let prompt = server.encode(text, true);
    let most = count(body, "max_tokens", 16);
    if prompt.len() >= server.model.context || prompt.is_empty() {
        return Err(super::error(
            400,
            "context_length_exceeded",
            &format!("This model's maximum context length is {} tokens", server.model.context),
        ));
    }
    let seed = body["seed"].as_i64().map(|seed| seed as u64);
    let answers = server.answer(prompt, 1, seed, &NAMES.knobs(body), most, &stops(body, "stop"));
    let drawn = &answers.drawn[0];
    let echo = body["echo"] == true;
    let mut choice = json!({
        "index": 0, "logprobs": null, "finish_reason": finish(drawn),
        "text": if echo { format!("{text}{}", drawn.text) } else { drawn.text.clone() },
    });
    if !body["logprobs"].is_null() {
        let prompt = echo.then_some(&answers.prompt[..]);
        choice["logprobs"] = text_logprobs(&server.model, drawn, prompt);
    }
    Ok(completion(vec![choice], usage(&[answers])))
}
