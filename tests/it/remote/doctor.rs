//! `w2s doctor URL`: what it finds out about each fake, by asking alone.

use super::asking::folder;
use crate::common::fakes::{Fake, Kind, Options};
use crate::common::{failure, success, w2s};

/// The lines of the report.
fn report(fake: &Fake) -> Vec<String> {
    let text = success(w2s().args(["doctor", &fake.url()]));
    println!("{text}");
    text.lines().map(|line| line.trim().to_owned()).collect()
}

/// What stands behind `of`.
fn found<'a>(report: &'a [String], of: &str) -> &'a str {
    let line = report.iter().find_map(|line| line.strip_prefix(&format!("{of}  ")));
    line.unwrap_or_else(|| panic!("no `{of}` in {report:#?}")).trim()
}

#[test]
fn every_server_is_seen_through() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(&scratch);
    for (kind, expected) in [
        (
            Kind::Vllm,
            [
                ("dialect", "vllm"),
                ("n", "continuations of one request, by counting: up to 128"),
                ("ids in", "yes"),
                ("ids back", "yes (12 of 12)"),
                ("seed", "repeats a text"),
                ("settings left out", "it cuts or sharpens"),
                ("stop strings", "are taken off and are told"),
                ("echo", "yes, with"),
                ("prompt log-probabilities", "yes"),
                ("tokenizer routes", "/tokenize"),
                ("prefix reuse", "yes"),
                ("next tokens", "not all are told"),
            ],
        ),
        (
            Kind::LlamaCpp,
            [
                ("dialect", "llama.cpp"),
                ("n", "continuations of one request, by counting: up to 8"),
                ("ids in", "yes, and behind a text"),
                ("ids back", "yes"),
                ("seed", "repeats a text"),
                ("settings left out", "it cuts or sharpens"),
                ("stop strings", "are taken off and are told"),
                ("echo", "ignored"),
                ("prompt log-probabilities", "none"),
                ("tokenizer routes", "/tokenize"),
                ("next tokens", "all 400 told"),
                ("context", "128 tokens"),
            ],
        ),
        (
            Kind::Sglang,
            [
                ("dialect", "sglang"),
                ("n", "continuations of one request, by counting: up to 128"),
                ("ids in", "yes"),
                ("ids back", "yes"),
                ("seed", "repeats a text"),
                ("settings left out", "it cuts or sharpens"),
                ("stop strings", "are taken off and are told"),
                ("log-probabilities", "those that it samples from"),
                ("prompt log-probabilities", "yes"),
                ("tokenizer routes", "/tokenize"),
                ("prefix reuse", "yes"),
                ("before a text", "nothing"),
            ],
        ),
        (
            Kind::Tgi,
            [
                ("dialect", "tgi"),
                ("n", "one a request"),
                ("ids in", "none"),
                ("ids back", "none"),
                ("seed", "repeats a text"),
                ("settings left out", "greedy where nothing is told"),
                ("stop strings", "stay in the text and are told"),
                ("log-probabilities", "none"),
                ("prompt log-probabilities", "yes"),
                ("tokenizer routes", "/tokenize"),
                ("prefix reuse", "not told"),
                ("context", "128 tokens"),
            ],
        ),
        (
            Kind::Ollama,
            [
                ("dialect", "ollama"),
                ("n", "one a request"),
                ("ids in", "none"),
                ("ids back", "none"),
                ("seed", "repeats a text"),
                ("settings left out", "it cuts or sharpens"),
                ("stop strings", "are taken off and are not told"),
                ("log-probabilities", "none"),
                ("prompt log-probabilities", "none"),
                ("tokenizer routes", "none"),
                ("prefix reuse", "not told"),
                ("context", "not told"),
            ],
        ),
        (
            Kind::OpenAi,
            [
                ("dialect", "openai"),
                ("n", "continuations of one request, by counting: up to 128"),
                ("ids in", "taken, and none come back"),
                ("ids back", "none"),
                ("seed", "repeats a text"),
                ("top_k", "not taken"),
                ("settings left out", "none seen"),
                ("stop strings", "are taken off and are not told"),
                ("echo", "refused"),
                ("prompt log-probabilities", "none"),
                ("tokenizer routes", "none"),
                ("before a text", "nothing"),
            ],
        ),
        (
            Kind::TransformersServe,
            [
                ("dialect", "transformers"),
                ("n", "one a request"),
                ("ids in", "none"),
                ("ids back", "none"),
                ("seed", "repeats a text"),
                ("settings left out", "greedy where nothing is told"),
                ("stop strings", "stay in the text and are not told"),
                ("echo", "ignored"),
                ("prompt log-probabilities", "none"),
                ("tokenizer routes", "none"),
                ("prefix reuse", "not told"),
                ("before a text", "nothing"),
            ],
        ),
        (
            Kind::LlamaCppPython,
            [
                ("dialect", "openai"),
                ("n", "one a request"),
                ("ids in", "refused"),
                ("ids back", "none"),
                ("seed", "repeats a text"),
                ("top_k", "taken"),
                ("settings left out", "it cuts or sharpens"),
                ("stop strings", "are taken off and are not told"),
                ("echo", "yes, with"),
                ("prompt log-probabilities", "by `echo`"),
                ("tokenizer routes", "/extras/tokenize"),
                ("before a text", "nothing"),
            ],
        ),
    ] {
        let fake = Fake::start(kind, &folder, Options::default());
        let report = report(&fake);
        for (of, begin) in expected {
            let found = found(&report, of);
            assert!(found.starts_with(begin), "{kind:?} {of}: {found}");
        }
        let line = report.iter().find(|line| line.starts_with("api = {")).unwrap();
        let dialect = found_dialect(&report);
        assert!(line.contains(&format!("dialect = \"{dialect}\"")), "{kind:?}: {line}");
        let drops = line.contains("unsupported = \"drop\"");
        assert_eq!(drops, matches!(kind, Kind::OpenAi | Kind::LlamaCppPython), "{line}");
    }
}

