//! The fakes themselves: they answer as the model does, and each does what it is there for.
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::common::fakes::{Fake, Kind, Options};
use crate::common::tiny;

/// A folder of the tiny random model.
pub fn folder(scratch: &tempfile::TempDir) -> PathBuf {
    let tokenizer = tiny::tokenizer(400, 0);
    let folder = scratch.path().join("tiny");
    tiny::model(&tokenizer, 24, "base").save(&folder).unwrap();
    tokenizer.save(&folder).unwrap();
    folder
}

/// Posts a body and reads a status and JSON, or the text as a string.
pub fn post(address: &str, body: &Value) -> (u16, Value) {
    let config = ureq::Agent::config_builder().http_status_as_error(false).build();
    let mut reply = ureq::Agent::new_with_config(config)
        .post(address)
        .header("content-type", "application/json")
        .send(body.to_string())
        .unwrap();
    let text = reply.body_mut().read_to_string().unwrap();
    (reply.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

#[test]
fn every_fake_continues_greedily_as_the_model_does() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(&scratch);
    let mut texts = Vec::new();
    for kind in Kind::ALL {
        let fake = Fake::start(kind, &folder, Options::default());
        let body = json!({
            "model": "tiny", "prompt": "The film was", "max_tokens": 6, "temperature": 0
        });
        let (status, reply) = post(&format!("{}/completions", fake.url()), &body);
        assert_eq!(status, 200, "{kind:?} {reply}");
        if !matches!(kind, Kind::Ollama | Kind::LlamaCppPython | Kind::Vllm) {
            texts.push(reply["choices"][0]["text"].as_str().unwrap().to_owned());
        }
        let counts = fake.counts();
        assert_eq!((counts.requests, counts.sampled_tokens), (1, 6), "{kind:?}");
    }
    assert!(texts.iter().all(|text| text == &texts[0] && !text.is_empty()), "{texts:?}");
}
