//! The turns of a chat as data files have them: `{"role", "content"}` of transformers and TRL, or
//! `{"from", "value"}` of ShareGPT.

use std::path::Path;

use serde_json::{Map, Value};

use super::posts::{NoPost, post};
use super::record::{Record, shorten};
use crate::error::{Error, Result};
use crate::prompt::{Message, PromptText};

/// Roles that chat templates know.
const ROLES: [&str; 7] =
    ["system", "user", "assistant", "tool", "developer", "function", "ipython"];

/// The turns that a value holds; `None` where it is none: a list of objects, one such object, or
/// either written as a JSON text, as CSV has it.
///
/// # Errors
/// What is wrong with a turn.
pub fn turns(value: &Value) -> Result<Option<Vec<Message>>, String> {
    match value {
        Value::Object(fields) if ["role", "from"].iter().any(|key| fields.contains_key(*key)) => {
            turn(fields).map(|turn| Some(vec![turn]))
        }
        Value::Array(all) if all.iter().all(Value::is_object) && !all.is_empty() => {
            let turns = all.iter().enumerate().map(|(index, value)| {
                turn(value.as_object().unwrap_or(&Map::new()))
                    .map_err(|problem| format!("turn {}: {problem}", index + 1))
            });
            turns.collect::<Result<_, _>>().map(Some)
        }
        Value::String(text) if text.trim_start().starts_with("[{") => written(text),
        _ => Ok(None),
    }
}

/// What a column asks: a text, a post that is to be summarised, or the turns of a chat up to the
/// user's last; `None` where a set of posts has something else. `key` says where the column is
/// named.
///
/// # Errors
/// Where there is no such column, or nothing is asked in it.
pub fn asked(path: &Path, record: &Record, column: &str, key: &str) -> Result<Option<PromptText>> {
    let wrong =
        |problem: String| Error::data(path, Some(record.line), format!("`{column}`, {problem}"));
    let value = record.column(path, column, key)?;
    match post(value) {
        Some(Ok(post)) => return Ok(Some(post.into())),
        Some(Err(NoPost)) => return Ok(None),
        None => {}
    }
    match turns(value).map_err(wrong)? {
        None => Ok(Some(record.text(path, column, key)?.into())),
        Some(mut turns) => {
            let last = turns.iter().rposition(|turn| turn.role == "user");
            turns.truncate(last.map_or(0, |last| last + 1));
            match turns.is_empty() {
                true => Err(wrong("a chat without a turn of `user`".to_owned())),
                false => Ok(Some(turns.into())),
            }
        }
    }
}

/// A list of turns that a text writes out.
fn written(text: &str) -> Result<Option<Vec<Message>>, String> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Array(_)) => turns(&value),
        _ if ["'role'", "'from'"].iter().any(|key| text.contains(key)) => {
            Err("turns as Python prints them; expected JSON, which `json.dumps` writes".to_owned())
        }
        _ => Ok(None),
    }
}

fn turn(fields: &Map<String, Value>) -> Result<Message, String> {
    let either = |keys: [&str; 2]| {
        keys.iter().find_map(|key| fields.get(*key)).ok_or_else(|| {
            let found: Vec<String> = fields.keys().map(|key| format!("`{key}`")).collect();
            format!("no `{}`; found {}", keys[0], found.join(", "))
        })
    };
    let role = either(["role", "from"])?;
    let role = role.as_str().ok_or_else(|| format!("the role is `{role}`; expected a text"))?;
    // ShareGPT's words.
    let role = match role {
        "human" => "user",
        "gpt" => "assistant",
        role if ROLES.contains(&role) => role,
        role => return Err(format!("the role is `{role}`; expected one of {}", ROLES.join(", "))),
    };
    Ok(Message::new(role, content(either(["content", "value"])?)?))
}

/// A text, the texts of a list of parts, or nothing.
fn content(value: &Value) -> Result<String, String> {
    let part = |part: &Value| part.get("text").and_then(Value::as_str).map(str::to_owned);
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Null => Some(String::new()),
        Value::Array(parts) => parts.iter().map(part).collect(),
        _ => None,
    }
    .ok_or_else(|| format!("the content is `{}`; expected a text", shorten(&value.to_string())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_spelling_of_a_chat_is_read() {
        let chat = vec![Message::new("user", "q"), Message::new("assistant", "a")];
        for value in [
            json!([{ "role": "user", "content": "q" }, { "role": "assistant", "content": "a" }]),
            json!([{ "from": "human", "value": "q" }, { "from": "gpt", "value": "a" }]),
            json!([
                { "role": "user", "content": [{ "type": "text", "text": "q" }] },
                { "role": "assistant", "content": "a", "tool_calls": null }
            ]),
            json!(
                "[{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \
                    \"content\": \"a\"}]"
            ),
        ] {
            assert_eq!(turns(&value), Ok(Some(chat.clone())), "{value}");
        }
        assert_eq!(turns(&json!({ "role": "user", "content": "q" })), Ok(Some(chat[..1].to_vec())));
        for value in [
            json!("q"),
            json!(["q"]),
            json!(1),
            json!(null),
            json!([]),
            json!("[{x}]"),
            json!({ "0": "q" }),
        ] {
            assert_eq!(turns(&value), Ok(None), "{value}");
        }
    }

    #[test]
    fn a_turn_that_cannot_be_read_is_named() {
        let problem = |value: Value| turns(&value).unwrap_err();
        let strange = problem(json!([{ "role": "bot", "content": "q" }]));
        assert!(strange.starts_with("turn 1: the role is `bot`; expected one of system, user,"));
        let said = json!({ "role": "user", "content": "q" });
        assert_eq!(
            problem(json!([said, { "speaker": "user", "content": "q" }])),
            "turn 2: no `role`; found `speaker`, `content`"
        );
        assert_eq!(
            problem(json!([{ "role": "user", "content": [{ "type": "image" }] }])),
            "turn 1: the content is `[{\"type\":\"image\"}]`; expected a text"
        );
        assert!(problem(json!("[{'role': 'user', 'content': 'q'}]")).contains("json.dumps"));
    }
}
