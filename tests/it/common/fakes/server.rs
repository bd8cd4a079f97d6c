//! What the fakes share: the model, what was asked for in all, and what stands in the cache of
//! prefixes.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use serde_json::Value;

use super::Options;
use super::knobs::{Knobs, Step};
use super::model::{Drawn, Model, Wish};

/// What was done in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that were sampled for.
    pub requests: usize,
    /// Once a request, however many answers there were.
    pub prompt_tokens: usize,
    pub sampled_tokens: usize,
    pub most_at_once: usize,
}

pub struct Server {
    pub model: Model,
    pub options: Options,
    inside: AtomicUsize,
    counts: Mutex<Counts>,
    /// Token sequences that were read, prompts and answers together.
    read: Mutex<Vec<Vec<i64>>>,
    /// Seeds of requests that bring none.
    fresh: AtomicU64,
}

/// A request that is being answered.
pub struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Answers to one prompt.
pub struct Answers {
    pub prompt: Vec<i64>,
    pub drawn: Vec<Drawn>,
    /// Tokens of the prompt that had been read before.
    pub cached: usize,
}

impl Answers {
    pub fn completion_tokens(&self) -> usize {
        self.drawn.iter().map(|drawn| drawn.ids.len()).sum()
    }
}

impl Server {
    pub fn open(folder: &Path, options: Options) -> Self {
        Self {
            model: Model::open(folder),
            options,
            inside: AtomicUsize::new(0),
            counts: Mutex::default(),
            read: Mutex::default(),
            fresh: AtomicU64::new(1 << 40),
        }
    }

    /// `None` where there are too many already.
    pub fn enter(&self) -> Option<Place<'_>> {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        let place = Place(&self.inside);
        self.options.at_once.is_none_or(|most| inside <= most).then_some(place)
    }

    pub fn counts(&self) -> Counts {
        *self.counts.lock().unwrap()
    }

    /// The ids of a text prompt.
    pub fn encode(&self, text: &str, adds_special: bool) -> Vec<i64> {
        let mut ids = self.model.tokenizer.encode(text).unwrap();
        if adds_special && self.options.adds_bos {
            ids.splice(..0, self.model.tokenizer.bos_id());
        }
        ids
    }

    /// `n` answers; the seed of each is one more than the last one's.
    pub fn answer(
        &self,
        prompt: Vec<i64>,
        n: usize,
        seed: Option<u64>,
        knobs: &Knobs,
        max_tokens: usize,
        stop: &[String],
    ) -> Answers {
        let cached = self.cached(&prompt);
        let seed = seed.filter(|_| !self.options.ignores_seeds);
        let seed = seed.unwrap_or_else(|| self.fresh.fetch_add(1 << 16, Ordering::SeqCst));
        let drawn: Vec<Drawn> = (0..n as u64)
            .map(|child| {
                let (knobs, stop) = (knobs.clone(), stop.to_vec());
                let seed = seed.wrapping_add(child);
                self.model.draw(&Wish { prompt: prompt.clone(), knobs, seed, max_tokens, stop })
            })
            .collect();
        let answers = Answers { prompt, drawn, cached };
        self.note(&answers);
        answers
    }

    fn note(&self, answers: &Answers) {
        let mut counts = self.counts.lock().unwrap();
        counts.requests += 1;
        counts.prompt_tokens += answers.prompt.len();
        counts.sampled_tokens += answers.completion_tokens();
        let mut read = self.read.lock().unwrap();
        read.extend(answers.drawn.iter().map(|drawn| [&answers.prompt[..], &drawn.ids].concat()));
        let too_many = read.len().saturating_sub(256);
        read.drain(..too_many);
    }

    /// How much of the prompt was read before; its last token is always read again.
    fn cached(&self, prompt: &[i64]) -> usize {
        let common = |read: &Vec<i64>| read.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        let most = self.read.lock().unwrap().iter().map(common).max().unwrap_or(0);
        most.min(prompt.len().saturating_sub(1))
    }
}

/// A number of the request, or what the server takes without.
pub fn number(body: &Value, name: &str, default: f64) -> f64 {
    body[name].as_f64().unwrap_or(default)
}

pub fn count(body: &Value, name: &str, default: usize) -> usize {
    body[name].as_u64().map_or(default, |count| count as usize)
}

/// Stop strings, one or several.
pub fn stops(body: &Value, name: &str) -> Vec<String> {
    match &body[name] {
        Value::String(stop) => vec![stop.clone()],
        stops => stops.as_array().into_iter().flatten().filter_map(text).collect(),
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// Names of knobs and what they are without being sent.
pub struct Names {
    pub top_k: &'static str,
    pub penalty: &'static str,
    pub order: &'static [Step],
    pub temperature: f64,
    pub default_top_k: usize,
    pub default_top_p: f64,
    pub default_min_p: f64,
    pub default_penalty: f64,
}

impl Names {
    pub fn knobs(&self, body: &Value) -> Knobs {
        let top_k = body[self.top_k].as_i64().map(|k| usize::try_from(k).unwrap_or(0));
        Knobs {
            temperature: number(body, "temperature", self.temperature),
            top_k: top_k.unwrap_or(self.default_top_k),
            top_p: number(body, "top_p", self.default_top_p),
            min_p: number(body, "min_p", self.default_min_p),
            penalty: number(body, self.penalty, self.default_penalty),
            order: self.order.to_vec(),
            bias: Vec::new(),
        }
    }
}
