//! `[preferences.columns]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The columns of a pair file, all of them texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PairColumns {
    /// The column that holds the prompt.
    pub prompt: String,
    /// The column that holds the better response.
    pub chosen: String,
    /// The column that holds the worse response.
    pub rejected: String,
}

impl Default for PairColumns {
    fn default() -> Self {
        Self { prompt: "prompt".into(), chosen: "chosen".into(), rejected: "rejected".into() }
    }
}
