//! The end-of-sequence ids of a model folder, by generation_config.json before config.json. Whether
//! the tokenizer agrees is looked at in `with_tokenizer.rs`.

use std::path::Path;

use serde::Deserialize;

use super::config::LmConfig;
use super::config_keys::TokenIds;
use super::json_file::read_json;
use crate::artifacts::stand_in;
use crate::error::{Error, Result};

pub(super) const FILE: &str = "generation_config.json";

/// The end-of-sequence ids of the model in `folder`, whose config this is.
pub(super) fn eos_token_ids(folder: &Path, config: &LmConfig) -> Result<Vec<i64>> {
    Ok(generation_eos(folder)?.unwrap_or_else(|| config.eos_token_ids()))
}

/// The end-of-sequence ids of generation_config.json, which replace those of the config.
pub(super) fn generation_eos(folder: &Path) -> Result<Option<Vec<i64>>> {
    #[derive(Deserialize)]
    struct GenerationConfig {
        eos_token_id: Option<TokenIds>,
    }
    let path = folder.join(FILE);
    stand_in::refuse(&path)?;
    if !path.is_file() {
        return Ok(None);
    }
    let parsed: GenerationConfig = serde_json::from_value(read_json(&path)?)
        .map_err(|error| Error::data(&path, None, error.to_string()))?;
    Ok(parsed.eos_token_id.map(|ids| ids.to_vec()))
}
