//! A local causal language model as a [`Proposer`]: samples chunks of many prompts in one batch, with its KV cache kept across them.
//!
//! A *generation* is the cache segment that one call left for the rows of one prompt; a node points at a row of one. The last sampled
//! token of a row is fed only when the row is extended again, so a pruned row costs no forward pass for it, and a parent's is fed once
//! for all its continuations.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use tch::Tensor;

use super::draw::{Distribution, distributions};
use crate::error::{Error, Result};
use crate::models::{KvCache, Lm, Segment};
use crate::sampling::Sampling;
use crate::search::{Extend, Extended, Finish, Node, Proposer, Response};
use crate::text::{PromptTemplate, Tokenizer};

pub struct LocalPolicy {
    lm: Rc<Lm>,
    tokenizer: Rc<Tokenizer>,
    template: PromptTemplate,
    sampling: Sampling,
    stop: Vec<String>,
    generations: BTreeMap<u64, Segment>,
    nodes: HashMap<Node, State>,
    next: u64,
}

/// Where a response's keys and values lie, and what its next token is predicted from.
struct State {
    generation: u64,
    row: usize,
    response: Vec<i64>,
    /// Of each token of the response.
    logprobs: Vec<f64>,
    pending: Pending,
}

enum Pending {
    /// The hidden state after the prompt, (1, hidden_size).
    Hidden(Tensor),
    /// The last token, which is not in the cache yet.
    Token(i64),
}

/// The requests of one generation.
struct Group {
    generation: u64,
    /// Distinct, in the order of their first request.
    parents: Vec<Node>,
    /// Numbers of the requests, and each one's parent.
    requests: Vec<(usize, usize)>,
}

/// A row while its chunk is being sampled.
struct Row {
    request: usize,
    response: Vec<i64>,
    before: usize,
    /// Of each token drawn for the response, EOS included.
    logprobs: Vec<f64>,
    sampled: u64,
    finish: Option<(Finish, Option<String>)>,
}

/// The rows of one group while they are sampled: row `rows[i]` owns row i of the segment.
struct Growing {
    segment: Segment,
    rows: Vec<usize>,
}

impl LocalPolicy {
    pub fn new(lm: Rc<Lm>, tokenizer: Rc<Tokenizer>, template: PromptTemplate, sampling: Sampling, stop: Vec<String>) -> Self {
        Self { lm, tokenizer, template, sampling, stop, generations: BTreeMap::new(), nodes: HashMap::new(), next: 0 }
    }

    /// Refuses a prompt that leaves no room for `new_tokens` in the context.
    pub fn check_prompt(&self, id: &str, prompt: &str, new_tokens: usize) -> Result<()> {
        let tokens = self.template.encode(&self.tokenizer, prompt)?.len();
        let context = self.lm.model.info().context as usize;
        if tokens + new_tokens <= context {
            return Ok(());
        }
        let way_out = match context.saturating_sub(tokens) {
            0 => "shorten the prompt".to_owned(),
            room => format!("shorten the prompt, or lower `max_new_tokens` to {room}"),
        };
        Err(Error::failed(format!(
            "prompt `{id}`: {tokens} tokens and {new_tokens} new ones do not fit the model's context of {context}\n\nhint: {way_out}"
        )))
    }

