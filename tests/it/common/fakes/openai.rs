//! OpenAI's older route: `n`, ids in but never out, no knob but temperature and top-p, an error for
//! every key that it does not know, four stop strings, and log-probabilities of sampled tokens
//! only.

use serde_json::{Value, json};

use super::chat::{Prefill, chat};
use super::knobs::Knobs;
use super::prompts::{completion, finish, models, prompts, text_logprobs, usage};
use super::server::{Names, Server, count, number, stops};
use super::{error, not_found};
use crate::common::loopback::{Asked, Reply};

const KNOWN: [&str; 17] = [
    "model",
    "prompt",
    "n",
    "max_tokens",
    "temperature",
    "top_p",
    "stop",
    "seed",
    "stream",
    "logprobs",
    "echo",
    "user",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "best_of",
    "suffix",
];

const NAMES: Names = Names {
    top_k: "top_k",
    penalty: "repetition_penalty",
    order: &Knobs::USUAL,
    temperature: 1.0,
    default_top_k: 0,
    default_top_p: 1.0,
    default_min_p: 0.0,
    default_penalty: 1.0,
};

pub fn handle(server: &Server, asked: &Asked) -> Result<Value, Reply> {
    let body = asked.json();
    match asked.path.as_str() {
        "/v1/models" => Ok(models("system", json!({}))),
        "/v1/completions" => completions(server, &body),
        "/v1/chat/completions" => {
            let n = count(&body, "n", 1);
            Ok(chat(server, &body, &NAMES.knobs(&body), Prefill::Ends, n))
        }
        _ => Err(error(404, "unknown_url", "Invalid URL")),
    }
    .map_err(|reply| if reply.status == 404 { not_found(asked) } else { reply })
}

fn check(body: &Value) -> Result<(), Reply> {
    let keys = body.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
    if let Some(key) = keys.into_iter().find(|key| !KNOWN.contains(key)) {
        let message = format!("Unrecognized request argument supplied: {key}");
        return Err(error(400, "unknown_argument", &message));
    }
    if body["model"].as_str().is_none_or(|model| model != "tiny") {
        return Err(error(404, "model_not_found", "The model does not exist"));
    }
    let refused = [
        (stops(body, "stop").len() > 4, "expected an array with maximum length 4: 'stop'"),
        (count(body, "logprobs", 0) > 5, "5 is the maximum of 'logprobs'"),
        (count(body, "n", 1) > 128, "128 is the maximum of 'n'"),
        (number(body, "temperature", 1.0) > 2.0, "2 is the maximum of 'temperature'"),
        (
            body["echo"] == true && !body["logprobs"].is_null(),
            "Setting 'echo' and 'logprobs' at the same time is not supported for this model.",
        ),
    ];
    match refused.into_iter().find(|(is_bad, _)| *is_bad) {
        Some((_, message)) => Err(error(400, "invalid_value", message)),
        None => Ok(()),
    }
}

fn completions(server: &Server, body: &Value) -> Result<Value, Reply> {
    check(body)?;
    let (n, most) = (count(body, "n", 1), count(body, "max_tokens", 16));
    let seed = body["seed"].as_i64().map(|seed| seed as u64);
    let mut all = Vec::new();
    for prompt in prompts(server, &body["prompt"], true)? {
        if prompt.len() + most > server.model.context {
            let message = "This model's maximum context length is exceeded";
            return Err(error(400, "context_length_exceeded", message));
        }
        all.push(server.answer(prompt, n, seed, &NAMES.knobs(body), most, &stops(body, "stop")));
    }
    let drawn = all.iter().flat_map(|answers| &answers.drawn).enumerate();
    let choices = drawn.map(|(index, drawn)| {
        let logprobs = match body["logprobs"].is_null() {
            true => Value::Null,
            false => text_logprobs(&server.model, drawn, None),
        };
        json!({
            "index": index, "text": drawn.text, "logprobs": logprobs,
            "finish_reason": finish(drawn),
        })
    });
    Ok(completion(choices.collect(), usage(&all)))
}
