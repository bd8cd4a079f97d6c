//! A local causal language model as a [`Proposer`]: samples chunks with its KV cache kept across them.
//!
//! A *generation* is the cache that one `extend` call left for its rows; a node points at a row of one. The last
//! sampled token of a row is fed only when the row is extended again, so a pruned row costs no forward pass for it.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::models::{Input, KvCache, Lm};
use crate::sampling::Sampling;
use crate::search::{Extend, Finish, Node, Proposer, Response};
use crate::text::{PromptTemplate, Tokenizer};

pub struct LocalPolicy {
    lm: Rc<Lm>,
    tokenizer: Rc<Tokenizer>,
    template: PromptTemplate,
    sampling: Sampling,
    stop: Vec<String>,
    generations: BTreeMap<u64, KvCache>,
    nodes: HashMap<Node, State>,
    next: u64,
    sampled: u64,
}

/// Where a response's keys and values lie, and the tokens that are not among them yet (the prompt, or the last sampled token).
struct State {
    generation: u64,
    row: i64,
    response: Vec<i64>,
    /// Position of the first pending token.
    position: i64,
    pending: Vec<i64>,
}

/// A row while its chunk is being sampled.
struct Row<'a> {
    request: &'a Extend<'a>,
    response: Vec<i64>,
    /// Position of the token that is sampled next.
    position: i64,
    finish: Option<(Finish, Option<String>)>,
}

impl LocalPolicy {
    pub fn new(lm: Rc<Lm>, tokenizer: Rc<Tokenizer>, template: PromptTemplate, sampling: Sampling, stop: Vec<String>) -> Self {
        Self { lm, tokenizer, template, sampling, stop, generations: BTreeMap::new(), nodes: HashMap::new(), next: 0, sampled: 0 }
    }

    /// Refuses a prompt that leaves no room for `new_tokens` in the context.
    pub fn check_prompt(&self, id: &str, prompt: &str, new_tokens: usize) -> Result<()> {
        let tokens = self.template.encode(&self.tokenizer, prompt)?.len();
        let context = self.lm.model.info().context as usize;
        if tokens + new_tokens <= context {
            return Ok(());
        }
        Err(Error::failed(format!(
            "prompt `{id}`: {tokens} tokens and {new_tokens} new ones do not fit the model's context of {context}\n\nhint: shorten the prompt, or lower `max_new_tokens` to {}",
            context.saturating_sub(tokens)
        )))
    }

    /// Mean log-probability of a response's tokens, its EOS included if it has one, by one full forward pass; `None` for an empty one.
    pub fn mean_logprob(&self, prompt: &str, response: &Response) -> Result<Option<f64>> {
        let _no_grad = tch::no_grad_guard();
        let mut ids = self.template.encode(&self.tokenizer, prompt)?;
        let prompt_len = ids.len();
        ids.extend(&response.ids);
        let eos = self.lm.model.info().eos_token_ids.first().filter(|_| response.finish == Some(Finish::Eos));
        ids.extend(eos);
        let scored = ids.len() - prompt_len;
        if scored == 0 {
            return Ok(None);
        }
        let logps = crate::score::response_logps(&self.lm.model, &ids, prompt_len)?;
        Ok(Some(logps.iter().map(|&logp| f64::from(logp)).sum::<f64>() / scored as f64))
    }

