//! How a row says its pair, in the layouts of TRL: prompt and responses as texts or as turns of a
//! chat, with a prompt of its own or with one that both responses begin with. Responses that are
//! one list are told by `listed_answers.rs`.

use std::path::Path;

use serde_json::Value;

use super::listed_answers::ListedAnswers;
use super::messages::turns;
use super::pairs::Reason;
use super::posts::{NoPost, post};
use super::record::{Record, shorten};
use crate::error::{Error, Result};
use crate::prompt::{Message, PromptText};
use crate::recipe::PairColumns;

/// A prompt and two responses to it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Said {
    pub prompt: PromptText,
    pub chosen: String,
    pub rejected: String,
    /// Why this is no pair to learn from.
    pub unfit: Option<Reason>,
}

impl Said {
    fn unfit(prompt: PromptText, reason: Reason) -> Self {
        Self { prompt, chosen: String::new(), rejected: String::new(), unfit: Some(reason) }
    }
}

/// What a column holds.
enum Column {
    Text(String),
    Turns(Vec<Message>),
    /// A row of a set of posts that is about something else.
    NoPost,
    Nothing,
}

/// Columns that other sets have their prompts in.
const PROMPTS: [&str; 5] = ["instruction", "question", "input", "query", "messages"];

/// Columns of sets that have one answer to a prompt, good or bad.
const ONE_ANSWER: [&str; 3] = ["completion", "response", "messages"];

/// Where the answer begins in the texts of Anthropic's HH-RLHF.
const ASSISTANT: &str = "\n\nAssistant:";

/// Reads a row for `table`, whose `columns` these are.
///
/// # Errors
/// Where a column is missing or holds neither a text nor turns, or no prompt can be told.
pub(super) fn read(
    file: &Path,
    table: &str,
    columns: &PairColumns,
    record: &Record,
) -> Result<Said> {
    let wrong = |problem: String| Error::data(file, Some(record.line), problem);
    let column = |name: &str, key: &str| -> Result<Column> {
        let value = record.column(file, name, &format!("{table}.columns.{key}"))?;
        of_value(name, value).map_err(wrong)
    };
    if let Some(listed) = ListedAnswers::of(columns, record) {
        let prompt = column(listed.prompt, "prompt")?;
        let [chosen, rejected] = listed.of_row(record).map_err(wrong)?;
        let answer = |value: Value| of_value(listed.answers, &value).map_err(wrong);
        let both = (answer(chosen)?, answer(rejected)?);
        return said(table, columns, record, Some(prompt), both).map_err(wrong);
    }
    let has = |name: &str| record.fields.contains_key(name);
    if !has(&columns.chosen) && ONE_ANSWER.iter().any(|name| has(name)) {
        return Err(wrong(one_answer(table, columns, record)));
    }
    let has_prompt = has(&columns.prompt);
    let is_asked_for = columns.prompt != PairColumns::default().prompt;
    let prompt = match has_prompt || is_asked_for {
        true => Some(column(&columns.prompt, "prompt")?),
        false => None,
    };
    let both = (column(&columns.chosen, "chosen")?, column(&columns.rejected, "rejected")?);
    said(table, columns, record, prompt, both).map_err(wrong)
}

/// The pair that a prompt, if there is one, and two responses are.
fn said(
    table: &str,
    columns: &PairColumns,
    record: &Record,
    prompt: Option<Column>,
    both: (Column, Column),
) -> Result<Said, String> {
    match (prompt, both) {
        (Some(Column::NoPost), _) => Ok(Said::unfit(PromptText::default(), Reason::NoPost)),
        (prompt, (Column::Nothing, _) | (_, Column::Nothing)) => {
            let prompt = prompt.map_or_else(PromptText::default, Column::into_prompt);
            Ok(Said::unfit(prompt, Reason::Empty))
        }
        (prompt, (Column::Turns(chosen), Column::Turns(rejected))) => {
            of_turns(prompt, chosen, rejected).ok_or_else(|| no_common_turn(table, columns))
        }
        (Some(Column::Nothing), (Column::Text(_), Column::Text(_))) => {
            let column = &columns.prompt;
            Err(format!("`{column}` is null; expected a text or the turns of a chat"))
        }
        (Some(prompt), (Column::Text(chosen), Column::Text(rejected))) => {
            Ok(Said { prompt: prompt.into_prompt(), chosen, rejected, unfit: None })
        }
        (None, (Column::Text(chosen), Column::Text(rejected))) => {
            let other = PROMPTS.iter().find(|name| record.fields.contains_key(**name));
            let start = common_beginning(&chosen, &rejected);
            match (other, start) {
                (None, Some(start)) => Ok(Said {
                    prompt: chosen[..start].into(),
                    chosen: chosen[start..].to_owned(),
                    rejected: rejected[start..].to_owned(),
                    unfit: None,
                }),
                _ => Err(no_prompt(table, columns, record, other.copied())),
            }
        }
        _ => Err(format!(
            "one of `{}` and `{}` is a text, the other holds turns of a chat",
            columns.chosen, columns.rejected
        )),
    }
}

