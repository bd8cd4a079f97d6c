//! Whose rules hold where the paper and its released code differ.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::response::Finish;

/// They differ in what becomes of finished hypotheses, and of responses that the token budget cuts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Semantics {
    /// Algorithm 1: candidates are a set, which a complete hypothesis enters once, and a truncated
    /// response is scored as it stands.
    #[default]
    Paper,
    /// The released code: a finished hypothesis is copied K times like any other and identical
    /// candidates stay apart, so one answer can fill the beam; a truncated response counts as
    /// complete, so the guides' end-of-sequence token is scored behind it.
    Official,
}

impl Semantics {
    /// Whether the guides' end-of-sequence token belongs to the score.
    pub(super) fn ends(self, finish: Option<Finish>) -> bool {
        match self {
            Self::Paper => finish.is_some_and(Finish::is_complete),
            Self::Official => finish.is_some(),
        }
    }
}
