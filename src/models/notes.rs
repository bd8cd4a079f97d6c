//! What the files of a language model's folder say that people should know before they read its
//! answers: where those end, and what generation_config.json asks for that is not done. Nothing
//! here changes what is done.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::adapter_config::base_of_adapter;
use super::config::LmConfig;
use super::generation_config::{FILE, generation_eos};
use super::json_file::read_json;
use super::with_tokenizer::end_token_ids;
use crate::error::Result;
use crate::text::{Tokenizer, named};

/// Wishes of transformers' `generate` that change answers and that no key of a recipe grants, each
/// with the number that asks for nothing, where there is one beside null, false and nothing at all.
const NOT_DONE: [(&str, Option<f64>); 22] = [
    ("repetition_penalty", Some(1.0)),
    ("encoder_repetition_penalty", Some(1.0)),
    ("no_repeat_ngram_size", Some(0.0)),
    ("bad_words_ids", None),
    ("suppress_tokens", None),
    ("begin_suppress_tokens", None),
    ("forced_bos_token_id", None),
    ("forced_eos_token_id", None),
    ("min_new_tokens", Some(0.0)),
    ("min_length", Some(0.0)),
    ("exponential_decay_length_penalty", None),
    ("sequence_bias", None),
    ("typical_p", Some(1.0)),
    ("min_p", Some(0.0)),
    ("top_h", None),
    ("epsilon_cutoff", Some(0.0)),
    ("eta_cutoff", Some(0.0)),
    ("guidance_scale", Some(1.0)),
    ("num_beams", Some(1.0)),
    ("penalty_alpha", Some(0.0)),
    ("stop_strings", None),
    ("watermarking_config", None),
];

/// Where answers of the model in `folder` end: the ids with their tokens, and the file that names
/// them.
pub fn ends(folder: &Path, tokenizer: &Tokenizer) -> Result<String> {
    let ids = end_token_ids(folder, tokenizer)?;
    Ok(format!("{} ({})", named(tokenizer, &ids), end_file(folder)?))
}

/// What is to be told of the folder of a language model, which may have to answer; empty where its
/// files agree.
///
/// # Errors
/// Where the folder's configs cannot be read.
pub fn notes(folder: &Path, tokenizer: &Tokenizer, answers: bool) -> Result<Vec<String>> {
    let unmet = if answers { not_done(folder)? } else { None };
    Ok(other_end(folder, tokenizer)?.into_iter().chain(unmet).collect())
}

/// That the tokenizer's EOS ends nothing.
fn other_end(folder: &Path, tokenizer: &Tokenizer) -> Result<Option<String>> {
    let ids = end_token_ids(folder, tokenizer)?;
    let own = tokenizer.eos_id().filter(|own| !ids.contains(own));
    let Some(own) = own.map(|own| named(tokenizer, &[own])) else { return Ok(None) };
    Ok(Some(format!(
        "answers end at {}, as {} has it, not at the tokenizer's EOS {own}; \
         `eos_token_id` in {FILE} may list both",
        named(tokenizer, &ids),
        end_file(folder)?
    )))
}

/// That generation_config.json asks for more than is done.
fn not_done(folder: &Path) -> Result<Option<String>> {
    let path = home(folder)?.join(FILE);
    if !path.is_file() {
        return Ok(None);
    }
    let config = read_json(&path)?;
    let wishes: Vec<String> = NOT_DONE
        .iter()
        .filter_map(|(key, neutral)| {
            let value = config.get(key).filter(|value| !asks_nothing(value, *neutral))?;
            Some(format!("`{key}` {}", shown(value)))
        })
        .collect();
    Ok((!wishes.is_empty())
        .then(|| format!("{FILE} asks for {}, which is not done here", wishes.join(", "))))
}

fn asks_nothing(value: &Value, neutral: Option<f64>) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => neutral.is_some() && number.as_f64() == neutral,
        Value::Array(items) => items.is_empty(),
        Value::Object(table) => table.is_empty(),
        Value::Bool(true) | Value::String(_) => false,
    }
}

/// A number as it is; of what is longer, that it is there.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{} of them]", items.len()),
        Value::Object(_) => "{…}".to_owned(),
        other => other.to_string(),
    }
}

/// The file that names the ids at which answers end.
fn end_file(folder: &Path) -> Result<&'static str> {
    let home = home(folder)?;
    Ok(if generation_eos(&home)?.is_some() {
        FILE
    } else if LmConfig::read(&home)?.eos_token_ids().is_empty() {
        "the tokenizer"
    } else {
        "config.json"
    })
}

fn home(folder: &Path) -> Result<PathBuf> {
    Ok(base_of_adapter(folder)?.unwrap_or_else(|| folder.to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn wishes_that_change_nothing_are_not_told() {
        let folder = tempfile::tempdir().unwrap();
        let told = |config: Value| {
            std::fs::write(folder.path().join(FILE), config.to_string()).unwrap();
            not_done(folder.path()).unwrap()
        };
        let neutral = json!({
            "repetition_penalty": 1, "no_repeat_ngram_size": 0, "bad_words_ids": null,
            "suppress_tokens": [], "num_beams": 1, "min_length": 0, "temperature": 0.6,
            "top_k": 20, "top_p": 0.95, "do_sample": true, "eos_token_id": [1, 2], "typical_p": 1.0
        });
        assert_eq!(told(neutral), None);
        assert_eq!(
            told(json!({
                "repetition_penalty": 1.05, "bad_words_ids": [[1], [2, 3]], "min_new_tokens": 8
            }))
            .unwrap(),
            "generation_config.json asks for `repetition_penalty` 1.05, `bad_words_ids` [2 of \
             them], `min_new_tokens` 8, which is not done here"
        );
    }
}
