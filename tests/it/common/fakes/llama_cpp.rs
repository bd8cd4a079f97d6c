//! llama.cpp's server, as the wheel xllamacpp 2026.10 was seen to answer: a list for several
//! answers and an object for one, end tokens and stop strings among the ids, a usage that counts
//! the first answer only, `echo` that is not there, a chat that repeats what it continues.

use serde_json::{Value, json};

use super::chat::{Prefill, chat};
use super::knobs::{Knobs, Step};
use super::model::{Drawn, End};
use super::not_found;
use super::prompts::{completion, finish, ids, models, prompts};
use super::server::{Answers, Names, Server, count, stops};
use crate::common::loopback::{Asked, Reply};

/// Answers to one prompt at once, at most.
const SLOTS: usize = 8;

const NAMES: Names = Names {
    top_k: "top_k",
    penalty: "repeat_penalty",
    order: &[Step::Penalty, Step::TopK, Step::TopP, Step::MinP, Step::Temperature],
    temperature: 0.8,
    default_top_k: 40,
    default_top_p: 0.95,
    default_min_p: 0.05,
    default_penalty: 1.0,
};

pub fn handle(server: &Server, asked: &Asked) -> Result<Value, Reply> {
    let body = asked.json();
    match asked.path.as_str() {
        "/health" => Ok(json!({ "status": "ok" })),
        "/v1/models" => Ok(models(
            "llamacpp",
            json!({ "meta": {
            "n_vocab": server.model.tokenizer.vocab_size(), "n_ctx": server.model.context,
            "n_ctx_train": server.model.context,
        } }),
        )),
        "/props" => Ok(json!({
            "total_slots": SLOTS, "build_info": "b0-fake",
            // What llama.cpp takes for BOS where the file names none.
            "bos_token": "+", "eos_token": "<|endoftext|>",
            "default_generation_settings": {
                "n_ctx": server.model.context,
                "params": {
                    "temperature": NAMES.temperature, "top_k": NAMES.default_top_k,
                    "top_p": NAMES.default_top_p, "min_p": NAMES.default_min_p,
                    "repeat_penalty": 1.0,
                },
            },
        })),
        "/tokenize" => {
            let special = body["add_special"] == true;
            let text = body["content"].as_str().unwrap_or_default();
            Ok(json!({ "tokens": server.encode(text, special) }))
        }
        "/detokenize" => {
            let ids = ids(&body["tokens"]).unwrap_or_default();
            Ok(json!({ "content": server.model.tokenizer.decode_with_special(&ids).unwrap() }))
        }
        "/completion" => native(server, &body),
        "/v1/completions" => openai(server, &body),
        "/v1/chat/completions" => {
            let n = answers_of_one(&body)?;
            let mut reply = chat(server, &body, &knobs(&body), Prefill::Repeats, n);
            let first = first_tokens(&reply);
            reply["usage"]["completion_tokens"] = json!(first / n);
            Ok(reply)
        }
        _ => Err(refusal(404, "not_found_error", "File Not Found")),
    }
    .map_err(|reply| if reply.status == 404 { not_found(asked) } else { reply })
}

fn first_tokens(reply: &Value) -> usize {
    reply["usage"]["completion_tokens"].as_u64().unwrap_or(0) as usize
}

fn refusal(status: u16, kind: &str, message: &str) -> Reply {
    let body = json!({ "error": { "code": status, "message": message, "type": kind } });
    Reply::json(status, &body)
}

/// The knobs, in the order that `samplers` gives.
fn knobs(body: &Value) -> Knobs {
    let mut knobs = NAMES.knobs(body);
    let bias = body["logit_bias"].as_array().map_or(&[][..], Vec::as_slice);
    let bias = bias.iter().map(|pair| Some((pair[0].as_u64()? as usize, pair[1].as_f64()?)));
    knobs.bias = bias.flatten().collect();
    if let Some(samplers) = body["samplers"].as_array() {
        let step = |name: &Value| match name.as_str() {
            Some("penalties") => Some(Step::Penalty),
            Some("temperature") => Some(Step::Temperature),
            Some("top_k") => Some(Step::TopK),
            Some("top_p") => Some(Step::TopP),
            Some("min_p") => Some(Step::MinP),
            _ => None,
        };
        knobs.order = samplers.iter().filter_map(step).collect();
    }
    knobs
}

fn answers_of_one(body: &Value) -> Result<usize, Reply> {
    let n = count(body, "n", 1);
    if (1..=SLOTS).contains(&n) {
        return Ok(n);
    }
    Err(refusal(
        400,
        "invalid_request_error",
        &format!("Field 'n': Value must be between 1 <= value <= {SLOTS}, but got {n}"),
    ))
}

fn answer(server: &Server, body: &Value, limit: &str) -> Result<Vec<Answers>, Reply> {
    let n = answers_of_one(body)?;
    // Zero tokens are one all the same, and none named is no limit.
    let most = count(body, limit, server.model.context).max(1);
    let seed = body["seed"].as_i64().map(|seed| u64::from(seed as u32));
    let prompts = match &body["prompt"] {
        Value::Array(ids) if ids.is_empty() => {
            return Err(refusal(400, "invalid_request_error", "\"prompt\" must not be empty"));
        }
        prompt => prompts(server, &joined(server, prompt), true)
            .map_err(|reply| refused_prompt(server, &reply))?,
    };
    let stop = stops(body, "stop");
    let answer = |prompt: Vec<i64>| match prompt.is_empty() {
        true => Answers { prompt, drawn: Vec::new(), cached: 0 },
        false => server.answer(prompt, n, seed, &knobs(body), most, &stop),
    };
    Ok(prompts.into_iter().map(answer).collect())
}

