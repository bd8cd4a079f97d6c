//! SGLang: ids in and out by its own route, where an answer's end says what matched. Seeds count
//! only where it is started to be deterministic, sampled tokens' log-probabilities are those at the
//! request's temperature, and `top_k` 0 is refused.

use serde_json::{Value, json};

use super::chat::{Prefill, chat};
use super::knobs::{Knobs, Step};
use super::model::{Drawn, End};
use super::prompts::{completion, finish, legacy_logprobs, models, prompts, usage};
use super::server::{Answers, Names, Server, count, stops};
use super::{error, not_found};
use crate::common::loopback::{Asked, Reply};

const NAMES: Names = Names {
    top_k: "top_k",
    penalty: "repetition_penalty",
    order: &Knobs::USUAL,
    temperature: 0.6,
    default_top_k: 20,
    default_top_p: 0.95,
    default_min_p: 0.0,
    default_penalty: 1.0,
};

pub fn handle(server: &Server, asked: &Asked) -> Result<Value, Reply> {
    let body = asked.json();
    let context = server.model.context;
    match asked.path.as_str() {
        "/health" => Ok(Value::Null),
        "/v1/models" => Ok(models("sglang", json!({ "root": "tiny", "max_model_len": context }))),
        "/get_model_info" | "/model_info" => Ok(json!({
            "model_path": "tiny", "tokenizer_path": "tiny", "is_generation": true
        })),
        "/get_server_info" | "/server_info" => Ok(json!({
            "version": "0.5.23", "max_req_input_len": context - 1,
        })),
        "/generate" => generate(server, &body),
        "/v1/completions" => completions(server, &body),
        "/v1/chat/completions" => {
            let n = count(&body, "n", 1);
            Ok(chat(server, &body, &NAMES.knobs(&body), Prefill::ByKey, n))
        }
        "/tokenize" | "/v1/tokenize" => {
            let special = body["add_special_tokens"] != false;
            let tokens = server.encode(body["prompt"].as_str().unwrap_or_default(), special);
            Ok(json!({ "tokens": tokens, "count": tokens.len(), "max_model_len": context }))
        }
        "/detokenize" | "/v1/detokenize" => {
            let ids = super::prompts::ids(&body["tokens"]).unwrap_or_default();
            Ok(json!({ "text": server.model.tokenizer.decode_with_special(&ids).unwrap() }))
        }
        _ => Err(not_found(asked)),
    }
}

fn check(knobs: &Value) -> Result<(), Reply> {
    if knobs["top_k"].as_i64().is_some_and(|k| k < -1 || k == 0) {
        let found = &knobs["top_k"];
        let message = format!("top_k must be -1 (disable) or at least 1, got {found}.");
        return Err(error(400, "BadRequest", &message));
    }
    Ok(())
}

fn generate(server: &Server, body: &Value) -> Result<Value, Reply> {
    let asked = &body["sampling_params"];
    check(asked)?;
    let given = if body["input_ids"].is_null() { &body["text"] } else { &body["input_ids"] };
    let (n, most) = (count(asked, "n", 1), count(asked, "max_new_tokens", 128));
    let knobs = NAMES.knobs(asked);
    let seed = asked["sampling_seed"].as_i64().map(|seed| seed as u64);
    let mut list = Vec::new();
    for prompt in prompts(server, given, true)? {
        let answers = server.answer(prompt, n, seed, &knobs, most, &stops(asked, "stop"));
        list.extend(answers.drawn.iter().map(|drawn| one(server, body, &knobs, &answers, drawn)));
    }
    Ok(if list.len() == 1 { list.remove(0) } else { Value::Array(list) })
}

fn one(server: &Server, body: &Value, knobs: &Knobs, answers: &Answers, drawn: &Drawn) -> Value {
    let reason = match &drawn.end {
        End::Eos => json!({ "type": "stop", "matched": server.model.end }),
        End::Stop(stop) => json!({ "type": "stop", "matched": stop }),
        End::Limit => json!({ "type": "length", "length": drawn.ids.len() }),
    };
    let mut meta = json!({
        "id": "1", "finish_reason": reason, "prompt_tokens": answers.prompt.len(),
        "completion_tokens": drawn.ids.len(), "cached_tokens": answers.cached,
    });
    if body["return_logprob"] == true {
        meta["output_token_logprobs"] = output_logprobs(server, knobs, answers, drawn);
        let start = body["logprob_start_len"].as_i64().unwrap_or(-1);
        if let Ok(start) = usize::try_from(start) {
            let told = server.model.logprobs(&answers.prompt).into_iter().zip(&answers.prompt);
            meta["input_token_logprobs"] = told
                .skip(start)
                .map(|(told, id)| json!([told.map(|(logprob, _)| logprob), id, null]))
                .collect();
        }
    }
    json!({ "text": drawn.text, "output_ids": drawn.ids, "meta_info": meta })
}

/// At the temperature of the request, before its cuts.
fn output_logprobs(server: &Server, knobs: &Knobs, answers: &Answers, drawn: &Drawn) -> Value {
    let tempered = Knobs { order: vec![Step::Temperature], ..knobs.clone() };
    let told = server.model.told(&tempered, &answers.prompt, &drawn.ids);
    told.into_iter().zip(&drawn.ids).map(|(logprob, id)| json!([logprob, id, null])).collect()
}

fn completions(server: &Server, body: &Value) -> Result<Value, Reply> {
    check(body)?;
    let (n, most) = (count(body, "n", 1), count(body, "max_tokens", 16));
    let seed = body["seed"].as_i64().map(|seed| seed as u64);
    let (knobs, stop) = (NAMES.knobs(body), stops(body, "stop"));
    let mut all = Vec::new();
    for prompt in prompts(server, &body["prompt"], true)? {
        all.push(server.answer(prompt, n, seed, &knobs, most, &stop));
    }
    let mut choices = Vec::new();
    for drawn in all.iter().flat_map(|answers| &answers.drawn) {
        let logprobs = match body["logprobs"].is_null() {
            true => Value::Null,
            false => legacy_logprobs(&server.model, drawn, None),
        };
        choices.push(json!({
            "index": choices.len(), "text": drawn.text, "logprobs": logprobs,
            "finish_reason": finish(drawn),
            "matched_stop": match &drawn.end {
                End::Eos => json!(server.model.end),
                End::Stop(stop) => json!(stop),
                End::Limit => Value::Null,
            },
        }));
    }
    Ok(completion(choices, usage(&all)))
}
