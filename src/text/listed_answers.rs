//! Rows that hold both answers in one list, and beside it the place of the better one: OpenAI's
//! `summarize_from_feedback` (`info`, `summaries`, `choice`), and sets with `prompt`, `responses`
//! and `chosen`. What an answer is, `pair_layout.rs` says.

use std::borrow::Cow;

use serde_json::Value;

use super::record::{Record, shorten};
use crate::recipe::PairColumns;

/// Columns that hold lists of answers.
const LISTS: [&str; 2] = ["responses", "summaries"];
/// The column of the better one's place, where `columns.chosen` is not there.
const CHOICE: &str = "choice";
/// The column of a post, where `columns.prompt` is not there.
const INFO: &str = "info";

/// The columns of such a row.
pub(super) struct ListedAnswers<'a> {
    pub prompt: &'a str,
    pub answers: &'static str,
    pub choice: &'a str,
}

impl<'a> ListedAnswers<'a> {
    /// `None` of a row with an answer a column.
    pub fn of(columns: &'a PairColumns, record: &Record) -> Option<Self> {
        let has = |name: &str| record.fields.contains_key(name);
        if has(&columns.rejected) {
            return None;
        }
        let holds_list = |name: &&str| record.fields.get(*name).is_some_and(|v| list(v).is_some());
        let answers = LISTS.into_iter().find(holds_list)?;
        let choice = if has(&columns.chosen) { &columns.chosen } else { CHOICE };
        let is_asked_for = columns.prompt != PairColumns::default().prompt;
        let has_info = has(INFO) && !has(&columns.prompt) && !is_asked_for;
        let prompt = if has_info { INFO } else { &columns.prompt };
        Some(Self { prompt, answers, choice })
    }

    /// The better answer and the other one.
    ///
    /// # Errors
    /// Where there are not two, or no place of one of them.
    pub fn of_row(&self, record: &Record) -> Result<[Value; 2], String> {
        let Self { answers, choice, .. } = self;
        let all = record.fields.get(*answers).and_then(list).unwrap_or_default();
        let [first, second] = &all[..] else {
            return Err(format!("`{answers}` holds {} answers; expected two", all.len()));
        };
        let chosen = match record.fields.get(*choice) {
            None => {
                let found = record.columns();
                return Err(format!(
                    "no column `{choice}`, the place of the better of `{answers}`; found {found}"
                ));
            }
            Some(value) => place(value).ok_or_else(|| {
                format!(
                    "`{choice}` is `{}`; expected 0 or 1, the place of the better of `{answers}`",
                    shorten(&value.to_string())
                )
            })?,
        };
        let both = if chosen == 0 { [first, second] } else { [second, first] };
        Ok(both.map(answer))
    }
}

/// The items of a list, be it written as a JSON text.
fn list(value: &Value) -> Option<Cow<'_, [Value]>> {
    match value {
        Value::Array(items) => Some(Cow::Borrowed(items)),
        Value::String(text) if text.trim_start().starts_with('[') => {
            serde_json::from_str(text).ok().map(|items: Vec<Value>| Cow::Owned(items))
        }
        _ => None,
    }
}

/// 0 or 1, as a number or as text.
fn place(value: &Value) -> Option<usize> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    [0.0, 1.0].into_iter().position(|place| place == number)
}

/// What an item says: `summaries` are objects with a `text`.
fn answer(item: &Value) -> Value {
    let is_turn = ["role", "from"].iter().any(|key| item.get(key).is_some());
    item.get("text").filter(|_| !is_turn).unwrap_or(item).clone()
}