/// Texts and ids in one list are one prompt; only a text that stands first gets a BOS.
fn joined(server: &Server, prompt: &Value) -> Value {
    let parts = prompt.as_array().map_or(&[][..], Vec::as_slice);
    if !parts.iter().any(Value::is_number) || !parts.iter().any(Value::is_string) {
        return prompt.clone();
    }
    let ids = parts.iter().enumerate().flat_map(|(place, part)| match part.as_str() {
        Some(text) => server.encode(text, place == 0),
        None => vec![part.as_i64().unwrap_or(-1)],
    });
    json!(ids.collect::<Vec<i64>>())
}

fn refused_prompt(server: &Server, reply: &Reply) -> Reply {
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    if !text.contains("context") {
        return refusal(400, "invalid_request_error", "Prompt contains invalid tokens");
    }
    let n_ctx = server.model.context;
    let message = format!("request exceeds the available context size ({n_ctx} tokens)");
    let body = json!({ "error": {
        "code": 400, "message": message, "type": "exceed_context_size_error", "n_ctx": n_ctx
    } });
    Reply::json(400, &body)
}

fn native(server: &Server, body: &Value) -> Result<Value, Reply> {
    let all = answer(server, body, "n_predict")?;
    let mut list = Vec::new();
    for answers in &all {
        if answers.drawn.is_empty() {
            list.push(nothing(list.len()));
        }
        for drawn in &answers.drawn {
            list.push(one(server, body, answers, drawn, list.len()));
        }
    }
    Ok(if list.len() == 1 { list.remove(0) } else { Value::Array(list) })
}

/// What an empty prompt gets.
fn nothing(index: usize) -> Value {
    json!({
        "index": index, "content": "", "tokens": [], "stop": true, "tokens_predicted": 0,
        "tokens_evaluated": 0, "stop_type": "none", "stopping_word": "", "truncated": false,
    })
}

fn one(server: &Server, body: &Value, answers: &Answers, drawn: &Drawn, index: usize) -> Value {
    let prompt = &answers.prompt;
    let (stop_type, word) = match &drawn.end {
        End::Eos => ("eos", ""),
        End::Stop(stop) => ("word", stop.as_str()),
        End::Limit => ("limit", ""),
    };
    let is_full = prompt.len() + drawn.ids.len() >= server.model.context;
    let mut reply = json!({
        "index": index, "content": drawn.text, "stop": true, "model": "tiny",
        "tokens": [], "tokens_predicted": drawn.ids.len(), "tokens_evaluated": prompt.len(),
        "prompt": server.model.tokenizer.decode_with_special(prompt).unwrap(),
        "truncated": is_full, "stop_type": stop_type, "stopping_word": word,
        "timings": {
            "cache_n": answers.cached, "prompt_n": prompt.len() - answers.cached,
            "predicted_n": drawn.ids.len(),
        },
    });
    if body["return_tokens"] == true {
        reply["tokens"] = json!(drawn.ids);
    }
    let n_probs = count(body, "n_probs", 0);
    // Of a part of a character nothing is told.
    let is_part = drawn.ids.len() == 1 && drawn.whole.ends_with(char::REPLACEMENT_CHARACTER);
    if n_probs > 0 && !is_part {
        reply["completion_probabilities"] = probabilities(server, answers, drawn, n_probs);
    }
    reply
}

/// Of each token that does not leave a character open; of the others nothing is told.
fn probabilities(server: &Server, answers: &Answers, drawn: &Drawn, n_probs: usize) -> Value {
    let is_whole = |count: usize| {
        !server.model.text(&drawn.ids[..count]).ends_with(char::REPLACEMENT_CHARACTER)
    };
    let token = |id: i64| server.model.tokenizer.decode(&[id]).unwrap();
    let told = drawn.ids.iter().zip(&drawn.logprobs).enumerate();
    let told = told.filter(|(place, _)| is_whole(place + 1));
    told.map(|(place, (&id, logprob))| {
        let mut top = Vec::new();
        if n_probs > 1 {
            let read = [&answers.prompt[..], &drawn.ids[..place]].concat();
            top = server.model.next_logprobs(&read);
            top.truncate(n_probs);
        }
        let top: Vec<Value> = top
            .into_iter()
            .map(|(id, logprob)| json!({ "id": id, "token": token(id as i64), "logprob": logprob }))
            .collect();
        json!({ "id": id, "token": token(id), "logprob": logprob, "top_logprobs": top })
    })
    .collect()
}

fn openai(server: &Server, body: &Value) -> Result<Value, Reply> {
    let all = answer(server, body, "max_tokens")?;
    let mut choices = Vec::new();
    for answers in &all {
        if answers.drawn.is_empty() {
            let index = choices.len();
            choices.push(json!({
                "index": index, "text": "", "logprobs": null, "finish_reason": "length"
            }));
        }
        for drawn in &answers.drawn {
            let logprobs = match count(body, "logprobs", 0) {
                0 => Value::Null,
                _ => json!({ "content": probabilities(server, answers, drawn, 1) }),
            };
            choices.push(json!({
                "index": choices.len(), "text": drawn.text, "logprobs": logprobs,
                "finish_reason": finish(drawn),
            }));
        }
    }
    let first = all.first().and_then(|answers| answers.drawn.first());
    let (prompt, cached) = all.first().map_or((0, 0), |first| (first.prompt.len(), first.cached));
    let completion_tokens = first.map_or(0, |drawn| drawn.ids.len());
    let usage = json!({
        "prompt_tokens": prompt, "completion_tokens": completion_tokens,
        "total_tokens": prompt + completion_tokens,
        "prompt_tokens_details": { "cached_tokens": cached },
    });
    Ok(completion(choices, usage))
}
