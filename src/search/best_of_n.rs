//! Best of n whole samples by the scorer. It runs as chunk-level beam search with `W = 1`, `K = n`
//! and one chunk.

use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};

use super::settings::{Asked, Kind, SearchSettings};
use super::{Cbs, Opened, Searcher};

/// Best of `n` whole responses by the guides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BestOfN {
    /// Responses sampled for each prompt (N).
    #[schemars(range(min = 1))]
    #[schemars(extend("x-usual" = 16, "x-also" = ["num_return_sequences", "best_of"]))]
    pub n: usize,
}

impl BestOfN {
    pub const KIND: Kind = Kind {
        name: "best_of_n",
        draws: true,
        compares: true,
        one_vocabulary: false,
        schema: || schema_for!(BestOfN),
    };
}

impl SearchSettings for BestOfN {
    fn words(&self, _proposal: &str) -> String {
        format!("best of {} by the guides", self.n)
    }

    fn samples(&self) -> usize {
        self.n
    }

    fn begin(&self, asked: &Asked, opened: Opened) -> Box<dyn Searcher> {
        Cbs { semantics: asked.semantics, ..Cbs::best_of_n(self.n, asked.max_new_tokens) }
            .begin(opened, asked.with_trace)
    }
}
