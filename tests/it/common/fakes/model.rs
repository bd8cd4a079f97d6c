//! The model behind a fake: forward passes on a thread of its own, answers drawn from them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use tch::{Device, Kind, Tensor};
use w2s::models::open_with_tokenizer;
use w2s::sampling::Stream;
use w2s::text::Tokenizer;

use super::knobs::{Knobs, softmax};
use crate::golden;

type Rows = Vec<Vec<f32>>;

pub struct Model {
    pub tokenizer: Arc<Tokenizer>,
    /// Positions that it knows.
    pub context: usize,
    /// The token that ends an answer.
    pub end: i64,
    jobs: Mutex<Sender<(Vec<i64>, Sender<Rows>)>>,
    /// Logits behind texts that were read before.
    known: Mutex<HashMap<Vec<i64>, Arc<Vec<f32>>>>,
}

/// A log-probability, and the likeliest id instead with its own.
pub type Told = (f64, (i64, f64));

/// What is asked of the model.
#[derive(Debug, Clone)]
pub struct Wish {
    pub prompt: Vec<i64>,
    pub knobs: Knobs,
    pub seed: u64,
    pub max_tokens: usize,
    pub stop: Vec<String>,
}

/// Why an answer ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Eos,
    Stop(String),
    Limit,
}

pub struct Drawn {
    /// With the end token, and with those of a stop string.
    pub ids: Vec<i64>,
    /// At temperature 1 and before every cut, one for each id.
    pub logprobs: Vec<f64>,
    pub end: End,
    /// Without the stop string and what stands behind it.
    pub text: String,
    /// With it.
    pub whole: String,
}

impl Model {
    pub fn open(folder: &Path) -> Self {
        let (jobs, asked) = channel::<(Vec<i64>, Sender<Rows>)>();
        let (ready, opened) = channel();
        let path = folder.to_owned();
        std::thread::spawn(move || {
            crate::common::one_thread();
            let (lm, _) = open_with_tokenizer(&path, Device::Cpu, Kind::Float).unwrap();
            let _no_grad = tch::no_grad_guard();
            let info = lm.model.info();
            ready.send((info.context as usize, info.eos_token_ids[0])).unwrap();
            for (ids, reply) in asked {
                let logits = golden::logits(&lm, &Tensor::from_slice(&ids).unsqueeze(0)).get(0);
                let (_, vocab) = logits.size2().unwrap();
                let all = Vec::<f32>::try_from(logits.contiguous().view(-1)).unwrap();
                let _ = reply.send(all.chunks(vocab as usize).map(<[f32]>::to_vec).collect());
            }
        });
        let (context, end) = opened.recv().unwrap();
        Self {
            tokenizer: Arc::new(Tokenizer::open(folder).unwrap()),
            context,
            end,
            jobs: Mutex::new(jobs),
            known: Mutex::default(),
        }
    }

    /// Logits behind each of the ids.
    fn rows(&self, ids: &[i64]) -> Rows {
        let (reply, rows) = channel();
        self.jobs.lock().unwrap().send((ids.to_vec(), reply)).unwrap();
        rows.recv().unwrap()
    }

    fn next(&self, ids: &[i64]) -> Arc<Vec<f32>> {
        if let Some(known) = self.known.lock().unwrap().get(ids) {
            return known.clone();
        }
        let logits = Arc::new(self.rows(ids).pop().unwrap());
        self.known.lock().unwrap().insert(ids.to_vec(), logits.clone());
        logits
    }

    /// Log-probabilities of the ids, the first of which has none, and the likeliest id instead of
    /// each with its own.
    pub fn logprobs(&self, ids: &[i64]) -> Vec<Option<Told>> {
        let rows = self.rows(ids);
        let behind = rows.iter().zip(&ids[1..]).map(|(row, &id)| Some(logprob(row, id)));
        std::iter::once(None).chain(behind).collect()
    }

    /// Log-probabilities of all ids behind some, the likeliest first.
    pub fn next_logprobs(&self, read: &[i64]) -> Vec<(usize, f64)> {
        let scores: Vec<f64> = self.next(read).iter().map(|&logit| logit.into()).collect();
        let mut all: Vec<(usize, f64)> =
            softmax(&scores).into_iter().map(f64::ln).enumerate().collect();
        all.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        all
    }

    pub fn draw(&self, wish: &Wish) -> Drawn {
        let stream = Stream::new(wish.seed, "fake", "server");
        let mut read = wish.prompt.clone();
        let room = self.context.saturating_sub(read.len());
        let mut logprobs = Vec::new();
        let mut end = End::Limit;
        let mut whole = String::new();
        for step in 0..wish.max_tokens.min(room) {
            let logits = self.next(&read);
            let shares = wish.knobs.probabilities(&logits, &read);
            let id = invert(&shares, stream.uniform(step as u64, 0));
            logprobs.push(logprob(&logits, id).0);
            read.push(id);
            if id == self.end {
                end = End::Eos;
                break;
            }
            whole = self.text(&read[wish.prompt.len()..]);
            if let Some(stop) = wish.stop.iter().find(|stop| whole.contains(*stop)) {
                end = End::Stop(stop.clone());
                break;
            }
        }
        let text = match &end {
            End::Stop(stop) => whole[..whole.find(stop).unwrap()].to_owned(),
            _ => whole.clone(),
        };
        let ids = read.split_off(wish.prompt.len());
        Drawn { ids, logprobs, end, text, whole }
    }

    /// Log-probabilities of an answer's ids as these knobs see them.
    pub fn told(&self, knobs: &Knobs, prompt: &[i64], ids: &[i64]) -> Vec<f64> {
        let mut read = prompt.to_vec();
        let mut told = Vec::new();
        for &id in ids {
            let shares = knobs.probabilities(&self.next(&read), &read);
            told.push(shares[id as usize].ln());
            read.push(id);
        }
        told
    }

    /// The text of ids that continue others.
    pub fn text(&self, ids: &[i64]) -> String {
        self.tokenizer.decode_continuation(ids).unwrap()
    }
}

fn invert(shares: &[f64], u: f64) -> i64 {
    let mut mass = 0.0;
    let found = shares.iter().position(|share| {
        mass += share;
        mass > u
    });
    found.or_else(|| shares.iter().rposition(|&share| share > 0.0)).unwrap() as i64
}

/// The log-probability of an id, and the likeliest id with its own.
fn logprob(logits: &[f32], id: i64) -> Told {
    let scores: Vec<f64> = logits.iter().map(|&logit| logit.into()).collect();
    let shares = softmax(&scores);
    let first = (0..shares.len()).max_by(|&a, &b| shares[a].total_cmp(&shares[b])).unwrap();
    (shares[id as usize].ln(), (first as i64, shares[first].ln()))
}
