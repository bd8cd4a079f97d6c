//! The guide pair's implicit reward (Eq. 5a, 6 of arXiv 2405.19262), computed incrementally:
//!
//! score(x, y') = Σ_t log π*(y_t | x, y_<t) − log π_ref(y_t | x, y_<t), with the guide's EOS token as the last y_t of a complete response.
//!
//! A chunk goes through both guides in one forward pass on their KV caches. Where base and guides share one vocabulary the base's ids
//! pass straight through; otherwise the response text is tokenized anew, the longest common token prefix with the parent is kept, and
//! only the tail is computed.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use tch::{Kind, Tensor};

use super::logps::target_logps;
use crate::error::{Error, Result};
use crate::models::{Input, KvCache, Lm};
use crate::search::{Judge, Judged, Node, Response, Scorer};
use crate::text::{PromptTemplate, Tokenizer};

/// The tuned and the untuned model: one tokenizer, one prompt template.
pub struct Guide {
    pub tuned: Rc<Lm>,
    pub untuned: Rc<Lm>,
    pub tokenizer: Rc<Tokenizer>,
    pub template: PromptTemplate,
}

pub struct GuidePair {
    guide: Rc<Guide>,
    /// The base's ids are the guides' ids.
    same_vocabulary: bool,
    eos: i64,
    context: i64,
    generations: BTreeMap<u64, Generation>,
    nodes: HashMap<Node, State>,
    next: u64,
    scored: u64,
}

/// What one `score` call left for the rows of one prompt.
struct Generation {
    prompt: Rc<Prompt>,
    models: [ModelState; 2],
}

/// One guide's cache, and its hidden state after the last token of each row, (rows, hidden_size).
struct ModelState {
    cache: KvCache,
    last: Tensor,
}

/// Hidden states after the prompt, (1, hidden_size) for each guide, and its length in tokens.
struct Prompt {
    length: i64,
    after: [Tensor; 2],
}

#[derive(Clone)]
struct State {
    generation: u64,
    row: i64,
    ids: Vec<i64>,
    /// Cache column and log-ratio of each id.
    columns: Vec<i64>,
    ratios: Vec<f32>,
}

/// What one row needs from the guides.
struct Work {
    parent: State,
    ids: Vec<i64>,
    complete: bool,
    /// Leading log-ratios that are known from the parent.
    known: usize,
    /// Leading ids whose keys and values are in the cache; the rest is fed.
    cached: usize,
}

impl GuidePair {
    pub fn new(guide: Rc<Guide>, same_vocabulary: bool) -> Result<Self> {
        let info = guide.tuned.model.info();
        let eos = *info.eos_token_ids.first().ok_or_else(|| {
            Error::failed("the guides have no end-of-sequence token\n\nhint: set `eos_token_id` in the guide's config.json")
        })?;
        let context = info.context.min(guide.untuned.model.info().context);
        Ok(Self { guide, same_vocabulary, eos, context, generations: BTreeMap::new(), nodes: HashMap::new(), next: 0, scored: 0 })
    }

    /// Refuses a prompt that leaves no room for `new_tokens` guide tokens in the guides' context.
    pub fn check_prompt(&self, id: &str, prompt: &str, new_tokens: usize) -> Result<()> {
        let tokens = self.guide.template.encode(&self.guide.tokenizer, prompt)?.len();
        if tokens + new_tokens <= self.context as usize {
            return Ok(());
        }
        Err(Error::failed(format!(
            "prompt `{id}`: {tokens} tokens and {new_tokens} new ones do not fit the guides' context of {}\n\nhint: shorten the prompt, or lower `max_new_tokens`",
            self.context
        )))
    }

    /// log π* − log π_ref of each guide token of a response (EOS last where complete) by full forward passes, without any cache.
    pub fn token_rewards(&self, prompt: &str, response: &Response) -> Result<Vec<f32>> {
        let mut ids = self.guide.template.encode(&self.guide.tokenizer, prompt)?;
        let prompt_len = ids.len();
        ids.extend(self.response_ids(response)?);
        if response.finish.is_some_and(|finish| finish.is_complete()) {
            ids.push(self.eos);
        }
        if ids.len() == prompt_len {
            return Ok(Vec::new());
        }
        let tuned = super::response_logps(&self.guide.tuned.model, &ids, prompt_len)?;
        let untuned = super::response_logps(&self.guide.untuned.model, &ids, prompt_len)?;
        Ok(tuned.iter().zip(&untuned).map(|(tuned, untuned)| tuned - untuned).collect())
    }

