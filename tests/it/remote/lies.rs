//! What servers get wrong, and what goes wrong at them: each by itself.

use std::collections::BTreeSet;

use serde_json::json;
use w2s::sampling::Sampling;
use w2s::search::{Finish, Proposer};

use super::asking::{Wanted, all, api, folder, grown, local, served, text};
use crate::common::fakes::{Fake, Kind, Options};

const HOT: Sampling = Sampling::Random { temperature: 1.0, top_k: 0, top_p: 1.0 };

fn wanted(count: u64, max_new_tokens: usize) -> Wanted<'static> {
    Wanted { sampling: HOT, count, ..Wanted::greedy(max_new_tokens) }
}

/// Servers say that they count, and llama.cpp counts the first continuation only.
#[test]
fn sampled_tokens_are_counted_whatever_usage_says() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(&scratch);
    for kind in [Kind::Vllm, Kind::Sglang, Kind::LlamaCpp, Kind::Tgi, Kind::TransformersServe] {
        let fake = Fake::start(kind, &folder, Options::default());
        let mut base = served(&api(&fake.url(), json!({})), None, &wanted(12, 6));
        let before = fake.counts().sampled_tokens;
        let found = all(&mut base, "The film was", &wanted(12, 6));
        let told: u64 = found.iter().map(|found| found.sampled).sum();
        assert_eq!(told, (fake.counts().sampled_tokens - before) as u64, "{kind:?}");
    }
}

/// `n` that is ignored, refused above some number, answered by one less, or with an index twice.
#[test]
fn all_continuations_come_and_no_two_are_one() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(&scratch);
    let well = Options::default();
    let fewer = Options { fewer: true, ..Options::default() };
    let duplicates = Options { duplicates: true, ..Options::default() };
    for (kind, options) in [
        (Kind::Vllm, &well),
        (Kind::LlamaCpp, &well),
        (Kind::LlamaCppPython, &well),
        (Kind::TransformersServe, &well),
        (Kind::Tgi, &well),
        (Kind::Vllm, &fewer),
        (Kind::Sglang, &fewer),
        (Kind::LlamaCpp, &fewer),
        (Kind::OpenAi, &fewer),
        (Kind::Vllm, &duplicates),
        (Kind::LlamaCpp, &duplicates),
        (Kind::OpenAi, &duplicates),
    ] {
        let fake = Fake::start(kind, &folder, options.clone());
        let mut base = served(&api(&fake.url(), json!({})), None, &wanted(20, 12));
        let found = all(&mut base, "The film was", &wanted(20, 12));
        let texts: BTreeSet<&str> =
            found.iter().map(|found| found.response.text.as_str()).collect();
        assert_eq!((found.len(), texts.len()), (20, 20), "{kind:?} {options:?}");
    }
}

/// Stop strings are taken off whoever leaves them there, those beyond OpenAI's four too.
#[test]
fn stop_strings_end_texts_as_they_do_here() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(&scratch);
    let whole = text(&mut local(&folder, &Wanted::greedy(14)), "I saw it", &Wanted::greedy(14));
    let middle: String = whole.chars().skip(5).take(2).collect();
    let stop = ["~1", "~2", "~3", "~4", "~5", middle.as_str()];
    let wanted = Wanted { stop: &stop, ..Wanted::greedy(14) };
    let expected = all(&mut local(&folder, &wanted), "I saw it", &wanted).remove(0).response;
    assert_eq!(expected.finish, Some(Finish::Stop));
    for kind in Kind::ALL {
        let fake = Fake::start(kind, &folder, Options::default());
        let mut base = served(&api(&fake.url(), json!({})), None, &wanted);
        let found = all(&mut base, "I saw it", &wanted).remove(0).response;
        assert_eq!(
            (found.text, found.finish),
            (expected.text.clone(), expected.finish),
            "{kind:?}"
        );
    }
}

/// BOS by text is put there once more; by ids nobody puts anything.
#[test]
fn ids_are_read_as_they_are_where_texts_get_a_bos() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(&scratch);
    let wanted = Wanted::greedy(12);
    let expected = text(&mut local(&folder, &wanted), "The film was", &wanted);
    for kind in [Kind::Vllm, Kind::Sglang, Kind::LlamaCpp] {
        let fake = Fake::start(kind, &folder, Options { adds_bos: true, ..Options::default() });
        let mut base = served(&api(&fake.url(), json!({})), Some(&folder), &wanted);
        assert_eq!(text(&mut base, "The film was", &wanted), expected, "{kind:?}");
        let mut base = served(&api(&fake.url(), json!({})), None, &wanted);
        assert_ne!(text(&mut base, "The film was", &wanted), expected, "{kind:?} with BOS");
    }
}

#[test]
fn an_empty_prompt_is_refused_before_it_is_sent() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(&scratch);
    let fake = Fake::start(Kind::LlamaCpp, &folder, Options::default());
    let mut base = served(&api(&fake.url(), json!({})), None, &Wanted::greedy(4));
    let empty = w2s::prompt::Prompt::new("p", "");
    let error = base.open(&[&empty.text]).unwrap_err().to_string();
    assert!(error.contains("an empty prompt"), "{error}");
    assert_eq!(fake.counts().requests, 0);
}

#[test]
fn what_is_refused_loses_its_prompt_and_no_other() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(&scratch);
    for kind in Kind::ALL {
        let options = Options { fails_for: Some("bomb".into()), ..Options::default() };
        let fake = Fake::start(kind, &folder, options);
        let mut base = served(&api(&fake.url(), json!({})), None, &wanted(3, 5));
        let lost = grown(&mut base, "a bomb", &wanted(3, 5));
        let told = |outcome: &w2s::error::Result<_>| match outcome {
            Err(error) => error.to_string().contains("this prompt is refused"),
            Ok(_) => false,
        };
        assert!(lost.iter().all(told), "{kind:?}");
        assert_eq!(all(&mut base, "a film", &wanted(3, 5)).len(), 3, "{kind:?}");
    }
}

#[test]
fn a_server_that_takes_few_at_once_answers_all() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(&scratch);
    let options = Options {
        at_once: Some(2),
        latency: std::time::Duration::from_millis(5),
        ..Options::default()
    };
    let fake = Fake::start(Kind::TransformersServe, &folder, options);
    let api = api(&fake.url(), json!({ "limits": { "at_once": 8 } }));
    let mut base = served(&api, None, &wanted(24, 3));
    assert_eq!(all(&mut base, "The film was", &wanted(24, 3)).len(), 24);
}
