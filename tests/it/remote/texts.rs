//! Greedy texts through every server are the local base's, at once and chunk by chunk.

use serde_json::json;

use super::asking::{Wanted, all, api, folder, local, sentence_piece, served, text};
use crate::common::fakes::{Fake, Kind, Options};

const PROMPTS: [&str; 4] = ["The film was", "naïve", "日本", "I saw it"];

#[test]
fn greedy_texts_are_the_local_bases() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(&scratch);
    let wanted = Wanted::greedy(14);
    let mut base = local(&folder, &wanted);
    let expected = PROMPTS.map(|prompt| text(&mut base, prompt, &wanted));
    assert!(expected.iter().all(|text| !text.is_empty()), "{expected:?}");
    for kind in Kind::ALL {
        let fake = Fake::start(kind, &folder, Options::default());
        let mut base = served(&api(&fake.url(), json!({})), None, &wanted);
        let found = PROMPTS.map(|prompt| text(&mut base, prompt, &wanted));
        assert_eq!(found, expected, "{kind:?}");
    }
}

/// Where ids come back, a chunk may end within a word or a character.
#[test]
fn chunks_of_ids_go_on_from_the_very_tokens() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(&scratch);
    let whole = Wanted::greedy(14);
    let mut base = local(&folder, &whole);
    let expected = PROMPTS.map(|prompt| all(&mut base, prompt, &whole).remove(0).response);
    for kind in [Kind::Vllm, Kind::Sglang, Kind::LlamaCpp] {
        for tokenizer in [Some(folder.as_path()), None] {
            let fake = Fake::start(kind, &folder, Options::default());
            for chunk in [1, 3] {
                let wanted = Wanted { chunk, ..Wanted::greedy(14) };
                let mut base = served(&api(&fake.url(), json!({})), tokenizer, &wanted);
                let found =
                    PROMPTS.map(|prompt| all(&mut base, prompt, &wanted).remove(0).response);
                for (found, expected) in found.iter().zip(&expected) {
                    let place = format!("{kind:?}, chunks of {chunk}, {tokenizer:?}");
                    assert_eq!(found.ids, expected.ids, "{place}");
                    if tokenizer.is_some() {
                        assert_eq!(found.text, expected.text, "{place}");
                    }
                }
            }
        }
    }
}

/// Where texts alone come back, every request but the first goes on from a text that ends where a
/// word and a character do.
#[test]
fn chunks_of_texts_end_with_words_and_characters() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(&scratch);
    for kind in [Kind::Tgi, Kind::Ollama, Kind::OpenAi, Kind::TransformersServe] {
        let fake = Fake::start(kind, &folder, Options::default());
        let sampling = w2s::sampling::Sampling::new(1.5, 0, 1.0);
        let wanted = Wanted { sampling, chunk: 3, count: 6, ..Wanted::greedy(24) };
        let mut base = served(&api(&fake.url(), json!({})), None, &wanted);
        all(&mut base, "naïve 日本", &wanted);
        let mut continued = 0;
        for asked in fake.loopback.asked().iter().filter(|asked| asked.method == "POST") {
            let body = asked.json();
            let read = body["prompt"].as_str().or(body["inputs"].as_str()).unwrap_or_default();
            let Some(said) = read.strip_prefix("naïve 日本") else { continue };
            continued += usize::from(!said.is_empty());
            assert!(!read.ends_with(char::REPLACEMENT_CHARACTER), "{kind:?}: {read:?}");
        }
        assert!(continued > 6, "{kind:?}: {continued}");
    }
}

/// The log-probability of what was sampled is the model's own, where a server tells one.
#[test]
fn told_log_probabilities_are_the_local_bases() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(&scratch);
    let wanted = Wanted::greedy(10);
    let mut base = local(&folder, &wanted);
    for prompt in PROMPTS {
        let expected = all(&mut base, prompt, &wanted).remove(0).logprob.unwrap();
        for kind in [Kind::Vllm, Kind::LlamaCpp, Kind::OpenAi, Kind::LlamaCppPython] {
            let fake = Fake::start(kind, &folder, Options::default());
            let mut base = served(&api(&fake.url(), json!({})), None, &wanted);
            let found = all(&mut base, prompt, &wanted).remove(0);
            let Some(told) = found.logprob else {
                // Texts of tokens that are parts of a character do not make up the text.
                assert!(kind != Kind::Vllm && !found.response.text.is_ascii(), "{kind:?}");
                continue;
            };
            assert!((told - expected).abs() < 1e-4, "{kind:?}: {told} for {expected}");
        }
    }
}

/// A tokenizer of SentencePiece's kind: spaces stand where they stood, by texts and by ids.
#[test]
fn spaces_of_sentence_piece_stay_where_they_are() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = sentence_piece(&scratch);
    let prompts = ["the film", "a", "I was 日"];
    let whole = Wanted::greedy(10);
    let mut base = local(&folder, &whole);
    let expected = prompts.map(|prompt| text(&mut base, prompt, &whole));
    println!("{expected:?}");
    let options = || Options { adds_bos: true, ..Options::default() };
    for kind in [Kind::Vllm, Kind::Sglang, Kind::LlamaCpp, Kind::Tgi, Kind::Ollama, Kind::OpenAi] {
        let fake = Fake::start(kind, &folder, options());
        let mut base = served(&api(&fake.url(), json!({})), None, &whole);
        let found = prompts.map(|prompt| text(&mut base, prompt, &whole));
        assert_eq!(found, expected, "{kind:?}");
        if matches!(kind, Kind::Vllm | Kind::Sglang | Kind::LlamaCpp) {
            let wanted = Wanted { chunk: 2, ..Wanted::greedy(10) };
            let mut base = served(&api(&fake.url(), json!({})), Some(&folder), &wanted);
            let found = prompts.map(|prompt| text(&mut base, prompt, &wanted));
            assert_eq!(found, expected, "{kind:?} by chunks");
        }
    }
}
