//! What the tests ask served bases and the local one, in the same words.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;
use tch::{Device, Kind as Dtype};
use w2s::models::open_with_tokenizer;
use w2s::policy::LocalPolicy;
use w2s::policy::remote::{Asking, Paid, RemoteBase, Server};
use w2s::prompt::Prompt;
use w2s::recipe::{Api, Unsupported};
use w2s::sampling::{Sampling, Stream};
use w2s::search::{Extend, Extended, Proposer, Ticket};
use w2s::text::{PromptTemplate, Tokenizer};

use crate::common::tiny;

/// A folder of the tiny random model.
pub fn folder(scratch: &tempfile::TempDir) -> PathBuf {
    let tokenizer = tiny::tokenizer(400, 0);
    let folder = scratch.path().join("tiny");
    tiny::model(&tokenizer, 24, "base").save(&folder).unwrap();
    tokenizer.save(&folder).unwrap();
    folder
}

/// A folder of a tiny Llama whose tokenizer is of SentencePiece's kind: spaces belong to the words
/// behind them, characters that it does not know are bytes, BOS stands before a text.
pub fn sentence_piece(scratch: &tempfile::TempDir) -> PathBuf {
    let folder = scratch.path().join("llama");
    std::fs::create_dir(&folder).unwrap();
    for golden in ["llama", "tokenizers/llama-2"] {
        for file in std::fs::read_dir(crate::golden::folder(golden)).unwrap() {
            let file = file.unwrap().path();
            std::fs::copy(&file, folder.join(file.file_name().unwrap())).unwrap();
        }
    }
    folder
}

/// What is wanted of a base, served or local.
pub struct Wanted<'a> {
    pub sampling: Sampling,
    pub stop: &'a [&'a str],
    pub max_new_tokens: usize,
    /// Tokens of a request.
    pub chunk: usize,
    /// Continuations of the prompt.
    pub count: u64,
}

impl Wanted<'_> {
    pub fn greedy(max_new_tokens: usize) -> Self {
        let sampling = Sampling::Greedy;
        Self { sampling, stop: &[], max_new_tokens, chunk: max_new_tokens, count: 1 }
    }

    fn stops(&self) -> Vec<String> {
        self.stop.iter().map(|stop| stop.to_string()).collect()
    }
}

/// How the recipe names a server; `more` goes over it.
pub fn api(url: &str, more: serde_json::Value) -> Api {
    let mut api = json!({ "url": url, "limits": { "attempts": 3 } });
    for (key, value) in more.as_object().into_iter().flatten() {
        api[key] = value.clone();
    }
    serde_json::from_value(api).unwrap()
}

pub fn served(api: &Api, tokenizer: Option<&Path>, wanted: &Wanted) -> RemoteBase {
    paying(api, tokenizer, wanted, None)
}

/// The same with what it gives written down.
pub fn paying(
    api: &Api,
    tokenizer: Option<&Path>,
    wanted: &Wanted,
    paid: Option<Paid>,
) -> RemoteBase {
    let tokenizer = tokenizer.map(|folder| Rc::new(Tokenizer::open(folder).unwrap()));
    let asking = Asking {
        template: PromptTemplate::new("{prompt}", None),
        tokenizer,
        sampling: wanted.sampling,
        stop: wanted.stops(),
        max_new_tokens: wanted.max_new_tokens,
        unsupported: Unsupported::Refuse,
    };
    RemoteBase::new(Server::open("models.served", api).unwrap(), asking, paid).unwrap()
}

pub fn local(folder: &Path, wanted: &Wanted) -> LocalPolicy {
    crate::common::one_thread();
    let (lm, tokenizer) = open_with_tokenizer(folder, Device::Cpu, Dtype::Float).unwrap();
    let template = PromptTemplate::new("{prompt}", None);
    LocalPolicy::new(Rc::new(lm), Rc::new(tokenizer), template, wanted.sampling, wanted.stops())
}

/// Responses to a prompt, grown by chunks; each outcome by itself.
pub fn grown(
    base: &mut dyn Proposer,
    prompt: &str,
    wanted: &Wanted,
) -> Vec<w2s::error::Result<Extended>> {
    let prompt = Prompt::new("p", prompt);
    let root = base.open(&[&prompt.text]).unwrap().remove(0);
    let mut done = Vec::new();
    let mut open: Vec<_> = (0..wanted.count).map(|slot| (slot, root.clone(), 0)).collect();
    let deadline = Instant::now() + Duration::from_secs(120);
    while !open.is_empty() {
        let requests = open.iter().map(|(slot, node, said)| {
            let max_tokens = wanted.chunk.min(wanted.max_new_tokens - said);
            let stream = Stream::new(7, "steer", "served");
            let (node, slot) = (node.clone(), *slot);
            (Ticket(slot), Extend { node, stream, slot, max_tokens })
        });
        base.submit(requests.collect());
        let mut waiting = std::mem::take(&mut open);
        while !waiting.is_empty() {
            assert!(Instant::now() < deadline, "{} requests never came back", waiting.len());
            for (ticket, outcome) in base.collect(Duration::from_secs(1)).unwrap() {
                let place = waiting.iter().position(|(slot, ..)| Ticket(*slot) == ticket).unwrap();
                let (slot, _, said) = waiting.remove(place);
                let said = said + wanted.chunk;
                match outcome {
                    Ok(extended)
                        if extended.response.finish.is_none() && said < wanted.max_new_tokens =>
                    {
                        open.push((slot, extended.node.clone(), said));
                    }
                    outcome => done.push((slot, outcome)),
                }
            }
        }
    }
    done.sort_by_key(|(slot, _)| *slot);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

/// The same where each must be answered.
pub fn all(base: &mut dyn Proposer, prompt: &str, wanted: &Wanted) -> Vec<Extended> {
    grown(base, prompt, wanted).into_iter().map(|outcome| outcome.unwrap()).collect()
}

/// The text of the one response.
pub fn text(base: &mut dyn Proposer, prompt: &str, wanted: &Wanted) -> String {
    all(base, prompt, wanted).remove(0).response.text
}
