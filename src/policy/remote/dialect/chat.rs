//! `/chat/completions` of servers that go on with an assistant's turn (vLLM, SGLang, llama.cpp):
//! what has been said of it is the last message. Some repeat it in what they give.

use serde_json::{Value, json};

use super::super::ask::{Ask, Choice, End, Given, Read};
use super::super::facts::Facts;
use super::completions::{self, logprobs};

pub fn body(model: Option<&str>, ask: &Ask, facts: &Facts) -> Value {
    let Read::Turns(turns, said) = &ask.context else { return Value::Null };
    let mut messages: Vec<Value> =
        turns.iter().map(|turn| json!({ "role": turn.role, "content": turn.content })).collect();
    let mut body = completions::body(model, ask);
    completions::further(&mut body, ask, facts);
    if let Some(body) = body.as_object_mut() {
        body.remove("prompt");
    }
    if !said.is_empty() {
        messages.push(json!({ "role": "assistant", "content": said }));
        body["continue_final_message"] = json!(true);
        body["add_generation_prompt"] = json!(false);
    }
    body["messages"] = json!(messages);
    body["max_completion_tokens"] = body["max_tokens"].clone();
    body["logprobs"] = json!(facts.token_texts);
    body
}

pub fn read(reply: &Value) -> Result<Given, String> {
    completions::read(reply, |choice| {
        let text = choice["message"]["content"].as_str().unwrap_or_default().to_owned();
        let told = logprobs(choice);
        let end = match choice["finish_reason"].as_str() {
            Some("stop") if choice["stop_reason"].is_string() => Some(End::Stop),
            Some("stop") if choice.get("stop_reason").is_some() => Some(End::Eos(None)),
            Some("stop") => Some(End::Either),
            Some("content_filter") => return Err("a filter withheld the text".to_owned()),
            Some("tool_calls" | "function_call") => {
                return Err("a call of a tool instead of a text".to_owned());
            }
            _ => None,
        };
        let (token_texts, logprobs) = told.unzip();
        let sampled = token_texts.as_ref().map(Vec::len);
        Ok(Choice { text, token_texts, sampled, end, logprob: None, logprobs, ids: None })
    })
}