    /// [`Proposer::open`] for many short prompts that will have few continuations each, all extended together.
    pub fn open_rows(&mut self, prompts: &[&str]) -> Result<Vec<Node>> {
        let ids = prompts.iter().map(|prompt| self.template.encode(&self.tokenizer, prompt)).collect::<Result<Vec<_>>>()?;
        let (segment, hidden) = self.lm.model.read_prompts_as_rows(&ids);
        let generation = self.fresh();
        self.generations.insert(generation, segment);
        let open = (0..prompts.len()).map(|row| {
            let node = Node(self.fresh());
            let pending = Pending::Hidden(hidden.narrow(0, row as i64, 1));
            self.nodes.insert(node, State { generation, row, response: Vec::new(), logprobs: Vec::new(), pending });
            node
        });
        Ok(open.collect())
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn state(&self, node: Node) -> Result<&State> {
        self.nodes.get(&node).ok_or_else(|| Error::failed("a finished or pruned response cannot be extended"))
    }

    fn groups(&self, requests: &[Extend]) -> Result<Vec<Group>> {
        let mut groups: Vec<Group> = Vec::new();
        let mut budgets: HashMap<u64, usize> = HashMap::new();
        for (number, request) in requests.iter().enumerate() {
            let generation = self.state(request.node)?.generation;
            if *budgets.entry(generation).or_insert(request.max_tokens) != request.max_tokens {
                return Err(Error::failed("continuations of one prompt must have equal budgets"));
            }
            let known = groups.iter().position(|group| group.generation == generation);
            let group = known.unwrap_or_else(|| {
                groups.push(Group { generation, parents: Vec::new(), requests: Vec::new() });
                groups.len() - 1
            });
            let group = &mut groups[group];
            let parent = group.parents.iter().position(|&parent| parent == request.node).unwrap_or_else(|| {
                group.parents.push(request.node);
                group.parents.len() - 1
            });
            group.requests.push((number, parent));
        }
        Ok(groups)
    }

    /// Each group's parents as a segment of their own, their pending tokens read, and what follows each, group after group.
    fn read_parents(&self, groups: &[Group]) -> Result<(Vec<Segment>, Vec<Distribution>)> {
        let mut segments = Vec::new();
        let mut tokens: Vec<Option<i64>> = Vec::new();
        let mut known: Vec<Option<&Tensor>> = Vec::new();
        for group in groups {
            let states: Vec<&State> = group.parents.iter().map(|&parent| self.state(parent)).collect::<Result<_>>()?;
            let source = self.generations.get(&group.generation).ok_or_else(|| Error::failed("the cache of a live response is gone"))?;
            segments.push(source.select(&states.iter().map(|state| state.row).collect::<Vec<_>>()));
            for state in states {
                tokens.push(match state.pending {
                    Pending::Token(token) => Some(token),
                    Pending::Hidden(_) => None,
                });
                known.push(match &state.pending {
                    Pending::Hidden(hidden) => Some(hidden),
                    Pending::Token(_) => None,
                });
            }
        }
        // Empty responses are in generations of their own, so a segment has tokens for all of its rows or for none.
        let mut first = 0;
        let mut reading: Vec<&mut Segment> = Vec::new();
        for segment in &mut segments {
            let rows = segment.rows();
            if tokens[first].is_some() {
                reading.push(segment);
            }
            first += rows;
        }
        let fed: Vec<i64> = tokens.iter().copied().flatten().collect();
        let read = (!fed.is_empty()).then(|| self.step(reading, &fed));
        let mut next = 0;
        let rows: Vec<Tensor> = known
            .into_iter()
            .map(|known| match (known, &read) {
                (Some(hidden), _) => hidden.shallow_clone(),
                (None, Some(read)) => {
                    next += 1;
                    read.narrow(0, next - 1, 1)
                }
                (None, None) => unreachable!("a row has a token to read or a state that is known"),
            })
            .collect();
        let distributions = self.distributions(&Tensor::cat(&rows, 0))?;
        Ok((segments, distributions))
    }

    /// Feeds one token to each row of the segments; hidden states (rows, hidden_size).
    fn step(&self, segments: Vec<&mut Segment>, tokens: &[i64]) -> Tensor {
        let cache = KvCache::new(segments, vec![1; tokens.len()]);
        self.lm.model.read(&Tensor::from_slice(tokens).unsqueeze(1), cache).squeeze_dim(1)
    }

    fn distributions(&self, hidden: &Tensor) -> Result<Vec<Distribution>> {
        distributions(&self.lm.model.logits(hidden), &self.sampling)
    }

    /// Draws the next token of a row.
    fn draw(&self, row: &mut Row, request: &Extend, distribution: &Distribution) -> Result<()> {
        let u = request.stream.uniform(row.response.len() as u64, request.slot);
        let (token, logprob) = distribution.draw(&self.sampling, u);
        row.sampled += 1;
        row.logprobs.push(logprob);
        if self.lm.model.info().eos_token_ids.contains(&token) {
            row.finish = Some((Finish::Eos, None));
            return Ok(());
        }
        row.response.push(token);
        if !self.stop.is_empty() {
            let text = self.tokenizer.decode_continuation(&row.response)?;
            if let Some(cut) = self.stop.iter().filter_map(|stop| text.find(stop)).min() {
                row.finish = Some((Finish::Stop, Some(text[..cut].to_owned())));
            }
        }
        Ok(())
    }

    fn sample(&self, requests: &[Extend], groups: &[Group]) -> Result<(Vec<Row>, Vec<Growing>)> {
        let (segments, parents) = self.read_parents(groups)?;
        let mut rows: Vec<Row> = Vec::with_capacity(requests.len());
        let mut growing = Vec::with_capacity(groups.len());
        let mut first_parent = 0;
        for (group, segment) in groups.iter().zip(segments) {
            let mut owned = Vec::with_capacity(group.requests.len());
            for &(request, parent) in &group.requests {
                let state = self.state(group.parents[parent])?;
                let before = state.response.len();
                let (response, logprobs) = (state.response.clone(), state.logprobs.clone());
                let mut row = Row { request, response, before, logprobs, sampled: 0, finish: None };
                self.draw(&mut row, &requests[request], &parents[first_parent + parent])?;
                owned.push(rows.len());
                rows.push(row);
            }
            let children: Vec<usize> = group.requests.iter().map(|&(_, parent)| parent).collect();
            growing.push(Growing { segment: segment.select(&children), rows: owned });
            first_parent += group.parents.len();
        }
        let wants = |row: &Row| row.finish.is_none() && row.response.len() - row.before < requests[row.request].max_tokens;
        loop {
            for group in &mut growing {
                group.drop_finished(|row| rows[row].finish.is_none());
            }
            let active: Vec<&mut Growing> = growing.iter_mut().filter(|group| group.rows.iter().any(|&row| wants(&rows[row]))).collect();
            if active.is_empty() {
                return Ok((rows, growing));
            }
            let fed: Vec<usize> = active.iter().flat_map(|group| group.rows.iter().copied()).collect();
            // A finished row that is still there reads its last token once more; nobody looks at it again.
            let tokens: Vec<i64> = fed.iter().map(|&row| rows[row].response.last().copied().unwrap_or(0)).collect();
            let hidden = self.step(active.into_iter().map(|group| &mut group.segment).collect(), &tokens);
            let open: Vec<i64> = (0..fed.len()).filter(|&i| wants(&rows[fed[i]])).map(|i| i as i64).collect();
            let hidden = if open.len() == fed.len() {
                hidden
            } else {
                hidden.index_select(0, &Tensor::from_slice(&open).to_device(hidden.device()))
            };
            for (&i, distribution) in open.iter().zip(self.distributions(&hidden)?) {
                let row = &mut rows[fed[i as usize]];
                self.draw(row, &requests[row.request], &distribution)?;
            }
        }
    }

    /// Turns sampled rows into nodes.
    fn publish(&mut self, rows: Vec<Row>, growing: Vec<Growing>, requests: usize) -> Result<Vec<Extended>> {
        let mut places: Vec<Option<(u64, usize)>> = vec![None; rows.len()];
        for group in growing {
            let generation = self.fresh();
            for (place, row) in group.rows.iter().enumerate() {
                places[*row] = Some((generation, place));
            }
            self.generations.insert(generation, group.segment);
        }
        let mut extended: Vec<Option<Extended>> = (0..requests).map(|_| None).collect();
        for (row, place) in rows.into_iter().zip(places) {
            let node = Node(self.fresh());
            let (text, ids) = match &row.finish {
                Some((Finish::Stop, Some(text))) => (text.clone(), self.tokenizer.encode_continuation(text)?),
                _ => (self.tokenizer.decode_continuation(&row.response)?, row.response.clone()),
            };
            let finish = row.finish.map(|(finish, _)| finish);
            // What a stop string cuts off was sampled too, and the rest may have other tokens than were sampled.
            let counted = if finish == Some(Finish::Stop) { ids.len() } else { row.logprobs.len() };
            let logprob = row.response.starts_with(&ids).then(|| row.logprobs[..counted].iter().sum());
            if let (None, Some((generation, place)), Some(&last)) = (finish, place, row.response.last()) {
                let (response, logprobs) = (row.response, row.logprobs);
                self.nodes.insert(node, State { generation, row: place, response, logprobs, pending: Pending::Token(last) });
            }
            extended[row.request] = Some(Extended { node, response: Response { text, ids, finish }, sampled: row.sampled, logprob });
        }
        Ok(extended.into_iter().flatten().collect())
    }
}

impl Growing {
    /// Leaves finished rows behind once they are a quarter; until then they cost less than moving the others.
    fn drop_finished(&mut self, is_open: impl Fn(usize) -> bool) {
        let kept: Vec<usize> = (0..self.rows.len()).filter(|&place| is_open(self.rows[place])).collect();
        if 4 * (self.rows.len() - kept.len()) >= self.rows.len().max(1) {
            self.segment = self.segment.select(&kept);
            self.rows = kept.into_iter().map(|place| self.rows[place]).collect();
        }
    }
}

impl Proposer for LocalPolicy {
    fn open(&mut self, prompts: &[&str]) -> Result<Vec<Node>> {
        let ids = prompts.iter().map(|prompt| self.template.encode(&self.tokenizer, prompt)).collect::<Result<Vec<_>>>()?;
        let opened = self.lm.model.read_prompts(&ids);
        let mut nodes = Vec::with_capacity(prompts.len());
        for (segment, hidden) in opened {
            let (generation, node) = (self.fresh(), Node(self.fresh()));
            self.generations.insert(generation, segment);
            self.nodes
                .insert(node, State { generation, row: 0, response: Vec::new(), logprobs: Vec::new(), pending: Pending::Hidden(hidden) });
            nodes.push(node);
        }
        Ok(nodes)
    }

    fn extend(&mut self, requests: &[Extend]) -> Result<Vec<Extended>> {
        let _no_grad = tch::no_grad_guard();
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let groups = self.groups(requests)?;
        let (rows, growing) = self.sample(requests, &groups)?;
        self.publish(rows, growing, requests.len())
    }

    fn retain(&mut self, live: &[Node]) {
        self.nodes.retain(|node, _| live.contains(node));
        let used: Vec<u64> = self.nodes.values().map(|state| state.generation).collect();
        self.generations.retain(|generation, _| used.contains(generation));
    }
}
