//! Text Generation Inference's native `/generate`: one continuation a request, with the text and
//! the log-probability of each token.

use serde_json::{Value, json};

use super::super::ask::{Ask, Choice, End, Given, Read};
use super::shape::text_of;
use crate::sampling::Sampling;

pub fn body(ask: &Ask) -> Value {
    let Read::Text(text) = &ask.context else { return Value::Null };
    let mut parameters = json!({
        "max_new_tokens": ask.max_tokens,
        "details": true,
        "decoder_input_details": false,
        "return_full_text": false,
        "repetition_penalty": 1.0,
        "frequency_penalty": 0.0,
        "stop": ask.stop,
        "truncate": null,
        "watermark": false,
        "seed": ask.seed,
    });
    match ask.sampling {
        Sampling::Greedy => parameters["do_sample"] = json!(false),
        Sampling::Random { temperature, top_k, top_p } => {
            parameters["do_sample"] = json!(true);
            parameters["temperature"] = json!(temperature);
            // What keeps everything is left out: 0 and 1 are refused.
            if top_k > 0 {
                parameters["top_k"] = json!(top_k);
            }
            if top_p < 1.0 {
                parameters["top_p"] = json!(top_p);
            }
        }
    }
    json!({ "inputs": text, "parameters": parameters })
}

pub fn read(reply: &Value) -> Result<Given, String> {
    let reply = reply.as_array().and_then(|all| all.first()).unwrap_or(reply);
    let text = text_of(reply, "generated_text")?.to_owned();
    let details = &reply["details"];
    let end = match details["finish_reason"].as_str() {
        Some("eos_token") => Some(End::Eos(None)),
        Some("stop_sequence") => Some(End::Stop),
        Some("length") => None,
        _ => return Err("a continuation has no `details.finish_reason`".to_owned()),
    };
    let told = details["tokens"].as_array().cloned().unwrap_or_default();
    let said = told.iter().filter(|token| token["special"] != json!(true));
    let texts: Option<Vec<String>> =
        said.map(|token| token["text"].as_str().map(str::to_owned)).collect();
    let token_texts = texts.filter(|texts| texts.concat() == text);
    let sampled = details["generated_tokens"].as_u64().map(|count| count as usize);
    let choice = Choice {
        text,
        ids: None,
        token_texts,
        sampled,
        end,
        // They are those of the distribution that is sampled from.
        logprob: None,
        logprobs: None,
    };
    Ok(Given { choices: vec![choice], ..Given::default() })
}
