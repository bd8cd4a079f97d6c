//! One sample: nothing is compared. It runs as chunk-level beam search with `W = K = 1` and one
//! chunk.

use serde::{Deserialize, Serialize};

use super::settings::{Asked, Kind, SearchSettings};
use super::{Cbs, Opened, Searcher};

/// One sample for each prompt; recipes call it by what is sampled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {}

impl Sample {
    pub const KIND: Kind = Kind { name: "base", keys: &[], draws: true, compares: false };
}

impl SearchSettings for Sample {
    fn problems(&self, _key: &str) -> Vec<String> {
        Vec::new()
    }

    fn words(&self, proposal: &str) -> String {
        format!("{proposal} sampled alone")
    }

    fn begin(&self, asked: &Asked, opened: Opened) -> Box<dyn Searcher> {
        Cbs { semantics: asked.semantics, ..Cbs::plain(asked.max_new_tokens) }
            .begin(opened, asked.with_trace)
    }
}
