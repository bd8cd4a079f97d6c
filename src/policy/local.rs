//! Local models as a [`Proposer`]: samples chunks of many prompts in one batch, with the KV caches
//! kept across them. The likeliest next tokens are told in `local/next_tokens.rs`.
//!
//! The last sampled token of a row is fed only when the row is extended again, so a pruned row
//! costs no forward pass for it, and a parent's is fed once for all its continuations.

mod next_tokens;
mod sampling;

use std::rc::Rc;
use std::time::Duration;

use super::ending::Ending;
use super::growing::{Growing, Sample};
use super::mixture::{Caches, Hidden, Member, Mixture};
use crate::error::{Error, Result};
use crate::models::Lm;
use crate::prompt::PromptText;
use crate::sampling::Sampling;
use crate::search::{Extend, Extended, Group, Kept, NextTokens, Node, Nodes, Proposer, Ticket};
use crate::text::{PromptTemplate, Tokenizer};

/// Tokens of one call: between calls prompts join and leave, and Ctrl-C is heard.
const CALL_TOKENS: usize = 16;

pub struct LocalPolicy {
    models: Mixture,
    tokenizer: Rc<Tokenizer>,
    sampling: Sampling,
    stop: Vec<String>,
    nodes: Nodes<Batch, OpenResponse>,
    submitted: Vec<(Ticket, Extend)>,
}

/// The caches that one call left for some rows, and how far all of these have been read.
struct Batch {
    caches: Rc<Caches>,
    read: Read,
}

enum Read {
    /// To the end: the hidden state after the last token of each row.
    Whole(Hidden),
    /// To the last token of each row's response, which is not in the caches yet.
    ButTheLast,
}

/// A response that may be continued.
#[derive(Clone)]
struct OpenResponse {
    /// Whether the prompt is empty, so that the response begins the text.
    begins: bool,
    response: Vec<i64>,
    /// The log-probability of each token of the response, where it was sampled.
    logprobs: Vec<f64>,
}

impl LocalPolicy {
    pub fn new(
        lm: Rc<Lm>,
        tokenizer: Rc<Tokenizer>,
        template: PromptTemplate,
        sampling: Sampling,
        stop: Vec<String>,
    ) -> Self {
        Self::mixture(Member { lm, template, weight: 1.0 }, Vec::new(), tokenizer, sampling, stop)
    }

    /// Samples from the base and guides of its vocabulary together: emulated fine-tuning.
    pub fn mixture(
        base: Member,
        guides: Vec<Member>,
        tokenizer: Rc<Tokenizer>,
        sampling: Sampling,
        stop: Vec<String>,
    ) -> Self {
        let models = Mixture::new(base, guides);
        Self { models, tokenizer, sampling, stop, nodes: Nodes::default(), submitted: Vec::new() }
    }

    /// Samples from guides too, as [`Self::mixture`] does. What was opened before is lost to it.
    pub fn mix_in(&mut self, guides: Vec<Member>) {
        self.models.add(guides);
        self.nodes = Nodes::default();
    }

    /// The models that it samples from, the base first.
    pub fn members(&self) -> &[Member] {
        self.models.members()
    }

    pub fn tokenizer(&self) -> &Rc<Tokenizer> {
        &self.tokenizer
    }

    /// [`Proposer::open`] for many short prompts that will have few continuations each, all
    /// extended together.
    pub fn open_rows(&mut self, prompts: &[&PromptText]) -> Result<Vec<Node>> {
        let (caches, hidden) = self.models.read_prompts_as_rows(&self.tokenizer, prompts)?;
        let rows = prompts
            .iter()
            .map(|prompt| self.empty_row(prompt))
            .collect::<Result<Vec<OpenResponse>>>()?;
        Ok(self.nodes.open(Batch { caches: Rc::new(caches), read: Read::Whole(hidden) }, rows))
    }

    /// Samples a continuation for each request, in order. A response that is already finished must
    /// not be extended.
    pub fn extend(&mut self, requests: &[Extend]) -> Result<Vec<Extended>> {
        let _no_grad = tch::no_grad_guard();
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let groups = self.groups(requests.iter().map(|request| &request.node))?;
        let (samples, batches) = self.sample(requests, &groups)?;
        self.publish(samples, batches)
    }

    fn empty_row(&self, prompt: &PromptText) -> Result<OpenResponse> {
        let begins = self.models.base().template.is_empty(&self.tokenizer, prompt)?;
        Ok(OpenResponse { begins, response: Vec::new(), logprobs: Vec::new() })
    }

