//! Best of n whole samples by the scorer. It runs as chunk-level beam search with `W = 1`, `K = n`
//! and one chunk.

use serde::{Deserialize, Serialize};

use super::settings::{Asked, Key, KeyValue, Kind, SearchSettings, at_least_one};
use super::{Cbs, Opened, Searcher};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BestOfN {
    pub n: usize,
}

impl BestOfN {
    pub const KIND: Kind = Kind {
        name: "best_of_n",
        keys: &[Key {
            name: "n",
            symbol: None,
            value: KeyValue::Count(16),
            help: "N of best_of_n",
        }],
        draws: true,
        compares: true,
    };
}

impl SearchSettings for BestOfN {
    fn problems(&self, key: &str) -> Vec<String> {
        at_least_one(key, &[("n", self.n)])
    }

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
