//! Preference pairs as this program writes them: JSON lines with fixed fields. Pairs in other
//! people's layouts are read by `pair_files.rs`.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::record::Record;
use super::records;
use crate::error::{Error, Result};
use crate::prompt::PromptText;

/// Two responses to one prompt and the judgement on them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    pub id: String,
    pub prompt: PromptText,
    pub chosen: String,
    pub rejected: String,
    /// Gold rewards; absent where the recipe has no gold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward_chosen: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward_rejected: Option<f64>,
    /// Bradley–Terry probability of the judgement that was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Whether the judgement is the other way round than in the file that the pair was read from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relabelled: Option<bool>,
    /// Whether the response ended by itself: only then an EOS token is learned after it.
    #[serde(default = "yes")]
    pub chosen_complete: bool,
    #[serde(default = "yes")]
    pub rejected_complete: bool,
}

/// A pair that was left out, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    pub id: String,
    pub reason: Reason,
}

/// In the order in which they are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A response is empty or white space.
    Empty,
    /// Both responses are the same text, or repeat samples that make a pair already.
    Equal,
    /// The prompt leaves the model that is tuned no room for a response.
    PromptTooLong,
    /// Equal rewards, where the higher one is chosen.
    Tied,
    /// The responses are not one turn of the assistant's each, behind one of
    /// somebody else's.
    NotOneAnswer,
    /// The row of a set of posts is about something else, such as a news article.
    NoPost,
}

fn yes() -> bool {
    true
}

/// All pairs of a file; an empty file holds none.
pub fn read_pairs(path: &Path) -> Result<Vec<Pair>> {
    if std::fs::metadata(path).map_err(Error::io(path, "opening the preference pairs"))?.len() == 0
    {
        return Ok(Vec::new());
    }
    rows(path)
}

fn rows<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let parse = |record: Record| {
        serde_json::from_value(Value::Object(record.fields))
            .map_err(|error| Error::data(path, Some(record.line), error.to_string()))
    };
    records::read(path, 0)?.into_iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_without_a_field_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pairs.jsonl");
        let pair = concat!(
            r#"{"id":"a","prompt":"p","chosen":"c","rejected":"r","#,
            r#""reward_chosen":1.0,"reward_rejected":0}"#
        );
        std::fs::write(&path, format!("{pair}\n")).unwrap();
        let pairs = read_pairs(&path).unwrap();
        assert!(pairs[0].chosen_complete && pairs[0].probability.is_none());
        std::fs::write(&path, format!("{pair}\n{}\n", pair.replace("\"chosen\"", "\"winner\"")))
            .unwrap();
        let error = read_pairs(&path).unwrap_err().to_string();
        assert!(error.contains("pairs.jsonl:2: missing field `chosen`"), "{error}");
    }
}
