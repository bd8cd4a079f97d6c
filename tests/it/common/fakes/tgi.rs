//! TGI: text prompts only, one answer by its own route, knobs that refuse the values which switch
//! them off, a stop string that stays in the text, log-probabilities behind every knob.

use serde_json::{Value, json};

use super::knobs::{Knobs, Step};
use super::model::{Drawn, End};
use super::not_found;
use super::prompts::{completion, models, prompts, usage};
use super::server::{Answers, Names, Server, count, stops};
use crate::common::loopback::{Asked, Reply};

const NAMES: Names = Names {
    top_k: "top_k",
    penalty: "repetition_penalty",
    order: &[Step::Penalty, Step::Temperature, Step::TopK, Step::TopP],
    temperature: 1.0,
    default_top_k: 0,
    default_top_p: 1.0,
    default_min_p: 0.0,
    default_penalty: 1.0,
};

pub fn handle(server: &Server, asked: &Asked) -> Result<Value, Reply> {
    let body = asked.json();
    let text = || body["inputs"].as_str().map(|text| server.encode(text, true));
    match asked.path.as_str() {
        "/health" => Ok(Value::Null),
        "/info" => Ok(json!({
            "model_id": "tiny", "version": "3.4.0", "router": "text-generation-router",
            "max_best_of": 2, "max_stop_sequences": 4, "max_total_tokens": server.model.context,
            "max_input_tokens": server.model.context - 1, "max_client_batch_size": 4,
        })),
        "/v1/models" => Ok(models("tiny", json!({}))),
        "/tokenize" => {
            let ids = text().ok_or_else(|| refusal("inputs must be a text"))?;
            let tokens = ids.into_iter().map(|id| {
                let text = server.model.tokenizer.decode_with_special(&[id]).unwrap();
                json!({ "id": id, "text": text })
            });
            Ok(tokens.collect())
        }
        "/generate" => generate(server, &body),
        "/v1/completions" => completions(server, &body),
        _ => Err(not_found(asked)),
    }
}

fn refusal(message: &str) -> Reply {
    let text = format!("Input validation error: {message}");
    Reply::json(422, &json!({ "error": text, "error_type": "validation" }))
}

fn check(knobs: &Value) -> Result<(), Reply> {
    let number = |name: &str| knobs[name].as_f64();
    for (is_bad, message) in [
        (
            number("temperature").is_some_and(|t| t <= 0.0),
            "`temperature` must be strictly positive",
        ),
        (number("top_k").is_some_and(|k| k <= 0.0), "`top_k` must be strictly positive"),
        (number("top_p").is_some_and(|p| p <= 0.0 || p >= 1.0), "`top_p` must be > 0.0 and < 1.0"),
        (
            knobs["stop"].as_array().is_some_and(|stop| stop.len() > 4),
            "`stop` supports up to 4 stop sequences",
        ),
        (number("max_new_tokens") == Some(0.0), "`max_new_tokens` must be strictly positive"),
        (number("best_of").is_some_and(|n| n > 2.0), "`best_of` must be > 0 and <= 2"),
    ] {
        if is_bad {
            return Err(refusal(message));
        }
    }
    Ok(())
}

fn knobs(body: &Value) -> Knobs {
    let mut knobs = NAMES.knobs(body);
    let samples = body["do_sample"] == true
        || ["temperature", "top_k", "top_p"].iter().any(|name| !body[*name].is_null());
    if !samples {
        knobs.temperature = 0.0;
    }
    knobs
}

fn generate(server: &Server, body: &Value) -> Result<Value, Reply> {
    let asked = &body["parameters"];
    check(asked)?;
    let Value::String(_) = body["inputs"] else {
        return Err(Reply::text(422, "Failed to deserialize the JSON body: inputs: not a string"));
    };
    let prompt = prompts(server, &body["inputs"], true)
        .map_err(|_| refusal("`inputs` tokens + `max_new_tokens` must be <= the context"))?
        .remove(0);
    let most = count(asked, "max_new_tokens", 100);
    if prompt.is_empty() {
        return Err(refusal("`inputs` cannot be empty"));
    }
    if prompt.len() + most > server.model.context {
        return Err(refusal("`inputs` tokens + `max_new_tokens` must be <= the context"));
    }
    let (knobs, seed) = (knobs(asked), asked["seed"].as_u64());
    let n = count(asked, "best_of", 1);
    let answers = server.answer(prompt, n, seed, &knobs, most, &stops(asked, "stop"));
    let mut reply = json!({ "generated_text": answers.drawn[0].whole });
    if asked["details"] == true {
        let mut details = details(server, &knobs, &answers, &answers.drawn[0], seed);
        if asked["decoder_input_details"] == true {
            let told = server.model.logprobs(&answers.prompt).into_iter().zip(&answers.prompt);
            let prefill = told.map(|(told, &id)| {
                let logprob = told.map(|(logprob, _)| logprob);
                json!({ "id": id, "text": server.model.text(&[id]), "logprob": logprob })
            });
            details["prefill"] = prefill.collect();
        }
        let others = answers.drawn[1..].iter().map(|drawn| {
            let mut other = self::details(server, &knobs, &answers, drawn, seed);
            other["generated_text"] = json!(drawn.whole);
            other
        });
        details["best_of_sequences"] = others.collect();
        reply["details"] = details;
    }
    Ok(reply)
}

fn details(
    server: &Server,
    knobs: &Knobs,
    answers: &Answers,
    drawn: &Drawn,
    seed: Option<u64>,
) -> Value {
    let told = server.model.told(knobs, &answers.prompt, &drawn.ids);
    let tokens = drawn.ids.iter().zip(told).map(|(&id, logprob)| {
        let text = server.model.tokenizer.decode_with_special(&[id]).unwrap();
        json!({ "id": id, "text": text, "logprob": logprob, "special": id == server.model.end })
    });
    json!({
        "finish_reason": match drawn.end {
            End::Eos => "eos_token",
            End::Stop(_) => "stop_sequence",
            End::Limit => "length",
        },
        "generated_tokens": drawn.ids.len(), "seed": seed, "prefill": [],
        "tokens": tokens.collect::<Vec<Value>>(),
    })
}

/// Its OpenAI route: a list of prompts, and neither `n` nor `top_k` nor log-probabilities.
fn completions(server: &Server, body: &Value) -> Result<Value, Reply> {
    let mut asked = body.clone();
    for name in ["top_k", "repetition_penalty"] {
        asked[name] = Value::Null;
    }
    if body["prompt"].as_array().is_some_and(|all| all.iter().any(|one| !one.is_string())) {
        return Err(Reply::text(422, "Failed to deserialize the JSON body: prompt"));
    }
    let mut knobs = knobs(&asked);
    if body["temperature"] == 0.0 {
        knobs.temperature = 0.0;
    }
    let (most, seed) = (count(body, "max_tokens", 100), body["seed"].as_u64());
    let mut all = Vec::new();
    for prompt in prompts(server, &body["prompt"], true)? {
        all.push(server.answer(prompt, 1, seed, &knobs, most, &stops(body, "stop")));
    }
    let drawn = all.iter().flat_map(|answers| &answers.drawn).enumerate();
    let choices = drawn.map(|(index, drawn)| {
        let reason = match drawn.end {
            End::Eos => "eos_token",
            End::Stop(_) => "stop_sequence",
            End::Limit => "length",
        };
        json!({ "index": index, "text": drawn.whole, "logprobs": null, "finish_reason": reason })
    });
    Ok(completion(choices.collect(), usage(&all)))
}