    fn models(&self) -> [&Lm; 2] {
        [&self.guide.tuned, &self.guide.untuned]
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn response_ids(&self, response: &Response) -> Result<Vec<i64>> {
        if self.same_vocabulary {
            return Ok(response.ids.clone());
        }
        // A chunk may end inside a multi-byte character; its bytes are scored with the chunk that completes it.
        let text = match response.finish {
            Some(finish) if finish.is_complete() => response.text.as_str(),
            _ => response.text.trim_end_matches('\u{FFFD}'),
        };
        self.guide.tokenizer.encode_continuation(text)
    }

    fn plan(&self, request: &Judge) -> Result<Work> {
        let parent = self.nodes.get(&request.parent).ok_or_else(|| Error::failed("the parent of a response to score was pruned"))?.clone();
        let ids = self.response_ids(request.response)?;
        let known = parent.ids.iter().zip(&ids).take_while(|(a, b)| a == b).count();
        // The hidden state that predicts the first new token is at hand after the whole parent and after the prompt; elsewhere the last
        // common token is fed once more.
        let cached = if known == parent.ids.len() { known } else { known.saturating_sub(1) };
        let complete = request.response.finish.is_some_and(|finish| finish.is_complete());
        Ok(Work { parent, ids, complete, known, cached })
    }

    fn score_generation(&mut self, generation: u64, work: Vec<Work>) -> Result<Vec<Judged>> {
        let source = self.generations.get(&generation).ok_or_else(|| Error::failed("the scorer's cache of a live response is gone"))?;
        let prompt = source.prompt.clone();
        let widest = work.iter().map(|row| row.ids.len() - row.cached).max().unwrap_or(0);
        let longest = work.iter().map(|row| row.ids.len() as i64 + i64::from(row.complete)).max().unwrap_or(0);
        if prompt.length + longest > self.context {
            return Err(Error::failed(format!(
                "a response of {longest} guide tokens after a prompt of {} does not fit the guides' context of {}\n\nhint: lower `max_new_tokens`, or use guides with a longer context",
                prompt.length, self.context
            )));
        }
        let rows: Vec<i64> = work.iter().map(|row| row.parent.row).collect();
        let mut columns_before = 0;
        let mut logps: Vec<Vec<f32>> = Vec::with_capacity(2);
        let mut models: Vec<ModelState> = Vec::with_capacity(2);
        for (which, lm) in self.models().into_iter().enumerate() {
            let source = &source.models[which];
            // Each guide has its own device.
            let fed = Fed::new(&work, prompt.length, widest, lm.device());
            let targets = Targets::new(&work, self.eos, widest, lm.device());
            let mut cache = source.cache.select(&rows);
            columns_before = cache.columns();
            for (row, item) in work.iter().enumerate() {
                if let Some(&column) = item.parent.columns.get(item.cached) {
                    cache.invalidate(row as i64, column);
                }
            }
            // Row r's state before its first fed token: after its whole parent, or after the prompt.
            let mut carried = source.last.index_select(0, &Tensor::from_slice(&rows).to_device(source.last.device()));
            for (row, _) in work.iter().enumerate().filter(|(_, item)| item.cached == 0) {
                carried.narrow(0, row as i64, 1).copy_(&prompt.after[which]);
            }
            carried = carried.unsqueeze(1);
            let states = match &fed {
                Some(fed) => {
                    let input = Input { ids: &fed.ids, positions: &fed.positions, valid: fed.valid.as_ref() };
                    Tensor::cat(&[&carried, &lm.model.hidden(&input, Some(&mut cache))], 1)
                }
                None => carried,
            }; // (rows, 1 + widest, hidden): column j predicts the token j places after the cached ones
            let (_, _, hidden_size) = states.size3()?;
            let flat = states.reshape([-1, hidden_size]);
            logps.push(match &targets {
                Some(targets) => {
                    let predicting = flat.index_select(0, &targets.states);
                    Vec::<f32>::try_from(target_logps(&lm.model, &predicting, &targets.ids))?
                }
                None => Vec::new(),
            });
            let ends: Vec<i64> = (work.iter().enumerate())
                .map(|(row, item)| row as i64 * (widest as i64 + 1) + (item.ids.len() - item.cached) as i64)
                .collect();
            let last = flat.index_select(0, &Tensor::from_slice(&ends).to_device(flat.device()));
            models.push(ModelState { cache, last });
        }
        self.scored += work.iter().map(|row| (row.ids.len() - row.cached) as u64).sum::<u64>();
        let generation = self.fresh();
        let mut ratios = logps[0].iter().zip(&logps[1]).map(|(tuned, untuned)| tuned - untuned);
        let mut judged = Vec::with_capacity(work.len());
        for (row, item) in work.into_iter().enumerate() {
            let mut kept: Vec<f32> = item.parent.ratios[..item.known].to_vec();
            kept.extend(ratios.by_ref().take(item.ids.len() - item.known));
            let eos = if item.complete { ratios.next().unwrap_or(0.0) } else { 0.0 };
            let score = kept.iter().sum::<f32>() + eos;
            let mut columns = item.parent.columns[..item.cached].to_vec();
            columns.extend((0..item.ids.len() - item.cached).map(|j| columns_before + j as i64));
            let node = Node(self.fresh());
            self.nodes.insert(node, State { generation, row: row as i64, ids: item.ids, columns, ratios: kept });
            judged.push(Judged { node, score });
        }
        let models: [ModelState; 2] = models.try_into().map_err(|_| Error::failed("a guide pair has two models"))?;
        self.generations.insert(generation, Generation { prompt, models });
        Ok(judged)
    }
}

/// The tokens one forward pass reads: (rows, widest), shorter rows padded on the right.
struct Fed {
    ids: Tensor,
    positions: Tensor,
    valid: Option<Tensor>,
}

impl Fed {
    fn new(work: &[Work], prompt_length: i64, widest: usize, device: tch::Device) -> Option<Self> {
        if widest == 0 {
            return None;
        }
        let (mut ids, mut positions, mut valid) = (Vec::new(), Vec::new(), Vec::new());
        for row in work {
            for j in 0..widest {
                let real = row.cached + j < row.ids.len();
                ids.push(if real { row.ids[row.cached + j] } else { 0 });
                positions.push(if real { prompt_length + (row.cached + j) as i64 } else { 0 });
                valid.push(real);
            }
        }
        let shape = [work.len() as i64, widest as i64];
        Some(Self {
            ids: Tensor::from_slice(&ids).view(shape).to_device(device),
            positions: Tensor::from_slice(&positions).view(shape).to_device(device),
            valid: (!valid.iter().all(|&real| real)).then(|| Tensor::from_slice(&valid).view(shape).to_device(device)),
        })
    }
}

/// Which flattened states predict which unknown tokens, row by row, each row's EOS last.
struct Targets {
    states: Tensor,
    ids: Tensor,
}

impl Targets {
    fn new(work: &[Work], eos: i64, widest: usize, device: tch::Device) -> Option<Self> {
        let (mut states, mut ids) = (Vec::new(), Vec::new());
        for (r, row) in work.iter().enumerate() {
            let unknown = row.ids[row.known..].iter().copied().chain(row.complete.then_some(eos));
            for (j, id) in unknown.enumerate() {
                states.push((r * (widest + 1) + row.known - row.cached + j) as i64);
                ids.push(id);
            }
        }
        let tensor = |values: &[i64]| Tensor::from_slice(values).to_device(device);
        (!ids.is_empty()).then(|| Self { states: tensor(&states), ids: tensor(&ids) })
    }
}

impl Scorer for GuidePair {
    fn open(&mut self, prompt: &str) -> Result<Node> {
        let _no_grad = tch::no_grad_guard();
        let ids = self.guide.template.encode(&self.guide.tokenizer, prompt)?;
        let length = ids.len() as i64;
        let read = |lm: &Lm| {
            let tokens = Tensor::from_slice(&ids).unsqueeze(0).to_device(lm.device());
            let positions = Tensor::arange(length, (Kind::Int64, lm.device())).unsqueeze(0);
            let mut cache = KvCache::new();
            let hidden = lm.model.hidden(&Input { ids: &tokens, positions: &positions, valid: None }, Some(&mut cache));
            ModelState { cache, last: hidden.select(1, length - 1).copy() }
        };
        let models = self.models().map(read);
        let after = [models[0].last.shallow_clone(), models[1].last.shallow_clone()];
        let (generation, node) = (self.fresh(), Node(self.fresh()));
        self.generations.insert(generation, Generation { prompt: Rc::new(Prompt { length, after }), models });
        self.nodes.insert(node, State { generation, row: 0, ids: Vec::new(), columns: Vec::new(), ratios: Vec::new() });
        self.scored += length as u64;
        Ok(node)
    }

