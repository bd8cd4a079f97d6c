//! Bad days: every run ends with all prompts answered or listed, and the next one asks again for
//! what is lacking and for nothing else.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use super::{CBS, Words, hash, recipe};
use crate::common::loopback::{Play, Reply};
use crate::common::{failure, lines, output, stderr, success, w2s};

/// Short waits, so that bad days are short.
const API: &str =
    "limits = { at_once = 16, attempts = 20, first_byte_seconds = 0.5, silence_seconds = 0.3 }";

fn run(recipe: &Path, out: &Path) -> Command {
    let mut command = w2s();
    command.arg("run").arg(recipe).arg("--out").arg(out);
    command
}

fn answered(out: &Path) -> HashSet<String> {
    let lines = lines(&out.join("steer/served/cbs/seed-1.jsonl"));
    let ids: HashSet<String> =
        lines.iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), lines.len(), "each prompt once");
    ids
}

#[test]
fn whatever_goes_wrong_now_and_then_every_prompt_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let quiet = Words::start(|_| Duration::ZERO);
    let file = recipe(folder.path(), &quiet.url(), 30, API, CBS);
    let good = folder.path().join("good");
    success(&mut run(&file, &good));
    let count = AtomicUsize::new(0);
    let bad = Words::with(
        |_| Duration::from_millis(1),
        move |asked, reply| {
            let number = count.fetch_add(1, Ordering::SeqCst) as u64;
            let bytes = reply.bytes().len();
            let mut body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
            let error = |status| Play::Reply(Reply::json(status, &json!({ "error": "busy" })));
            match hash(&[&number.to_le_bytes(), asked.path.as_bytes()]) % 24 {
                0 => error(500),
                1 => Play::Reply(
                    Reply::json(429, &json!({ "error": "slow down" })).with("retry-after", "0"),
                ),
                2 => error(503),
                3 => Play::CutAfter(number as usize % bytes, reply),
                4 => Play::ResetAfter(number as usize % bytes, reply),
                5 => Play::Drip { every: Duration::from_millis(2), bytes: bytes / 20, reply },
                6 => Play::SilentAfter(number as usize % bytes, reply),
                7 => Play::Reply(Reply::text(200, "<html>gateway</html>")),
                8 => Play::json(&json!({ "object": "error", "message": "oops" })),
                9 => Play::json(&json!({ "choices": [] })),
                10 => {
                    // Fewer than were asked for.
                    body["choices"].as_array_mut().unwrap().truncate(1);
                    Play::json(&body)
                }
                11 => {
                    // One index twice.
                    let choices = body["choices"].as_array_mut().unwrap();
                    choices.iter_mut().for_each(|choice| choice["index"] = json!(0));
                    Play::json(&body)
                }
                _ => Play::Reply(reply),
            }
        },
    );
    let file = recipe(folder.path(), &bad.url(), 30, API, CBS);
    let out = folder.path().join("out");
    success(&mut run(&file, &out));
    assert_eq!(answered(&out).len(), 30);
    // Where several continuations of one request were lacking they were asked for again by seeds of
    // their own; all other answers are those of a good day.
    let texts = |out: &Path| {
        let lines = lines(&out.join("steer/served/cbs/seed-1.jsonl"));
        let of = |line: &serde_json::Value| (line["id"].to_string(), line["response"].to_string());
        lines.iter().map(of).collect::<HashSet<_>>()
    };
    let same = texts(&good).intersection(&texts(&out)).count();
    assert!(same > 10, "{same}");
}

#[test]
fn prompts_that_stay_failed_are_listed_and_asked_again_by_the_next_run() {
    let folder = tempfile::tempdir().unwrap();
    let is_ill = Arc::new(AtomicBool::new(true));
    let ill = is_ill.clone();
    let words = Words::with(
        |_| Duration::ZERO,
        move |asked, reply| {
            let text = String::from_utf8_lossy(&asked.body).into_owned();
            let is_bad = ["say 7\"", "[115,97,121,32,55,"].iter().any(|bad| text.contains(bad));
            match is_bad && ill.load(Ordering::SeqCst) {
                true => Play::Reply(Reply::json(400, &json!({ "message": "no such words" }))),
                false => Play::Reply(reply),
            }
        },
    );
    let file = recipe(folder.path(), &words.url(), 20, API, CBS);
    let out = folder.path().join("out");
    let error = failure(&mut run(&file, &out), 1);
    assert!(
        error.contains("prompt `test-7` has no answer") && error.contains("no such words"),
        "{error}"
    );
    assert_eq!(answered(&out).len(), 19);
    is_ill.store(false, Ordering::SeqCst);
    let before = words.book.requests();
    success(&mut run(&file, &out));
    assert_eq!(answered(&out).len(), 20);
    assert_eq!(words.book.requests() - before, 2, "two requests for the one prompt");
}

#[test]
fn a_budget_ends_a_run_cleanly_and_a_larger_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let words = Words::start(|_| Duration::from_millis(2));
    let api =
        |tokens: usize| format!("budget = {{ tokens = {tokens} }}, limits = {{ at_once = 4 }}");
    let file = recipe(folder.path(), &words.url(), 100, &api(800), CBS);
    let out = folder.path().join("out");
    let ended = output(&mut run(&file, &out));
    let told = stderr(&ended);
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(
        told.contains("the budget is used up")
            && told.contains("raise `budget`")
            && told.contains("of 100 prompts have no answer yet"),
        "{told}"
    );
    let spent = |out: &Path| -> u64 {
        let paid = lines(&out.join("requests/served.jsonl"));
        let tokens = |line: &serde_json::Value| {
            line["prompt_tokens"].as_u64().unwrap() + line["completion_tokens"].as_u64().unwrap()
        };
        paid.iter().map(tokens).sum()
    };
    assert!((600..=800).contains(&spent(&out)), "{}", spent(&out));
    let before = words.book.requests();
    // Nothing is left, so nothing is sent.
    failure(&mut run(&file, &out), 1);
    assert!(words.book.requests() - before <= 4, "{}", words.book.requests() - before);
    let file = recipe(folder.path(), &words.url(), 100, &api(1_000_000), CBS);
    success(&mut run(&file, &out));
    assert_eq!(answered(&out).len(), 100);
    assert_eq!(words.book.requests(), 200, "nothing was paid twice");
}

#[test]
fn a_server_that_restarts_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let words = Words::start(|_| Duration::from_millis(20));
    let file = recipe(folder.path(), &words.url(), 200, API, CBS);
    let out = folder.path().join("out");
    let mut child = run(&file, &out).spawn().unwrap();
    for at in [60, 160] {
        while words.book.requests() < at {
            assert!(child.try_wait().unwrap().is_none(), "it ended before {at} requests");
            std::thread::sleep(Duration::from_millis(2));
        }
        words.loopback.stop();
        std::thread::sleep(Duration::from_millis(300));
        words.loopback.restart();
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(answered(&out).len(), 200);
}
