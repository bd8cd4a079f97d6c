//! Searches as recipes spell them, so that a setting more with a default changes no test.

use serde_json::{Value, json};
use w2s::search::Search;

pub fn cbs_of(beam_width: usize, successors: usize, chunk_len: usize) -> Search {
    let settings = json!({
        "beam_width": beam_width,
        "successors": successors,
        "chunk_len": chunk_len,
    });
    search("cbs", settings)
}

pub fn best_of(n: usize) -> Search {
    search("best_of_n", json!({ "n": n }))
}

fn search(kind: &str, settings: Value) -> Search {
    Search::read(kind, settings).unwrap().unwrap()
}