    fn score(&mut self, requests: &[Judge]) -> Result<Vec<Judged>> {
        let _no_grad = tch::no_grad_guard();
        let mut by_generation: BTreeMap<u64, Vec<(usize, Work)>> = BTreeMap::new();
        for (i, request) in requests.iter().enumerate() {
            let work = self.plan(request)?;
            by_generation.entry(work.parent.generation).or_default().push((i, work));
        }
        let mut judged = vec![None; requests.len()];
        for (generation, members) in by_generation {
            let (places, work): (Vec<usize>, Vec<Work>) = members.into_iter().unzip();
            for (place, result) in places.into_iter().zip(self.score_generation(generation, work)?) {
                judged[place] = Some(result);
            }
        }
        Ok(judged.into_iter().flatten().collect())
    }

    fn retain(&mut self, live: &[Node]) {
        self.nodes.retain(|node, _| live.contains(node));
        let used: Vec<u64> = self.nodes.values().map(|state| state.generation).collect();
        self.generations.retain(|generation, _| used.contains(generation));
    }

    fn scored_tokens(&self) -> u64 {
        self.scored
    }
}

/// Where there is no guide pair: every response is worth 0, so only methods that compare nothing may use it.
#[derive(Debug, Default)]
pub struct NoGuide;

impl Scorer for NoGuide {
    fn open(&mut self, _prompt: &str) -> Result<Node> {
        Ok(Node(0))
    }

    fn score(&mut self, requests: &[Judge]) -> Result<Vec<Judged>> {
        Ok(requests.iter().map(|_| Judged { node: Node(0), score: 0.0 }).collect())
    }

    fn retain(&mut self, _live: &[Node]) {}

    fn scored_tokens(&self) -> u64 {
        0
    }
}
