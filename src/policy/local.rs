//! Local models as a [`Proposer`]: samples chunks of many prompts in one batch, with the KV caches kept across them. Also tells the
//! likeliest [`NextTokens`].
//!
//! A *generation* is the caches that one call left for the rows of one prompt; a node points at a row of one. The last sampled
//! token of a row is fed only when the row is extended again, so a pruned row costs no forward pass for it, and a parent's is fed once
//! for all its continuations.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::draw::Distribution;
use super::mixture::{Caches, Hidden, Member, Mixture};
use crate::error::{Error, Result};
use crate::models::Lm;
use crate::sampling::Sampling;
use crate::search::{Extend, Extended, Finish, NextTokens, Node, Proposer, Response};
use crate::text::{PromptTemplate, Tokenizer};

pub struct LocalPolicy {
    models: Mixture,
    tokenizer: Rc<Tokenizer>,
    sampling: Sampling,
    stop: Vec<String>,
    generations: BTreeMap<u64, Caches>,
    nodes: HashMap<Node, State>,
    next: u64,
}

/// Where a response's keys and values lie, and what its next token is predicted from.
struct State {
    generation: u64,
    row: usize,
    /// Whether the prompt is empty, so that the response begins the text.
    begins: bool,
    response: Vec<i64>,
    /// Of each token of the response.
    logprobs: Vec<f64>,
    pending: Pending,
}

enum Pending {
    /// The hidden state after all that has been read.
    Hidden(Hidden),
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
    begins: bool,
    response: Vec<i64>,
    before: usize,
    /// Of each token drawn for the response, EOS included.
    logprobs: Vec<f64>,
    sampled: u64,
    finish: Option<(Finish, Option<String>)>,
    end: Option<i64>,
}

/// The rows of one group while they are sampled: row `rows[i]` owns row i of the caches.
struct Growing {
    caches: Caches,
    rows: Vec<usize>,
}

impl LocalPolicy {
    pub fn new(lm: Rc<Lm>, tokenizer: Rc<Tokenizer>, template: PromptTemplate, sampling: Sampling, stop: Vec<String>) -> Self {
        Self::mixture(Member { lm, template, weight: 1.0 }, Vec::new(), tokenizer, sampling, stop)
    }

    /// Samples from the base and guides of its vocabulary together: emulated fine-tuning.
    pub fn mixture(base: Member, guides: Vec<Member>, tokenizer: Rc<Tokenizer>, sampling: Sampling, stop: Vec<String>) -> Self {
        let models = Mixture::new(base, guides);
        Self { models, tokenizer, sampling, stop, generations: BTreeMap::new(), nodes: HashMap::new(), next: 0 }
    }

    /// Each of the models, the base first, and the tokens of `prompt` as it reads it.
    pub fn prompt_tokens(&self, prompt: &str) -> Result<Vec<(&Lm, usize)>> {
        self.models.members().iter().map(|member| Ok((&*member.lm, member.template.encode(&self.tokenizer, prompt)?.len()))).collect()
    }

    /// [`Proposer::open`] for many short prompts that will have few continuations each, all extended together.
    pub fn open_rows(&mut self, prompts: &[&str]) -> Result<Vec<Node>> {
        let (caches, hidden) = self.models.read_prompts_as_rows(&self.tokenizer, prompts)?;
        let generation = self.fresh();
        self.generations.insert(generation, caches);
        let rows = prompts.iter().enumerate();
        rows.map(|(row, prompt)| Ok(self.insert_empty(generation, row, self.is_empty(prompt)?, hidden.row(row)))).collect()
    }

    fn is_empty(&self, prompt: &str) -> Result<bool> {
        self.models.base().template.is_empty(&self.tokenizer, prompt)
    }

