//! Ollama: texts in and out, a template unless `raw` says no, a prompt that is cut at its front
//! where it does not fit, a prompt count that goes missing where the prompt was read before, and a
//! stream unless it is declined.

use serde_json::{Value, json};

use super::chat::{Prefill, chat};
use super::knobs::{Knobs, Step};
use super::not_found;
use super::prompts::{completion, finish, models, usage};
use super::server::{Names, Server, count, stops};
use crate::common::loopback::{Asked, Reply};

const NAMES: Names = Names {
    top_k: "top_k",
    penalty: "repeat_penalty",
    order: &[Step::Penalty, Step::TopK, Step::Temperature, Step::TopP, Step::MinP],
    temperature: 0.8,
    default_top_k: 40,
    default_top_p: 0.9,
    default_min_p: 0.0,
    default_penalty: 1.1,
};

pub fn handle(server: &Server, asked: &Asked) -> Result<Value, Reply> {
    let body = asked.json();
    match asked.path.as_str() {
        "/api/version" => Ok(json!({ "version": "0.40.0" })),
        "/api/tags" => Ok(json!({ "models": [{ "name": "tiny", "model": "tiny" }] })),
        "/v1/models" => Ok(models("library", json!({}))),
        "/api/generate" => generate(server, &body),
        "/v1/completions" => openai(server, &body),
        "/v1/chat/completions" => {
            let knobs = openai_knobs(&body);
            Ok(chat(server, &body, &knobs, Prefill::ByKey, 1))
        }
        _ => Err(not_found(asked)),
    }
}

/// The end of what does not fit.
fn fitted(server: &Server, mut prompt: Vec<i64>, most: usize) -> Vec<i64> {
    let kept = server.model.context.saturating_sub(most).max(1);
    let too_many = prompt.len().saturating_sub(kept);
    prompt.drain(..too_many);
    prompt
}

fn generate(server: &Server, body: &Value) -> Result<Value, Reply> {
    if body["model"].as_str().is_none_or(|model| model != "tiny") {
        let message = format!("model {} not found, try pulling it first", body["model"]);
        return Err(Reply::json(404, &json!({ "error": message })));
    }
    let Some(text) = body["prompt"].as_str() else {
        let message = "json: cannot unmarshal array into Go struct field .prompt of type string";
        return Err(Reply::json(400, &json!({ "error": message })));
    };
    let text = if body["raw"] == true { text.to_owned() } else { format!("User: {text}\n") };
    if text.is_empty() {
        return Ok(json!({ "model": "tiny", "response": "", "done": true, "done_reason": "load" }));
    }
    let asked = &body["options"];
    let most = asked["num_predict"].as_i64().and_then(|most| usize::try_from(most).ok());
    let most = most.unwrap_or(server.model.context);
    let prompt = fitted(server, server.encode(&text, true), most);
    let seed = asked["seed"].as_i64().map(|seed| seed as u64);
    let answers = server.answer(prompt, 1, seed, &knobs(asked), most, &stops(asked, "stop"));
    let drawn = &answers.drawn[0];
    let mut reply = json!({
        "model": "tiny", "created_at": "2026-11-01T00:00:00Z", "response": drawn.text,
        "done": true, "done_reason": finish(drawn), "eval_count": drawn.ids.len(),
    });
    if answers.cached + 1 < answers.prompt.len() {
        reply["prompt_eval_count"] = json!(answers.prompt.len());
    }
    if body["stream"] != false {
        let part = json!({ "model": "tiny", "response": drawn.text, "done": false });
        return Err(Reply::text(200, format!("{part}\n{reply}\n")));
    }
    Ok(reply)
}

fn knobs(asked: &Value) -> Knobs {
    NAMES.knobs(asked)
}

/// Its OpenAI route takes none of the other knobs, so that they stay what the model's file says.
fn openai_knobs(body: &Value) -> Knobs {
    let taken = json!({ "temperature": body["temperature"], "top_p": body["top_p"] });
    NAMES.knobs(&taken)
}

fn openai(server: &Server, body: &Value) -> Result<Value, Reply> {
    let Some(text) = body["prompt"].as_str() else {
        let message = json!({ "error": { "message": "invalid prompt", "type": "api_error" } });
        return Err(Reply::json(400, &message));
    };
    let most = count(body, "max_tokens", server.model.context);
    let prompt = fitted(server, server.encode(text, true), most);
    let seed = body["seed"].as_i64().map(|seed| seed as u64);
    let answers = server.answer(prompt, 1, seed, &openai_knobs(body), most, &stops(body, "stop"));
    let drawn = &answers.drawn[0];
    let choice = json!({ "index": 0, "text": drawn.text, "finish_reason": finish(drawn) });
    Ok(completion(vec![choice], usage(&[answers])))
}