    fn kept(&self, node: &Node) -> Result<Kept<'_, Batch, OpenResponse>> {
        self.nodes.get(node).ok_or_else(not_kept)
    }

    fn groups<'n>(&self, nodes: impl Iterator<Item = &'n Node>) -> Result<Vec<Group<Batch>>> {
        self.nodes.groups(nodes).ok_or_else(not_kept)
    }

    /// Each group's parents in caches of their own, read to the end, and the states after each,
    /// group after group.
    fn read_parents(&self, groups: &[Group<Batch>]) -> Result<(Vec<Caches>, Hidden)> {
        let mut all = Vec::with_capacity(groups.len());
        let mut places = Vec::with_capacity(groups.len());
        for Group { batch, parents, .. } in groups {
            let rows = parents
                .iter()
                .map(|parent| Ok(self.kept(parent)?.place))
                .collect::<Result<Vec<usize>>>()?;
            all.push(batch.caches.select(&rows));
            places.push(rows);
        }
        let mut tokens = Vec::new();
        let mut behind: Vec<&mut Caches> = Vec::new();
        for (Group { batch, parents, .. }, caches) in groups.iter().zip(&mut all) {
            if matches!(batch.read, Read::ButTheLast) {
                for parent in parents {
                    tokens.push(self.kept(parent)?.row.response.last().copied().unwrap_or(0));
                }
                behind.push(caches);
            }
        }
        let read = if behind.is_empty() { None } else { Some(self.models.step(behind, &tokens)) };
        let mut first = 0;
        let mut states = Vec::with_capacity(groups.len());
        for (Group { batch, .. }, places) in groups.iter().zip(&places) {
            match (&batch.read, &read) {
                (Read::Whole(hidden), _) => states.push(hidden.select(places)),
                (Read::ButTheLast, read) => {
                    states.extend(read.iter().map(|read| read.narrow(first, places.len())));
                    first += places.len();
                }
            }
        }
        Ok((all, Hidden::cat(&states)))
    }

    fn end_token_ids(&self) -> &[i64] {
        &self.models.base().lm.model.info().eos_token_ids
    }

    fn ending(&self) -> Ending<'_> {
        let (tokenizer, stop) = (self.tokenizer.as_ref(), self.stop.as_slice());
        Ending { tokenizer, stop, end_tokens: self.end_token_ids() }
    }

    /// Turns samples into nodes; those that can go on keep their rows.
    fn publish(&mut self, samples: Vec<Sample>, batches: Vec<Growing>) -> Result<Vec<Extended>> {
        let mut extended = Vec::with_capacity(samples.len());
        let mut rows = Vec::with_capacity(samples.len());
        for sample in samples {
            let node = self.nodes.child(&sample.parent).ok_or_else(not_kept)?;
            extended.push(self.ending().extended(node.clone(), &sample)?);
            let can_go_on = sample.can_go_on();
            let Sample { begins, response, logprobs, .. } = sample;
            rows.push(can_go_on.then_some((node, OpenResponse { begins, response, logprobs })));
        }
        for Growing { caches, samples } in batches {
            let kept = samples.into_iter().enumerate().filter_map(|(place, sample)| {
                let (node, row) = rows[sample].take()?;
                Some((node, place, row))
            });
            self.nodes.insert(
                Batch { caches: Rc::new(caches), read: Read::ButTheLast },
                kept.collect::<Vec<_>>(),
            );
        }
        Ok(extended)
    }
}

fn not_kept() -> Error {
    Error::failed("a finished or pruned response cannot be extended")
}

impl Proposer for LocalPolicy {
    fn open(&mut self, prompts: &[&PromptText]) -> Result<Vec<Node>> {
        let opened = self.models.read_prompts(&self.tokenizer, prompts)?;
        let mut nodes = Vec::with_capacity(prompts.len());
        for ((caches, hidden), prompt) in opened.into_iter().zip(prompts) {
            let batch = Batch { caches: Rc::new(caches), read: Read::Whole(hidden) };
            let row = self.empty_row(prompt)?;
            nodes.extend(self.nodes.open(batch, [row]));
        }
        Ok(nodes)
    }

    fn max_call_tokens(&self) -> Option<usize> {
        Some(CALL_TOKENS)
    }

    fn submit(&mut self, requests: Vec<(Ticket, Extend)>) {
        self.submitted.extend(requests);
    }

    /// All that was handed in, in one batch.
    fn collect(&mut self, _patience: Duration) -> Result<Vec<(Ticket, Result<Extended>)>> {
        let (tickets, requests): (Vec<Ticket>, Vec<Extend>) =
            std::mem::take(&mut self.submitted).into_iter().unzip();
        Ok(tickets.into_iter().zip(self.extend(&requests)?.into_iter().map(Ok)).collect())
    }

    fn retain(&mut self, root: &Node, live: &[Node]) {
        self.nodes.retain(root, live);
    }

    fn release(&mut self, root: &Node) {
        self.nodes.release(root);
        self.submitted.retain(|(_, request)| request.node.root() != *root);
    }

    fn next_tokens(&mut self) -> Option<&mut dyn NextTokens> {
        Some(self)
    }
}
