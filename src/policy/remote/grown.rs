//! A response while guides here and a served base make it, token by token: what it has read, what
//! it cost, and what is written down of it. Who is asked is left to `tilted.rs`.

use std::rc::Rc;

use super::ask::{Ask, Choice, End, Given, Read};
use super::asking::Asking;
use super::dialect::Told;
use crate::error::Result;
use crate::http::{Answer, Tokens};
use crate::policy::draw::Distribution;
use crate::policy::ending::Ending;
use crate::policy::growing::Sample;
use crate::sampling::Sampling;
use crate::search::{Extend, Finish, Node, Ticket};

/// A prompt that was opened.
pub struct Opened {
    pub ids: Vec<i64>,
    /// Whether it is empty, so that responses begin the text.
    pub begins: bool,
}

/// A response that can go on.
#[derive(Clone)]
pub struct Row {
    pub response: Vec<i64>,
    pub logprobs: Vec<f64>,
    /// What the guides know it as.
    pub guides: Node,
    /// Its last tokens, which the guides have not read.
    pub unread: Vec<i64>,
}

/// A response while it grows.
pub struct Growing {
    pub ticket: Ticket,
    pub extend: Extend,
    pub prompt: Rc<Opened>,
    pub sample: Sample,
    pub guides: Node,
    pub unread: Vec<i64>,
    /// What the guides add to each token that may come next.
    pub added: Vec<f32>,
    /// What it is written down as.
    pub key: String,
    used: Tokens,
    cached: u64,
    seconds: f64,
}

impl Row {
    /// The empty response.
    pub fn empty(guides: Node) -> Self {
        Self { response: Vec::new(), logprobs: Vec::new(), guides, unread: Vec::new() }
    }
}

impl Growing {
    pub fn new(ticket: Ticket, extend: Extend, prompt: Rc<Opened>, row: Row) -> Self {
        let Row { response, logprobs, guides, unread } = row;
        let sample = Sample {
            parent: extend.node.clone(),
            begins: prompt.begins,
            response,
            logprobs,
            drawn: 0,
            budget: extend.max_tokens,
            finish: None,
            end: None,
        };
        let (added, used) = (Vec::new(), Tokens::default());
        Self {
            ticket,
            extend,
            prompt,
            sample,
            guides,
            unread,
            added,
            key: String::new(),
            used,
            cached: 0,
            seconds: 0.0,
        }
    }

    /// The ids behind which its next token comes.
    pub fn read(&self) -> Vec<i64> {
        [self.prompt.ids.as_slice(), &self.sample.response].concat()
    }

    /// The random number of its next token.
    pub fn uniform(&self) -> f64 {
        self.extend.stream.uniform(self.sample.response.len() as u64, self.extend.slot)
    }

    /// All that its tokens depend on, but for the guides and the random numbers.
    pub fn ask(&self, asking: &Asking) -> Ask {
        Ask {
            context: Read::Ids(self.read()),
            n: 1,
            max_tokens: self.sample.budget,
            seed: 0,
            sampling: asking.sampling,
            stop: asking.stop.clone(),
            adds_special: None,
        }
    }

    /// Draws the next token from what the base tells and the guides add.
    pub fn draw(&mut self, told: &Told, sampling: &Sampling, ending: &Ending) -> Result<()> {
        let distribution = Distribution::tilted(&told.logprobs, &self.added);
        let (token, logprob) = distribution.draw(sampling, self.uniform());
        self.push(ending, token, logprob)
    }

    fn push(&mut self, ending: &Ending, token: i64, logprob: f64) -> Result<()> {
        ending.push(&mut self.sample, token, logprob)?;
        self.unread.push(token);
        Ok(())
    }

    /// Takes the tokens that were drawn for this before.
    pub fn repeat(&mut self, given: &Given, ending: &Ending) -> Result<()> {
        for choice in &given.choices {
            let end = match choice.end {
                Some(End::Eos(end)) => end,
                _ => None,
            };
            let tokens = choice.ids.iter().flatten().copied().chain(end);
            for (token, &logprob) in tokens.zip(choice.logprobs.iter().flatten()) {
                self.push(ending, token, logprob)?;
            }
        }
        Ok(())
    }

    /// Bears what an answer cost.
    pub fn bear(&mut self, answer: &Answer<Told>) {
        self.used = self.used.and(answer.used);
        self.cached += answer.value.cached_tokens.unwrap_or(0);
        self.seconds += answer.seconds;
    }

    /// What is written down: the tokens drawn, what they cost, and the seconds that it took.
    pub fn given(&self) -> (Given, Tokens, f64) {
        let Sample { response, logprobs, drawn, finish, end, .. } = &self.sample;
        let logprobs = last(logprobs, *drawn);
        let end = finish.as_ref().map(|(finish, _)| match finish {
            Finish::Stop => End::Stop,
            _ => End::Eos(*end),
        });
        let choice = Choice {
            ids: Some(last(response, drawn - usize::from(self.sample.end.is_some()))),
            sampled: Some(*drawn),
            end,
            logprob: Some(logprobs.iter().sum()),
            logprobs: Some(logprobs),
            ..Choice::default()
        };
        let given = Given {
            choices: vec![choice],
            prompt_tokens: Some(self.used.prompt),
            cached_tokens: Some(self.cached),
            prompt_ids: None,
        };
        (given, self.used, self.seconds)
    }
}

fn last<T: Copy>(all: &[T], count: usize) -> Vec<T> {
    all[all.len() - count..].to_vec()
}
