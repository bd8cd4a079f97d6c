//! vLLM: nearly everything is there. Text prompts get BOS even where they bring it, the end token
//! and a stop string are both `stop`, and what a request leaves out comes from the model's
//! `generation_config.json`.

use serde_json::{Value, json};

use super::chat::{Prefill, chat};
use super::knobs::Knobs;
use super::model::{Drawn, End};
use super::prompts::{completion, finish, legacy_logprobs, models, prompts, usage};
use super::server::{Answers, Names, Server, count, stops};
use super::{error, not_found};
use crate::common::loopback::{Asked, Reply};

/// Tokens of a block of the cache.
const BLOCK: usize = 16;

const NAMES: Names = Names {
    top_k: "top_k",
    penalty: "repetition_penalty",
    order: &Knobs::USUAL,
    temperature: 0.6,
    default_top_k: 20,
    default_top_p: 0.9,
    default_min_p: 0.0,
    default_penalty: 1.05,
};

pub fn handle(server: &Server, asked: &Asked) -> Result<Value, Reply> {
    let body = asked.json();
    match asked.path.as_str() {
        "/v1/models" => {
            Ok(models("vllm", json!({ "root": "tiny", "max_model_len": server.model.context })))
        }
        "/version" => Ok(json!({ "version": "0.33.0" })),
        "/health" => Ok(Value::Null),
        "/v1/completions" => completions(server, &body),
        "/v1/chat/completions" => {
            let n = count(&body, "n", 1);
            Ok(chat(server, &body, &NAMES.knobs(&body), Prefill::ByKey, n))
        }
        "/tokenize" => {
            let special = body["add_special_tokens"] != false;
            let tokens = server.encode(body["prompt"].as_str().unwrap_or_default(), special);
            Ok(json!({
                "count": tokens.len(), "max_model_len": server.model.context, "tokens": tokens
            }))
        }
        "/detokenize" => {
            let ids = super::prompts::ids(&body["tokens"]).unwrap_or_default();
            Ok(json!({ "prompt": server.model.tokenizer.decode_with_special(&ids).unwrap() }))
        }
        _ => Err(not_found(asked)),
    }
}

fn completions(server: &Server, body: &Value) -> Result<Value, Reply> {
    if body["model"].as_str().is_some_and(|model| model != "tiny") {
        return Err(error(404, "model_not_found", "The model does not exist."));
    }
    let knobs = NAMES.knobs(body);
    let (n, max_tokens) = (count(body, "n", 1), count(body, "max_tokens", 16));
    let seed = body["seed"].as_i64().map(|seed| seed as u64);
    let special = body["add_special_tokens"] != false;
    let echo = body["echo"] == true;
    let most = most_logprobs(server);
    let told = count(body, "logprobs", 0);
    if told > most {
        let message = format!(
            "Requested sample logprobs of {told}, which is greater than max allowed: {most}"
        );
        return Err(error(400, "BadRequestError", &message));
    }
    let mut all = Vec::new();
    for prompt in prompts(server, &body["prompt"], special)? {
        let asked = prompt.len() + max_tokens;
        if asked > server.model.context {
            let message = format!(
                "This model's maximum context length is {} tokens. However, you requested \
                 {max_tokens} output tokens and your prompt contains {} input tokens.",
                server.model.context,
                prompt.len()
            );
            return Err(error(400, "BadRequestError", &message));
        }
        all.push(server.answer(prompt, n, seed, &knobs, max_tokens, &stops(body, "stop")));
    }
    let mut choices = Vec::new();
    for answers in &all {
        for drawn in &answers.drawn {
            let prompt = server.model.tokenizer.decode(&answers.prompt).unwrap();
            let text = if echo { prompt + &drawn.text } else { drawn.text.clone() };
            let mut choice = json!({
                "index": choices.len(), "text": text, "logprobs": null,
                "finish_reason": finish(drawn),
                "stop_reason": match &drawn.end {
                    End::Stop(stop) => json!(stop),
                    _ => Value::Null,
                },
            });
            if !body["logprobs"].is_null() {
                let prompt = echo.then_some(&answers.prompt[..]);
                choice["logprobs"] = legacy_logprobs(&server.model, drawn, prompt);
                if told > 1 && body["return_tokens_as_token_ids"] == true {
                    choice["logprobs"]["top_logprobs"] = top(server, answers, drawn, told);
                }
            }
            if !body["prompt_logprobs"].is_null() {
                choice["prompt_logprobs"] = prompt_logprobs(server, &answers.prompt);
            }
            if body["return_token_ids"] == true {
                choice["token_ids"] = json!(drawn.ids);
                choice["prompt_token_ids"] = json!(answers.prompt);
            }
            choices.push(choice);
        }
    }
    let mut usage = usage(&all);
    let cached: usize = all.iter().map(|answers| answers.cached / BLOCK * BLOCK).sum();
    usage["prompt_tokens_details"] = json!({ "cached_tokens": cached });
    Ok(completion(choices, usage))
}

/// Log-probabilities of likely tokens that a request may ask for.
fn most_logprobs(server: &Server) -> usize {
    if server.options.tells_all { server.model.tokenizer.vocab_size() } else { 20 }
}

/// For each token drawn the likeliest ones, by their ids.
fn top(server: &Server, answers: &Answers, drawn: &Drawn, most: usize) -> Value {
    let likeliest = |place: usize| -> Value {
        let read = [&answers.prompt[..], &drawn.ids[..place]].concat();
        let told = server.model.next_logprobs(&read).into_iter().take(most);
        told.map(|(id, logprob)| (format!("token_id:{id}"), json!(logprob))).collect()
    };
    (0..drawn.ids.len()).map(likeliest).collect()
}

/// For each token of the prompt what is told of it and of the likeliest one, by id.
fn prompt_logprobs(server: &Server, prompt: &[i64]) -> Value {
    let told = server.model.logprobs(prompt).into_iter().zip(prompt);
    let name = |id: i64| server.model.tokenizer.decode_with_special(&[id]).unwrap();
    let entry = |id: i64, logprob: f64, rank: usize| json!({ "logprob": logprob, "rank": rank, "decoded_token": name(id) });
    told.map(|(told, &id)| match told {
        None => Value::Null,
        Some((logprob, (first, highest))) => {
            let mut all = json!({ first.to_string(): entry(first, highest, 1) });
            if id != first {
                all[id.to_string()] = entry(id, logprob, 2);
            }
            all
        }
    })
    .collect()
}
