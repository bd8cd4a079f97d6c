//! One sample: nothing is compared. It runs as chunk-level beam search with `W = K = 1` and one chunk.

use serde::{Deserialize, Serialize};

use super::settings::{Asked, Base, Kind, SearchSettings};
use super::{Cbs, Found, Scorer};
use crate::error::Result;

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

    fn run(
        &self,
        asked: &Asked,
        base: &mut dyn Base,
        scorer: &mut dyn Scorer,
        pause: &mut dyn FnMut() -> Result<()>,
        done: &mut dyn FnMut(usize, Found) -> Result<()>,
    ) -> Result<()> {
        let search = Cbs { semantics: asked.semantics, ..Cbs::plain(asked.max_new_tokens) };
        search.search_all(asked.queries, asked.in_flight, base, scorer, asked.with_trace, pause, done)
    }
}