/// What a column called `name` holds.
fn of_value(name: &str, value: &Value) -> Result<Column, String> {
    if is_nothing(value) {
        return Ok(Column::Nothing);
    }
    if let Some(turns) = turns(value).map_err(|problem| format!("`{name}`, {problem}"))? {
        return Ok(Column::Turns(turns));
    }
    match (post(value), value.as_str()) {
        (Some(Ok(asked)), _) => Ok(Column::Text(asked)),
        (Some(Err(NoPost)), _) => Ok(Column::NoPost),
        (None, Some(text)) => Ok(Column::Text(text.to_owned())),
        (None, None) => {
            Err(format!("`{name}` must be a string, not `{}`", shorten(&value.to_string())))
        }
    }
}

impl Column {
    /// Nothing, where nothing is asked.
    fn into_prompt(self) -> PromptText {
        match self {
            Self::Text(text) => text.into(),
            Self::Turns(turns) => turns.into(),
            Self::NoPost | Self::Nothing => PromptText::default(),
        }
    }
}

/// The columns that a pair is read from.
pub(super) fn columns_of<'a>(columns: &'a PairColumns, record: &Record) -> [&'a str; 3] {
    match ListedAnswers::of(columns, record) {
        Some(ListedAnswers { prompt, answers, choice }) => [prompt, answers, choice],
        None => [&columns.prompt, &columns.chosen, &columns.rejected],
    }
}

/// A null, or a list of no turn.
fn is_nothing(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

/// Responses that are turns. A prompt that is a text beside responses that hold it as a turn says
/// nothing new. `None` where no turn comes before the responses.
fn of_turns(prompt: Option<Column>, chosen: Vec<Message>, rejected: Vec<Message>) -> Option<Said> {
    let most = chosen.len().min(rejected.len()).saturating_sub(1);
    let common = chosen.iter().zip(&rejected).take(most).take_while(|(a, b)| a == b).count();
    let shared = &chosen[..common];
    let before = match prompt {
        Some(Column::Turns(turns)) if shared.starts_with(&turns) => shared.to_vec(),
        // A prompt that the responses do not repeat comes before what they have in common.
        Some(Column::Turns(turns)) => [&turns, shared].concat(),
        _ if common > 0 => shared.to_vec(),
        Some(Column::Text(text)) => vec![Message::new("user", text)],
        Some(Column::NoPost | Column::Nothing) | None => return None,
    };
    let [chosen, rejected] = [&chosen[common..], &rejected[common..]];
    let is_answer = |turns: &[Message]| turns.len() == 1 && turns[0].role == "assistant";
    let is_asked = before.last().is_some_and(|turn| turn.role != "assistant");
    let is_fit = is_answer(chosen) && is_answer(rejected) && is_asked;
    let said = |turns: &[Message]| turns[0].content.clone();
    Some(Said {
        prompt: before.into(),
        chosen: said(chosen),
        rejected: said(rejected),
        unfit: (!is_fit).then_some(Reason::NotOneAnswer),
    })
}

/// Bytes that both texts begin with and that are no part of a response: up to where the assistant
/// speaks last, or else the words that both have, without the space behind them. `None` where there
/// are none.
fn common_beginning(chosen: &str, rejected: &str) -> Option<usize> {
    let same = chosen.chars().zip(rejected.chars()).take_while(|(a, b)| a == b);
    let common: usize = same.map(|(a, _)| a.len_utf8()).sum();
    if let Some(mark) = chosen[..common].rfind(ASSISTANT) {
        return Some(mark + ASSISTANT.len());
    }
    let ends_a_word = |text: &str| text[common..].starts_with(char::is_whitespace);
    let start = match ends_a_word(chosen) && ends_a_word(rejected) {
        true => common,
        false => chosen[..common].rfind(char::is_whitespace)?,
    };
    Some(start).filter(|start| !chosen[..*start].trim().is_empty())
}

fn one_answer(table: &str, columns: &PairColumns, record: &Record) -> String {
    format!(
        "no column `{}`; found {}: that is one answer to a prompt, and a pair needs two\n\nhint: \
         a preference set has a chosen and a rejected answer; `{table}.columns` names them",
        columns.chosen,
        record.columns()
    )
}

fn no_common_turn(table: &str, columns: &PairColumns) -> String {
    let PairColumns { prompt, chosen, rejected } = columns;
    format!(
        "there is no column `{prompt}`, and `{chosen}` and `{rejected}` have no turn in common \
         before their answers\n\nhint: set `{table}.columns.prompt`"
    )
}

fn no_prompt(table: &str, columns: &PairColumns, record: &Record, other: Option<&str>) -> String {
    let PairColumns { prompt, chosen, rejected } = columns;
    let (why, hint) = match other {
        Some(other) => (String::new(), format!("set `{table}.columns.prompt = \"{other}\"`")),
        None => (
            format!(", and `{chosen}` and `{rejected}` do not begin with the same words"),
            format!("set `{table}.columns.prompt`"),
        ),
    };
    format!("no column `{prompt}`{why}; found {}\n\nhint: {hint}", record.columns())
}

#[cfg(test)]
mod tests;