    /// Opens several prompts that will be extended together, as rows of one batch.
    pub fn open_all(&mut self, prompts: &[&str]) -> Result<Vec<Node>> {
        let generation = self.fresh();
        let open = |(row, prompt): (usize, &&str)| {
            let pending = self.template.encode(&self.tokenizer, prompt)?;
            let node = Node(self.fresh());
            self.nodes.insert(node, State { generation, row: row as i64, response: Vec::new(), position: 0, pending });
            Ok(node)
        };
        prompts.iter().enumerate().map(open).collect()
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Samples the requests that share one generation, each distinct parent's pending tokens fed once.
    fn extend_generation(&mut self, generation: u64, requests: &[&Extend]) -> Result<Vec<(Node, Response)>> {
        let mut parents: Vec<Node> = Vec::new();
        for request in requests {
            if !parents.contains(&request.node) {
                parents.push(request.node);
            }
        }
        let states: Vec<&State> = parents.iter().map(|node| self.state(*node)).collect::<Result<_>>()?;
        let chunk = requests[0].max_tokens;
        if requests.iter().any(|request| request.max_tokens != chunk) {
            return Err(Error::failed("continuations of one prompt must have equal budgets"));
        }
        let mut cache = match self.generations.get(&generation) {
            Some(cache) => cache.select(&states.iter().map(|state| state.row).collect::<Vec<_>>()),
            None => KvCache::new(), // the prompt has not been read yet
        };
        let pending: Vec<(&[i64], i64)> = states.iter().map(|state| (&state.pending[..], state.position)).collect();
        let mut logits = self.step(&pending, &mut cache);

        let parent_rows: Vec<usize> =
            requests.iter().map(|request| parents.iter().position(|node| *node == request.node).unwrap_or(0)).collect();
        let mut rows: Vec<Row> = (requests.iter().zip(&parent_rows))
            .map(|(request, &parent)| {
                let state = states[parent];
                let position = state.position + state.pending.len() as i64;
                Row { request, response: state.response.clone(), position, finish: None }
            })
            .collect();
        if parent_rows.iter().enumerate().any(|(i, &parent)| i != parent) || parents.len() != rows.len() {
            let parent_rows: Vec<i64> = parent_rows.iter().map(|&row| row as i64).collect();
            logits = logits.index_select(0, &Tensor::from_slice(&parent_rows).to_device(logits.device()));
            cache = cache.select(&parent_rows);
        }
        let mut active: Vec<usize> = (0..rows.len()).collect();
        for sampled in 1..=chunk {
            self.sample(&logits, &active, &mut rows)?;
            let open: Vec<usize> = (0..active.len()).filter(|&i| rows[active[i]].finish.is_none()).collect();
            if open.len() < active.len() {
                cache = cache.select(&open.iter().map(|&i| i as i64).collect::<Vec<_>>());
                active = open.into_iter().map(|i| active[i]).collect();
            }
            if active.is_empty() || sampled == chunk {
                break;
            }
            let pending: Vec<(&[i64], i64)> =
                active.iter().map(|&row| (&rows[row].response[rows[row].response.len() - 1..], rows[row].position - 1)).collect();
            logits = self.step(&pending, &mut cache);
        }
        self.publish(rows, &active, cache)
    }

    /// Feeds each row its (tokens, position of the first), shorter rows padded on the left, and returns the last position's logits,
    /// (rows, vocab) in f32.
    fn step(&self, pending: &[(&[i64], i64)], cache: &mut KvCache) -> Tensor {
        let width = pending.iter().map(|(tokens, _)| tokens.len()).max().unwrap_or(0);
        let (mut ids, mut positions, mut valid) = (Vec::new(), Vec::new(), Vec::new());
        for (tokens, first) in pending {
            let padding = width - tokens.len();
            ids.extend(std::iter::repeat_n(0, padding).chain(tokens.iter().copied()));
            positions.extend(std::iter::repeat_n(0, padding).chain(*first..*first + tokens.len() as i64));
            valid.extend((0..width).map(|i| i >= padding));
        }
        let (shape, device) = ([pending.len() as i64, width as i64], self.lm.device());
        let ids = Tensor::from_slice(&ids).view(shape).to_device(device);
        let positions = Tensor::from_slice(&positions).view(shape).to_device(device);
        let valid = (!valid.iter().all(|&real| real)).then(|| Tensor::from_slice(&valid).view(shape).to_device(device));
        let hidden = self.lm.model.hidden(&Input { ids: &ids, positions: &positions, valid: valid.as_ref() }, Some(cache));
        self.lm.model.logits(&hidden.select(1, width as i64 - 1)).to_kind(Kind::Float)
    }

    /// Draws the next token of each active row; row `i` of `logits` belongs to `active[i]`.
    fn sample(&mut self, logits: &Tensor, active: &[usize], rows: &mut [Row]) -> Result<()> {
        let vocab = logits.size2()?.1;
        let needed = self.sampling.needed_logits().map_or(vocab, |k| (k as i64).min(vocab));
        let (values, indices) = if needed < vocab {
            let (values, indices) = logits.topk(needed, -1, true, true);
            (values, Some(Vec::<i64>::try_from(indices.flatten(0, -1))?))
        } else {
            (logits.shallow_clone(), None)
        };
        let values = Vec::<f32>::try_from(values.contiguous().flatten(0, -1))?;
        let width = needed as usize;
        for (i, &r) in active.iter().enumerate() {
            let row = &mut rows[r];
            let u = row.request.stream.uniform(row.response.len() as u64, row.request.slot);
            let picked = self.sampling.pick(&values[i * width..(i + 1) * width], u);
            let token = indices.as_ref().map_or(picked as i64, |indices| indices[i * width + picked]);
            self.sampled += 1;
            if self.lm.model.info().eos_token_ids.contains(&token) {
                row.finish = Some((Finish::Eos, None));
                continue;
            }
            row.response.push(token);
            row.position += 1;
            if !self.stop.is_empty() {
                let text = self.tokenizer.decode_continuation(&row.response)?;
                if let Some(cut) = self.stop.iter().filter_map(|stop| text.find(stop)).min() {
                    row.finish = Some((Finish::Stop, Some(text[..cut].to_owned())));
                }
            }
        }
        Ok(())
    }

    /// Turns sampled rows into nodes; the rows of `active`, in this order, own the rows of `cache`.
    fn publish(&mut self, rows: Vec<Row>, active: &[usize], cache: KvCache) -> Result<Vec<(Node, Response)>> {
        let generation = self.fresh();
        if !active.is_empty() {
            self.generations.insert(generation, cache);
        }
        let mut extended = Vec::with_capacity(rows.len());
        for (r, row) in rows.into_iter().enumerate() {
            let node = Node(self.fresh());
            let (text, ids) = match &row.finish {
                Some((Finish::Stop, Some(text))) => (text.clone(), self.tokenizer.encode_continuation(text)?),
                _ => (self.tokenizer.decode_continuation(&row.response)?, row.response.clone()),
            };
            if let Some(position) = active.iter().position(|&a| a == r).filter(|_| row.finish.is_none()) {
                let pending = row.response.last().copied().into_iter().collect();
                let state = State { generation, row: position as i64, response: row.response, position: row.position - 1, pending };
                self.nodes.insert(node, state);
            }
            extended.push((node, Response { text, ids, finish: row.finish.map(|(finish, _)| finish) }));
        }
        Ok(extended)
    }

    fn state(&self, node: Node) -> Result<&State> {
        self.nodes.get(&node).ok_or_else(|| Error::failed("a finished or pruned response cannot be extended"))
    }
}

impl Proposer for LocalPolicy {
    fn open(&mut self, prompt: &str) -> Result<Node> {
        Ok(self.open_all(&[prompt])?[0])
    }

    fn extend(&mut self, requests: &[Extend]) -> Result<Vec<(Node, Response)>> {
        let _no_grad = tch::no_grad_guard();
        let mut by_generation: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (i, request) in requests.iter().enumerate() {
            by_generation.entry(self.state(request.node)?.generation).or_default().push(i);
        }
        let mut extended: Vec<Option<(Node, Response)>> = requests.iter().map(|_| None).collect();
        for (generation, members) in by_generation {
            let group: Vec<&Extend> = members.iter().map(|&i| &requests[i]).collect();
            for (i, result) in members.iter().zip(self.extend_generation(generation, &group)?) {
                extended[*i] = Some(result);
            }
        }
        Ok(extended.into_iter().flatten().collect())
    }

    fn retain(&mut self, live: &[Node]) {
        self.nodes.retain(|node, _| live.contains(node));
        let used: Vec<u64> = self.nodes.values().map(|state| state.generation).collect();
        self.generations.retain(|generation, _| used.contains(generation));
    }

    fn sampled_tokens(&self) -> u64 {
        self.sampled
    }
}
