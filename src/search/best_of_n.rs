//! Best of n whole samples by the scorer. It runs as chunk-level beam search with `W = 1`, `K = n` and one chunk.

use serde::{Deserialize, Serialize};

use super::settings::{Asked, Base, Key, KeyValue, Kind, SearchSettings, at_least_one};
use super::{Cbs, Found, Scorer};
use crate::error::Result;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BestOfN {
    pub n: usize,
}

impl BestOfN {
    pub const KIND: Kind = Kind {
        name: "best_of_n",
        keys: &[Key { name: "n", symbol: None, value: KeyValue::Count(16), help: "N of best_of_n" }],
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

    fn run(
        &self,
        asked: &Asked,
        base: &mut dyn Base,
        scorer: &mut dyn Scorer,
        pause: &mut dyn FnMut() -> Result<()>,
        done: &mut dyn FnMut(usize, Found) -> Result<()>,
    ) -> Result<()> {
        let search = Cbs { semantics: asked.semantics, ..Cbs::best_of_n(self.n, asked.max_new_tokens) };
        search.search_all(asked.queries, asked.in_flight, base, scorer, asked.with_trace, pause, done)
    }
}
