//! Whole runs over a server of words: what it says is a function of what it reads, the seed and the
//! place alone, as vLLM spells it.

mod busy;
mod faults;
mod kills;
mod recipes;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::loopback::{Asked, Loopback, Play, Reply};
use crate::common::tiny_model;

/// One request for words: when it came, and when its answer was due.
type Span = [Instant; 2];

/// What was asked for, by the whole of what was asked.
#[derive(Default)]
pub struct Book(Mutex<HashMap<String, Vec<Span>>>);

impl Book {
    pub fn requests(&self) -> usize {
        self.0.lock().unwrap().values().map(Vec::len).sum()
    }

    /// What was asked more than once: when each came and was answered.
    pub fn repeated(&self) -> Vec<Vec<Span>> {
        self.0.lock().unwrap().values().filter(|spans| spans.len() > 1).cloned().collect()
    }

    pub fn spans(&self) -> Vec<Span> {
        self.0.lock().unwrap().values().flatten().copied().collect()
    }
}

pub struct Words {
    pub loopback: Loopback,
    pub book: Arc<Book>,
}

impl Words {
    /// `latency` is how long an answer takes, of a number that is drawn from what is asked.
    pub fn start(latency: impl Fn(f64) -> Duration + Send + Sync + 'static) -> Self {
        Self::with(latency, |_, reply| Play::Reply(reply))
    }

    /// The same with what else may happen to the answer of a request for words.
    pub fn with(
        latency: impl Fn(f64) -> Duration + Send + Sync + 'static,
        play: impl Fn(&Asked, Reply) -> Play + Send + Sync + 'static,
    ) -> Self {
        let book = Arc::new(Book::default());
        let known = book.clone();
        let loopback = Loopback::start(move |asked| {
            if asked.path == "/v1/models" {
                return Play::json(&json!({
                    "data": [{ "id": "words", "owned_by": "vllm", "max_model_len": 4096 }]
                }));
            }
            if asked.path != "/v1/completions" {
                return Play::Reply(Reply::json(404, &json!({ "detail": "Not Found" })));
            }
            let body = asked.json();
            let drawn = (hash(&[body.to_string().as_bytes()]) % 1000) as f64 / 1000.0;
            let late = latency(drawn);
            let span = [asked.at, asked.at + late];
            known.0.lock().unwrap().entry(body.to_string()).or_default().push(span);
            play(asked, Reply::json(200, &said(&body))).slow(late)
        });
        Self { loopback, book }
    }

    pub fn url(&self) -> String {
        format!("{}/v1", self.loopback.url())
    }
}

fn hash(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter());
    bytes.fold(0xcbf2_9ce4_8422_2325, |state, byte| {
        (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(17)
    })
}

/// The words for a request: the ids 300 to 399 are words, smaller ones the bytes of a prompt.
fn said(body: &Value) -> Value {
    let prompt = match &body["prompt"] {
        Value::String(text) => text.bytes().map(i64::from).collect(),
        ids => ids.as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect::<Vec<_>>(),
    };
    let (n, seed) = (body["n"].as_u64().unwrap_or(1), body["seed"].as_u64().unwrap());
    let tokens = body["max_tokens"].as_u64().unwrap();
    let read: Vec<u8> = prompt.iter().flat_map(|id| id.to_le_bytes()).collect();
    let choice = |index: u64| {
        let drawn =
            |place: u64| hash(&[&read, &(seed + index).to_le_bytes(), &place.to_le_bytes()]) % 100;
        let ids: Vec<i64> = (0..tokens).map(|place| 300 + drawn(place) as i64).collect();
        let text: String = ids.iter().map(|id| format!(" w{}", id - 300)).collect();
        json!({
            "index": index, "text": text, "finish_reason": "length", "stop_reason": null,
            "token_ids": ids, "prompt_token_ids": prompt,
            "logprobs": {
                "tokens": vec!["w"; ids.len()], "token_logprobs": vec![-1.5; ids.len()]
            }
        })
    };
    json!({
        "choices": (0..n).map(choice).collect::<Vec<_>>(),
        "usage": { "prompt_tokens": prompt.len(), "completion_tokens": n * tokens }
    })
}

/// A recipe in `folder` that steers the server's model over so many prompts, with a tiny guide
/// pair.
pub fn recipe(folder: &Path, url: &str, prompts: usize, api: &str, methods: &str) -> PathBuf {
    let model = tiny_model(folder);
    let data = folder.join("data");
    fs::create_dir_all(&data).unwrap();
    let rows: String = (0..prompts)
        .map(|i| format!("{}\n", json!({ "id": format!("p{i}"), "prompt": format!("say {i}") })))
        .collect();
    fs::write(data.join("test.jsonl"), rows).unwrap();
    for (split, prompt) in [("train", "train"), ("validation", "validate")] {
        let row = json!({ "prompt": prompt }).to_string();
        fs::write(data.join(format!("{split}.jsonl")), row).unwrap();
    }
    let text = format!(
        r#"
[run]
name = "served"
dtype = "float32"
seeds = [1]

[data]
source = "data"
columns = {{ prompt = "prompt" }}
train = 0
validation = 0
test = 0

[models.guide]
id = "{guide}"

[models.served]
api = {{ url = "{url}", {api} }}

[steer]
bases = ["served"]
tuned = "guide"
untuned = "guide"
prompts = {prompts}
max_new_tokens = 4
sampling = {{ temperature = 1.0, top_k = 0, top_p = 1.0 }}

{methods}
"#,
        guide = model.display()
    );
    let file = folder.join("recipe.toml");
    fs::write(&file, text).unwrap();
    file
}

pub const CBS: &str = r#"
[[steer.method]]
kind = "cbs"
beam_width = 1
successors = 2
chunk_len = 2
"#;
