//! One sample: nothing is compared. It runs as chunk-level beam search with `W = K = 1` and one
//! chunk.

use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};

use super::settings::{Asked, Kind, SearchSettings};
use super::{Cbs, Opened, Searcher};

/// Samples the base alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sample {}

impl Sample {
    pub const KIND: Kind = Kind {
        name: "base",
        draws: true,
        compares: false,
        one_vocabulary: false,
        schema: || schema_for!(Sample),
    };
}

impl SearchSettings for Sample {
    fn words(&self, proposal: &str) -> String {
        format!("{proposal} sampled alone")
    }

    fn begin(&self, asked: &Asked, opened: Opened) -> Box<dyn Searcher> {
        Cbs { semantics: asked.semantics, ..Cbs::plain(asked.max_new_tokens) }
            .begin(opened, asked.with_trace)
    }
}
