//! Other people's servers, played on the loopback interface in front of one real tiny model: what
//! each takes, gives, leaves out and gets wrong, a file each. How they differ from their papers is
//! what these are for, so nothing here is kinder than the real ones were seen to be.

mod chat;
mod knobs;
mod llama_cpp;
mod llama_cpp_python;
mod model;
mod ollama;
mod openai;
mod prompts;
mod server;
mod sglang;
mod tgi;
mod transformers_serve;
mod vllm;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

pub use server::Counts;

use super::loopback::{Asked, Loopback, Play, Reply};
use server::Server;

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Vllm,
    Sglang,
    LlamaCpp,
    Tgi,
    Ollama,
    OpenAi,
    TransformersServe,
    LlamaCppPython,
}

impl Kind {
    pub const ALL: [Self; 8] = [
        Self::Vllm,
        Self::Sglang,
        Self::LlamaCpp,
        Self::Tgi,
        Self::Ollama,
        Self::OpenAi,
        Self::TransformersServe,
        Self::LlamaCppPython,
    ];
}

/// How the server is set up, and what goes wrong at it.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How long every request takes at least.
    pub latency: Duration,
    /// Requests at once above which 429 is the answer.
    pub at_once: Option<usize>,
    /// One choice less than asked for.
    pub fewer: bool,
    /// The last of several choices has the first one's index.
    pub duplicates: bool,
    /// 400 for prompts that hold this text.
    pub fails_for: Option<String>,
    /// Text prompts get the model's BOS in front, those that bring it too.
    pub adds_bos: bool,
    /// The key without which nothing is answered.
    pub key: Option<String>,
    /// vLLM with `--max-logprobs -1`.
    pub tells_all: bool,
    /// Seeds are read and not used.
    pub ignores_seeds: bool,
}

pub struct Fake {
    server: Arc<Server>,
    pub loopback: Loopback,
}

impl Fake {
    /// Serves the model of the folder, in f32 on the processor.
    pub fn start(kind: Kind, folder: &Path, options: Options) -> Self {
        let server = Arc::new(Server::open(folder, options));
        let shared = server.clone();
        let loopback = Loopback::start(move |asked| Play::Reply(handle(kind, &shared, asked)));
        Self { server, loopback }
    }

    /// Where its OpenAI routes begin.
    pub fn url(&self) -> String {
        format!("{}/v1", self.loopback.url())
    }

    pub fn counts(&self) -> Counts {
        Counts { most_at_once: self.loopback.in_flight_most(), ..self.server.counts() }
    }
}

fn handle(kind: Kind, server: &Server, asked: &Asked) -> Reply {
    let Some(_place) = server.enter() else {
        return error(429, "rate_limit_exceeded", "too many requests").with("retry-after-ms", 20);
    };
    std::thread::sleep(server.options.latency);
    if let Some(refused) = refused(server, asked) {
        return refused;
    }
    let answered = match kind {
        Kind::Vllm => vllm::handle(server, asked),
        Kind::Sglang => sglang::handle(server, asked),
        Kind::LlamaCpp => llama_cpp::handle(server, asked),
        Kind::Tgi => tgi::handle(server, asked),
        Kind::Ollama => ollama::handle(server, asked),
        Kind::OpenAi => openai::handle(server, asked),
        Kind::TransformersServe => transformers_serve::handle(server, asked),
        Kind::LlamaCppPython => llama_cpp_python::handle(server, asked),
    };
    match answered {
        Ok(mut body) => {
            faults(&server.options, &mut body);
            Reply::json(200, &body)
        }
        Err(refusal) => refusal,
    }
}

/// What is refused whatever the server is.
fn refused(server: &Server, asked: &Asked) -> Option<Reply> {
    let bearer = asked.header("authorization").and_then(|text| text.strip_prefix("Bearer "));
    if server.options.key.is_some() && bearer != server.options.key.as_deref() {
        let message = format!("Incorrect API key provided: {}.", bearer.unwrap_or_default());
        return Some(error(401, "invalid_api_key", &message));
    }
    let text = server.options.fails_for.as_ref()?;
    let body = asked.json();
    let holds = |prompt: &Value| match prompt {
        Value::String(prompt) => prompt.contains(text),
        Value::Array(_) => prompts::ids(prompt)
            .is_some_and(|ids| server.model.tokenizer.decode(&ids).unwrap().contains(text)),
        _ => false,
    };
    let names = ["prompt", "input_ids", "text", "inputs"];
    let fails = names.iter().any(|name| holds(&body[*name]));
    fails.then(|| error(400, "content_policy", "this prompt is refused"))
}

/// An error in OpenAI's shape, which most servers have.
fn error(status: u16, code: &str, message: &str) -> Reply {
    let body = json!({ "error": {
        "message": message, "type": "invalid_request_error", "param": null, "code": code
    } });
    Reply::json(status, &body)
}

/// No such route.
fn not_found(asked: &Asked) -> Reply {
    Reply::json(404, &json!({ "detail": format!("Not Found: {}", asked.path) }))
}

/// What goes wrong with several answers at once.
fn faults(options: &Options, body: &mut Value) {
    let choices = match body {
        Value::Array(choices) => choices,
        body => match body.get_mut("choices").and_then(Value::as_array_mut) {
            Some(choices) => choices,
            None => return,
        },
    };
    if options.fewer && choices.len() > 1 {
        choices.pop();
    }
    if let Some(last) = choices.last_mut().filter(|_| options.duplicates) {
        last["index"] = json!(0);
    }
}
