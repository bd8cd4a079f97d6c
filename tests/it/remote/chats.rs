//! Chats that go on with an assistant's turn, and those that do not.

use serde_json::json;
use w2s::policy::remote::Server;

use super::asking::{Wanted, api, folder, local, served, text};
use crate::common::fakes::{Fake, Kind, Options};

/// The fakes' template puts a line behind the user's turn.
#[test]
fn a_turn_goes_on_and_what_is_repeated_of_it_is_cut() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(&scratch);
    let wanted = Wanted::greedy(12);
    let expected = text(&mut local(&folder, &wanted), "The film was\n", &wanted);
    for kind in [Kind::Vllm, Kind::LlamaCpp] {
        let fake = Fake::start(kind, &folder, Options::default());
        let api = api(&fake.url(), json!({ "dialect": "chat" }));
        let mut base = served(&api, None, &wanted);
        assert_eq!(text(&mut base, "The film was", &wanted), expected, "{kind:?}");
        let chunks = Wanted { chunk: 4, ..Wanted::greedy(12) };
        let mut base = served(&api, None, &chunks);
        let said = text(&mut base, "The film was", &chunks);
        let bodies: Vec<_> = fake.loopback.asked().iter().map(|asked| asked.json()).collect();
        let prefills: Vec<&str> =
            bodies.iter().filter_map(|body| body["messages"][1]["content"].as_str()).collect();
        assert!(!prefills.is_empty(), "{kind:?}");
        assert!(prefills.iter().all(|prefill| said.starts_with(prefill)), "{kind:?} {prefills:?}");
    }
}

#[test]
fn chats_that_begin_a_new_turn_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(&scratch);
    for kind in [Kind::OpenAi, Kind::TransformersServe] {
        let fake = Fake::start(kind, &folder, Options::default());
        let api = api(&fake.url(), json!({ "dialect": "chat" }));
        let error = Server::open("models.served", &api).unwrap_err().to_string();
        assert!(error.contains("go on with an assistant's turn"), "{kind:?}: {error}");
    }
}