fn found_dialect(report: &[String]) -> &str {
    found(report, "dialect")
}

#[test]
fn what_servers_do_of_their_own_accord_is_seen() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(&scratch);
    let options = Options { adds_bos: true, ..Options::default() };
    let seen = report(&Fake::start(Kind::Vllm, &folder, options));
    let before = found(&seen, "before a text");
    assert_eq!(
        before,
        "1 of its own, so no text should bring it; `<|endoftext|>` stands there twice"
    );
    let options = Options { ignores_seeds: true, ..Options::default() };
    let seen = report(&Fake::start(Kind::Sglang, &folder, options));
    assert_eq!(found(&seen, "seed"), "does not repeat a text");
    let options = Options { fewer: true, ..Options::default() };
    let seen = report(&Fake::start(Kind::OpenAi, &folder, options));
    assert!(found(&seen, "n").starts_with("one a request"), "{seen:?}");
}

#[test]
fn a_server_that_is_not_there_or_wants_a_key_is_told() {
    let error = failure(w2s().args(["doctor", "http://127.0.0.1:9/v1"]), 1);
    assert!(error.contains("cannot be reached"), "{error}");
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(&scratch);
    let options = Options { key: Some("sesame".into()), ..Options::default() };
    let fake = Fake::start(Kind::OpenAi, &folder, options);
    let error = failure(w2s().args(["doctor", &fake.url()]), 1);
    assert!(error.contains("401") && error.contains("`key`"), "{error}");
    let text = success(
        w2s().args(["doctor", &fake.url(), "--key", "W2S_TEST_KEY"]).env("W2S_TEST_KEY", "sesame"),
    );
    assert!(text.contains("key = \"W2S_TEST_KEY\"") && !text.contains("sesame"), "{text}");
}
