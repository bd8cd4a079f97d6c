//! Runs that are killed pay for nothing twice but what was on its way.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::{CBS, Words, recipe};
use crate::common::{kill_when, lines, success, w2s};

const PROMPTS: usize = 1000;

#[test]
fn a_run_killed_ten_times_loses_nothing_and_pays_twice_for_what_was_on_its_way_alone() {
    let folder = tempfile::tempdir().unwrap();
    let words = Words::start(|drawn| Duration::from_secs_f64(0.01 + 0.04 * drawn));
    let api = "limits = { at_once = 32 }";
    let recipe = recipe(folder.path(), &words.url(), PROMPTS, api, CBS);
    let out = folder.path().join("out");
    let mut command = w2s();
    command.arg("run").arg(&recipe).arg("--out").arg(&out);
    let mut kills = Vec::new();
    for kill in 0..10 {
        // At no round number of requests.
        let until = words.book.requests() + 40 + (kill * 7919) % 97;
        kill_when(&mut command, "sampling", || words.book.requests() >= until);
        kills.push(Instant::now());
    }
    success(&mut command);
    let answered = lines(&out.join("steer/served/cbs/seed-1.jsonl"));
    let ids: HashSet<&str> = answered.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!((answered.len(), ids.len()), (PROMPTS, PROMPTS));
    let repeated = words.book.repeated();
    assert!(!repeated.is_empty() && repeated.len() <= 10 * 32, "{}", repeated.len());
    // Between an answer and the disk there is a little time.
    let slack = Duration::from_millis(500);
    for spans in &repeated {
        let [came, due] = spans[0];
        let was_on_its_way = kills.iter().any(|kill| came <= *kill && *kill <= due + slack);
        assert!(was_on_its_way, "{spans:?} {kills:?}");
    }
    // All in all: two requests a prompt.
    let extra: usize = repeated.iter().map(|spans| spans.len() - 1).sum();
    assert_eq!(words.book.requests(), 2 * PROMPTS + extra);
    println!("{} requests, {extra} of them twice", words.book.requests());
    let paid = lines(&out.join("requests/served.jsonl"));
    assert_eq!(paid.len(), 2 * PROMPTS);
    // What is done stays done, and the server is not even asked what it is.
    let before = words.loopback.asked().len();
    success(&mut command);
    assert_eq!(words.loopback.asked().len(), before);
}
