//! Texts and ids by the tokenizers library alone, with its errors in our words. What a folder adds
//! to that, special tokens and continuations, is the business of `tokenizer.rs`.

use crate::error::{Error, Result};

/// Ids of the text alone.
pub(super) fn ids_of(tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<Vec<i64>> {
    let encoding = tokenizer
        .encode_fast(text, false)
        .map_err(|error| Error::Tokenizer(format!("cannot tokenize `{text}`: {error}")))?;
    Ok(encoding.get_ids().iter().map(|&id| i64::from(id)).collect())
}

/// The text of all ids together, with or without special tokens.
pub(super) fn text_of(
    tokenizer: &tokenizers::Tokenizer,
    ids: &[i64],
    skip_special: bool,
) -> Result<String> {
    let ids: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
    tokenizer
        .decode(&ids, skip_special)
        .map_err(|error| Error::Tokenizer(format!("cannot decode: {error}")))
}