    fn insert_empty(&mut self, generation: u64, row: usize, begins: bool, hidden: Hidden) -> Node {
        let node = Node(self.fresh());
        let (response, logprobs, pending) = (Vec::new(), Vec::new(), Pending::Hidden(hidden));
        self.nodes.insert(node, State { generation, row, begins, response, logprobs, pending });
        node
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn state(&self, node: Node) -> Result<&State> {
        self.nodes.get(&node).ok_or_else(|| Error::failed("a finished or pruned response cannot be extended"))
    }

    /// The requests for continuations of these nodes by their generations.
    fn groups(&self, nodes: impl Iterator<Item = Node>) -> Result<Vec<Group>> {
        let mut groups: Vec<Group> = Vec::new();
        for (number, node) in nodes.enumerate() {
            let generation = self.state(node)?.generation;
            let known = groups.iter().position(|group| group.generation == generation);
            let group = known.unwrap_or_else(|| {
                groups.push(Group { generation, parents: Vec::new(), requests: Vec::new() });
                groups.len() - 1
            });
            let group = &mut groups[group];
            let parent = group.parents.iter().position(|&parent| parent == node).unwrap_or_else(|| {
                group.parents.push(node);
                group.parents.len() - 1
            });
            group.requests.push((number, parent));
        }
        Ok(groups)
    }

    /// Each group's parents in caches of their own, their pending tokens read, and the states after each, group after group.
    fn read_parents(&self, groups: &[Group]) -> Result<(Vec<Caches>, Hidden)> {
        let mut all = Vec::new();
        let mut tokens: Vec<Option<i64>> = Vec::new();
        let mut known: Vec<Option<&Hidden>> = Vec::new();
        for group in groups {
            let states: Vec<&State> = group.parents.iter().map(|&parent| self.state(parent)).collect::<Result<_>>()?;
            let source = self.generations.get(&group.generation).ok_or_else(|| Error::failed("the cache of a live response is gone"))?;
            all.push(source.select(&states.iter().map(|state| state.row).collect::<Vec<_>>()));
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
        // What has been read to its end is in generations of its own, so a group has tokens for all of its rows or for none.
        let mut first = 0;
        let mut reading: Vec<&mut Caches> = Vec::new();
        for caches in &mut all {
            let rows = caches.rows();
            if tokens[first].is_some() {
                reading.push(caches);
            }
            first += rows;
        }
        let fed: Vec<i64> = tokens.iter().copied().flatten().collect();
        let read: Vec<Hidden> = match fed.is_empty() {
            true => Vec::new(),
            false => {
                let read = self.models.step(reading, &fed);
                (0..read.rows()).map(|row| read.row(row)).collect()
            }
        };
        let mut read = read.iter();
        let rows: Vec<&Hidden> = known.into_iter().flat_map(|known| known.or_else(|| read.next())).collect();
        Ok((all, Hidden::cat(&rows)))
    }

    /// Draws the next token of a row.
    fn draw(&self, row: &mut Row, request: &Extend, distribution: &Distribution) -> Result<()> {
        let u = request.stream.uniform(row.response.len() as u64, request.slot);
        let (token, logprob) = distribution.draw(&self.sampling, u);
        row.sampled += 1;
        row.logprobs.push(logprob);
        if self.end_token_ids().contains(&token) {
            (row.finish, row.end) = (Some((Finish::Eos, None)), Some(token));
            return Ok(());
        }
        row.response.push(token);
        row.finish = self.stopped(&row.response, row.begins)?.map(|text| (Finish::Stop, Some(text)));
        Ok(())
    }

    fn end_token_ids(&self) -> &[i64] {
        &self.models.base().lm.model.info().eos_token_ids
    }

    /// The text before the first stop string, if there is one.
    fn stopped(&self, response: &[i64], begins: bool) -> Result<Option<String>> {
        if self.stop.is_empty() {
            return Ok(None);
        }
        let text = self.tokenizer.decode_response(response, begins)?;
        let cut = self.stop.iter().filter_map(|stop| text.find(stop)).min();
        Ok(cut.map(|cut| text[..cut].to_owned()))
    }

    /// The response that ended with `finish` after these ids; a stop string leaves the text before it.
    fn response(&self, ids: &[i64], begins: bool, finish: Option<(Finish, Option<String>)>) -> Result<Response> {
        let (text, ids) = match &finish {
            Some((Finish::Stop, Some(text))) => (text.clone(), self.tokenizer.encode_response(text, begins)?),
            _ => (self.tokenizer.decode_response(ids, begins)?, ids.to_vec()),
        };
        Ok(Response { text, ids, finish: finish.map(|(finish, _)| finish) })
    }

    fn sample(&self, requests: &[Extend], groups: &[Group]) -> Result<(Vec<Row>, Vec<Growing>)> {
        let needed = self.sampling.needed_logits();
        let (all, hidden) = self.read_parents(groups)?;
        let parents = self.models.distributions(&hidden, needed)?;
        let mut rows: Vec<Row> = Vec::with_capacity(requests.len());
        let mut growing = Vec::with_capacity(groups.len());
        let mut first_parent = 0;
        for (group, caches) in groups.iter().zip(all) {
            let mut owned = Vec::with_capacity(group.requests.len());
            for &(request, parent) in &group.requests {
                let state = self.state(group.parents[parent])?;
                let before = state.response.len();
                let (response, logprobs) = (state.response.clone(), state.logprobs.clone());
                let begins = state.begins;
                let mut row = Row { request, begins, response, before, logprobs, sampled: 0, finish: None, end: None };
                self.draw(&mut row, &requests[request], &parents[first_parent + parent])?;
                owned.push(rows.len());
                rows.push(row);
            }
            let children: Vec<usize> = group.requests.iter().map(|&(_, parent)| parent).collect();
            growing.push(Growing { caches: caches.select(&children), rows: owned });
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
            let hidden = self.models.step(active.into_iter().map(|group| &mut group.caches).collect(), &tokens);
            let open: Vec<i64> = (0..fed.len()).filter(|&i| wants(&rows[fed[i]])).map(|i| i as i64).collect();
            let hidden = if open.len() == fed.len() { hidden } else { hidden.select(&open) };
            for (&i, distribution) in open.iter().zip(self.models.distributions(&hidden, needed)?) {
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
            self.generations.insert(generation, group.caches);
        }
        let mut extended: Vec<Option<Extended>> = (0..requests).map(|_| None).collect();
        for (row, place) in rows.into_iter().zip(places) {
            let node = Node(self.fresh());
            let begins = row.begins;
            let response = self.response(&row.response, begins, row.finish)?;
            // What a stop string cuts off was sampled too, and the rest may have other tokens than were sampled.
            let counted = if response.finish == Some(Finish::Stop) { response.ids.len() } else { row.logprobs.len() };
            let logprob = row.response.starts_with(&response.ids).then(|| row.logprobs[..counted].iter().sum());
            if let (None, Some((generation, place)), Some(&last)) = (response.finish, place, row.response.last()) {
                let (response, logprobs) = (row.response, row.logprobs);
                self.nodes.insert(node, State { generation, row: place, begins, response, logprobs, pending: Pending::Token(last) });
            }
            extended[row.request] = Some(Extended { node, response, end: row.end, sampled: row.sampled, logprob });
        }
        Ok(extended.into_iter().flatten().collect())
    }
}

impl Growing {
    /// Leaves finished rows behind once they are a quarter; until then they cost less than moving the others.
    fn drop_finished(&mut self, is_open: impl Fn(usize) -> bool) {
        let kept: Vec<usize> = (0..self.rows.len()).filter(|&place| is_open(self.rows[place])).collect();
        if 4 * (self.rows.len() - kept.len()) >= self.rows.len().max(1) {
            self.caches = self.caches.select(&kept);
            self.rows = kept.into_iter().map(|place| self.rows[place]).collect();
        }
    }
}

impl Proposer for LocalPolicy {
    fn open(&mut self, prompts: &[&str]) -> Result<Vec<Node>> {
        let opened = self.models.read_prompts(&self.tokenizer, prompts)?;
        let mut nodes = Vec::with_capacity(prompts.len());
        for ((caches, hidden), prompt) in opened.into_iter().zip(prompts) {
            let generation = self.fresh();
            self.generations.insert(generation, caches);
            nodes.push(self.insert_empty(generation, 0, self.is_empty(prompt)?, hidden));
        }
        Ok(nodes)
    }

    fn extend(&mut self, requests: &[Extend]) -> Result<Vec<Extended>> {
        let _no_grad = tch::no_grad_guard();
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let groups = self.groups(requests.iter().map(|request| request.node))?;
        for group in &groups {
            let budget = |&(request, _): &(usize, usize)| requests[request].max_tokens;
            if group.requests.iter().any(|request| budget(request) != budget(&group.requests[0])) {
                return Err(Error::failed("continuations of one prompt must have equal budgets"));
            }
        }
        let (rows, growing) = self.sample(requests, &groups)?;
        self.publish(rows, growing, requests.len())
    }

    fn retain(&mut self, live: &[Node]) {
        self.nodes.retain(|node, _| live.contains(node));
        let used: Vec<u64> = self.nodes.values().map(|state| state.generation).collect();
        self.generations.retain(|generation, _| used.contains(generation));
    }
}

impl NextTokens for LocalPolicy {
    fn open(&mut self, prompts: &[&str]) -> Result<Vec<Node>> {
        Proposer::open(self, prompts)
    }

    fn likeliest(&mut self, nodes: &[Node], count: usize) -> Result<Vec<Vec<(i64, f32)>>> {
        let _no_grad = tch::no_grad_guard();
        let groups = self.groups(nodes.iter().copied())?;
        let (all, hidden) = self.read_parents(&groups)?;
        let mut likeliest = vec![Vec::new(); nodes.len()];
        let distributions = self.models.distributions(&hidden, Some(count))?;
        let mut rows = distributions.iter().map(Distribution::logprobs).enumerate();
        for (group, caches) in groups.into_iter().zip(all) {
            let generation = self.fresh();
            self.generations.insert(generation, caches);
            for ((row, node), (place, logprobs)) in group.parents.into_iter().enumerate().zip(rows.by_ref()) {
                if let Some(state) = self.nodes.get_mut(&node) {
                    (state.generation, state.row, state.pending) = (generation, row, Pending::Hidden(hidden.row(place)));
                }
                for (request, _) in group.requests.iter().filter(|(_, parent)| *parent == row) {
                    likeliest[*request] = logprobs.clone();
                }
            }
        }
        Ok(likeliest)
    }

    fn append(&mut self, node: Node, token: i64) -> Result<(Node, Response)> {
        let State { generation, row, begins, response: before, .. } = self.state(node)?;
        let (generation, row, begins, mut ids) = (*generation, *row, *begins, before.clone());
        let finish = match self.end_token_ids().contains(&token) {
            true => Some((Finish::Eos, None)),
            false => {
                ids.push(token);
                self.stopped(&ids, begins)?.map(|text| (Finish::Stop, Some(text)))
            }
        };
        let response = self.response(&ids, begins, finish)?;
        let node = Node(self.fresh());
        if response.finish.is_none() {
            self.nodes.insert(node, State { generation, row, begins, response: ids, logprobs: Vec::new(), pending: Pending::Token(token) });
        }
        Ok((node, response))
    }

    fn end_tokens(&self) -> usize {
        self.end_token_ids().len()
    }

    fn retain(&mut self, live: &[Node]) {
        Proposer::retain(self, live);
    }
}
