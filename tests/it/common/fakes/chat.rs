//! `/v1/chat/completions`, by what becomes of an assistant's turn that stands last. The template is
//! the plainest there is: the contents one behind the other, and a line before a new turn.

use serde_json::{Value, json};

use super::knobs::Knobs;
use super::prompts::{finish, usage};
use super::server::{Server, count, stops};

/// What is done with an assistant's turn that stands last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefill {
    /// It is a turn like others, and a new one begins.
    Ends,
    /// It goes on where `continue_final_message` says so.
    ByKey,
    /// It goes on, and the answer repeats it.
    Repeats,
}

pub fn chat(server: &Server, body: &Value, knobs: &Knobs, prefill: Prefill, n: usize) -> Value {
    let messages: Vec<Value> = body["messages"].as_array().cloned().unwrap_or_default();
    let content = |message: &Value| message["content"].as_str().unwrap_or_default().to_owned();
    let mut text: String = messages.iter().map(content).collect();
    let last = messages.last().filter(|last| last["role"] == "assistant").map(content);
    let goes_on = last.is_some()
        && match prefill {
            Prefill::Ends => false,
            Prefill::ByKey => body["continue_final_message"] == true,
            Prefill::Repeats => true,
        };
    if !goes_on {
        text.push('\n');
    }
    let in_front = last.filter(|_| prefill == Prefill::Repeats).unwrap_or_default();
    let max_tokens = count(body, "max_completion_tokens", count(body, "max_tokens", 16));
    let seed = body["seed"].as_i64().map(|seed| seed as u64);
    let prompt = server.encode(&text, false);
    let answers = server.answer(prompt, n, seed, knobs, max_tokens, &stops(body, "stop"));
    let choices: Vec<Value> = answers
        .drawn
        .iter()
        .enumerate()
        .map(|(index, drawn)| {
            let content = format!("{in_front}{}", drawn.text);
            json!({
                "index": index, "finish_reason": finish(drawn),
                "message": { "role": "assistant", "content": content },
            })
        })
        .collect();
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "tiny",
        "choices": choices, "usage": usage(&[answers]),
    })
}
