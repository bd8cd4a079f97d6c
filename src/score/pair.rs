//! The guide pair's implicit reward (Eq. 5a, 6 of arXiv 2405.19262), computed incrementally:
//!
//! score(x, y') = Σ_t log π*(y_t | x, y_<t) − log π_ref(y_t | x, y_<t), with the guide's EOS token
//! as the last y_t of a response that ends, once: end tokens of the guide's that already end it are
//! that one.
//!
//! A chunk goes through both guides in one forward pass on their KV caches. Where base and guides
//! share one vocabulary the base's ids pass straight through; otherwise the response text is
//! tokenized anew, the longest common token prefix with the parent is kept, and only the tail is
//! computed.
//!
//! Where a response is longer than the guides' context, they read the tokens that fit: its
//! score is the sum over these, and the end, with its EOS, earns nothing. The same holds for the
//! rewards of PPO.

mod to_read;
mod weighing;

use std::rc::Rc;

use tch::Tensor;

use self::to_read::{ToRead, cached};
use super::guide_ids::{GuideIds, Readable};
use super::guide_pair::GuidePair;
use super::logps::frozen_target_logps;
use super::new_states::NewStates;
use crate::error::{Error, Result};
use crate::models::{Lm, Segment};
use crate::prompt::PromptText;
use crate::search::{Group, Kept, NextScores, Node, Nodes, Response, Scored, Scorer, ToScore};

/// The scorer of one guide pair.
pub struct PairScorer {
    pair: Rc<GuidePair>,
    reads: GuideIds,
    /// Which ids are tokens, once next tokens were weighed.
    is_token: Option<Vec<bool>>,
    nodes: Nodes<Batch, ReadResponse>,
}

/// What one `score` call left for the rows of one prompt.
struct Batch {
    prompt: Rc<ReadPrompt>,
    models: [ModelState; 2],
}

/// One guide's cache, and its hidden state after the last token of each row, (rows, hidden_size).
struct ModelState {
    segment: Segment,
    last: Tensor,
}

/// Hidden states after the prompt, (1, hidden_size) for each guide, and its length in tokens.
struct ReadPrompt {
    length: i64,
    /// Whether it is empty, so that responses begin the text.
    is_empty: bool,
    after: [Tensor; 2],
}

/// What was read of a response.
#[derive(Clone, Default)]
struct ReadResponse {
    ids: Vec<i64>,
    /// Log-ratio of each id.
    ratios: Vec<f32>,
    /// That of the EOS of a response that ends.
    eos: Option<f32>,
    /// Those of all next tokens, where they were asked for.
    next: Option<Rc<[f32]>>,
}

/// A response that was scored, and the log-ratios of all next tokens where they were asked for.
type Read = (Scored, Option<Rc<[f32]>>);

impl PairScorer {
    pub fn new(pair: Rc<GuidePair>, same_vocabulary: bool) -> Result<Self> {
        pair.warn_if_same();
        let reads = GuideIds::of_pair(&pair, same_vocabulary)?;
        Ok(Self { pair, reads, is_token: None, nodes: Nodes::default() })
    }

    /// log π* − log π_ref of each guide token of a response that the guides can read, with the EOS
    /// last where it `ends` within their context, by full forward passes without any cache.
    pub fn token_rewards_in_full(
        &self,
        prompt: &PromptText,
        response: &Response,
        ends: bool,
    ) -> Result<Vec<f32>> {
        let mut ids = self.reads.prompt(prompt)?;
        let prompt_len = ids.len();
        let begins = self.reads.is_empty(prompt)?;
        let readable = self.reads.readable(prompt_len, response, begins, ends)?;
        ids.extend(readable.ids);
        if readable.ends {
            ids.push(self.reads.ends[0]);
        }
        if ids.len() == prompt_len {
            return Ok(Vec::new());
        }
        let tuned = super::response_logps(&self.pair.tuned.model, &ids, prompt_len)?;
        let untuned = super::response_logps(&self.pair.untuned.model, &ids, prompt_len)?;
        Ok(tuned.iter().zip(&untuned).map(|(tuned, untuned)| tuned - untuned).collect())
    }

    /// The guide's ids of what was read of the response that a live node stands for, without its
    /// EOS.
    pub fn token_ids(&self, node: &Node) -> &[i64] {
        self.nodes.get(node).map_or(&[], |kept| &kept.row.ids)
    }

    fn models(&self) -> [&Lm; 2] {
        [&self.pair.tuned, &self.pair.untuned]
    }

    /// What the guides must read for `request`, beyond what they know from its parent.
    fn to_read(&self, request: &ToScore) -> Result<ToRead> {
        let Kept { batch, place, row: parent } =
            self.nodes.get(&request.parent).ok_or_else(pruned)?;
        let prompt = &batch.prompt;
        let Readable { ids, ends, is_cut } = self.reads.readable(
            prompt.length as usize,
            &request.response,
            prompt.is_empty,
            request.ends,
        )?;
        let known = parent.ids.iter().zip(&ids).take_while(|(a, b)| a == b).count();
        // The hidden state that predicts the first new token is at hand after the whole parent and
        // after the prompt; elsewhere the last common token is fed once more.
        let cached = if known == parent.ids.len() { known } else { known.saturating_sub(1) };
        let mut ratios = parent.ratios[..known].to_vec();
        // Behind a whole parent the first new token may be known, too.
        let next = parent.next.as_ref().filter(|_| known == parent.ids.len());
        let told = |id: i64| next.and_then(|next| next.get(usize::try_from(id).ok()?)).copied();
        let is_said = known == ids.len();
        ratios.extend(ids.get(known).and_then(|id| told(*id)));
        let eos = told(self.reads.ends[0]).filter(|_| ends && is_said);
        let parent = request.parent.clone();
        Ok(ToRead { parent, place, ratios, ids, ends, eos, is_cut, cached })
    }

    /// One guide's forward pass over all that is new, the `work` of each group's requests in their
    /// order: the log-probabilities of the unknown tokens, row by row with each row's EOS last, and
    /// the guide's new state of each group.
    fn read_new(
        &self,
        which: usize,
        groups: &[Group<Batch>],
        work: &[ToRead],
    ) -> Result<(Vec<f32>, Vec<ModelState>)> {
        let lm = self.models()[which];
        // 1. What is cached already, and the state behind it.
        let (mut segments, carried) = cached(which, groups, work);
        // 2. What is fed.
        let fed: Vec<&[i64]> = work.iter().map(ToRead::fed).collect();
        let states = NewStates::read(lm, &mut segments, &carried, &fed)?;
        // 3. What is scored of it, and where each row ends.
        let logps = self.unknown_logps(lm, &states, work)?;
        let ends = work.iter().enumerate().map(|(row, of)| states.place(row, of.fed().len()));
        let last = states.select(&ends.collect::<Vec<_>>());
        let mut first = 0;
        let settled = segments.into_iter().map(|segment| {
            let rows = segment.rows() as i64;
            first += rows;
            ModelState { segment, last: last.narrow(0, first - rows, rows).copy() }
        });
        Ok((logps, settled.collect()))
    }

    /// The log-probabilities of the tokens that the parents do not know, row by row with each row's
    /// EOS last.
    fn unknown_logps(&self, lm: &Lm, states: &NewStates, work: &[ToRead]) -> Result<Vec<f32>> {
        let (mut places, mut targets) = (Vec::new(), Vec::new());
        for (r, row) in work.iter().enumerate() {
            let end = row.asks_for_end().then_some(self.reads.ends[0]);
            let unknown = row.ids[row.known()..].iter().copied().chain(end);
            for (j, id) in unknown.enumerate() {
                places.push(states.place(r, row.known() - row.cached + j));
                targets.push(id);
            }
        }
        if targets.is_empty() {
            return Ok(Vec::new());
        }
        let targets = Tensor::from_slice(&targets).to_device(states.flat.device());
        frozen_target_logps(&lm.model, &states.select(&places), &targets)
    }
}

impl Scorer for PairScorer {
    fn open(&mut self, prompts: &[&PromptText]) -> Result<Vec<Node>> {
        let ids = self.reads.prompts(prompts)?;
        let [tuned, untuned] = self.models().map(|lm| lm.model.read_prompts(&ids));
        let mut nodes = Vec::with_capacity(prompts.len());
        for (((tuned, untuned), ids), text) in tuned.into_iter().zip(untuned).zip(&ids).zip(prompts)
        {
            let after = [tuned.1.shallow_clone(), untuned.1.shallow_clone()];
            let models = [tuned, untuned].map(|(segment, last)| ModelState { segment, last });
            let prompt = ReadPrompt {
                length: ids.len() as i64,
                is_empty: self.reads.is_empty(text)?,
                after,
            };
            nodes.extend(
                self.nodes
                    .open(Batch { prompt: Rc::new(prompt), models }, [ReadResponse::default()]),
            );
        }
        Ok(nodes)
    }

    fn score(&mut self, requests: &[ToScore]) -> Result<Vec<Scored>> {
        let _no_grad = tch::no_grad_guard();
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let read = self.read(requests, false)?;
        Ok(read.into_iter().map(|(scored, _)| scored).collect())
    }

    fn token_rewards(&self, node: &Node) -> Vec<f32> {
        self.nodes
            .get(node)
            .map(|kept| kept.row.ratios.iter().copied().chain(kept.row.eos).collect())
            .unwrap_or_default()
    }

    fn retain(&mut self, root: &Node, live: &[Node]) {
        self.nodes.retain(root, live);
    }

    fn next_scores(&mut self) -> Option<&mut dyn NextScores> {
        Some(self)
    }
}

impl PairScorer {
    /// Scores responses; where it is `weighing`, with the log-ratios of all tokens behind each.
    fn read(&mut self, requests: &[ToScore], weighing: bool) -> Result<Vec<Read>> {
        let groups =
            self.nodes.groups(requests.iter().map(|request| &request.parent)).ok_or_else(pruned)?;
        let order: Vec<usize> = groups
            .iter()
            .flat_map(|group| group.requests.iter().map(|(number, _)| *number))
            .collect();
        let work = order
            .iter()
            .map(|&number| self.to_read(&requests[number]))
            .collect::<Result<Vec<ToRead>>>()?;
        let (tuned, tuned_states) = self.read_new(0, &groups, &work)?;
        let (untuned, untuned_states) = self.read_new(1, &groups, &work)?;
        let mut next = match weighing {
            true => self.next_ratios(&tuned_states, &untuned_states)?.into_iter(),
            false => Vec::new().into_iter(),
        };
        let mut new_ratios = tuned.iter().zip(&untuned).map(|(tuned, untuned)| tuned - untuned);
        let mut work = order.into_iter().zip(work);
        let mut scored: Vec<Option<Read>> = vec![None; requests.len()];
        for ((Group { batch, requests, .. }, tuned), untuned) in
            groups.into_iter().zip(tuned_states).zip(untuned_states)
        {
            let mut rows = Vec::with_capacity(requests.len());
            for (place, (number, work)) in work.by_ref().take(requests.len()).enumerate() {
                let (fed, unknown) = (work.fed().len() as u64, work.ids.len() - work.known());
                let asks_for_end = work.asks_for_end();
                let ToRead { parent, mut ratios, ids, eos, is_cut, .. } = work;
                ratios.extend(new_ratios.by_ref().take(unknown));
                let eos = if asks_for_end { new_ratios.next() } else { eos };
                let score = ratios.iter().sum::<f32>() + eos.unwrap_or(0.0);
                let node = self.nodes.child(&parent).ok_or_else(pruned)?;
                let next: Option<Rc<[f32]>> = next.next().map(Rc::from);
                let one = Scored { node: node.clone(), score, fed, is_cut };
                scored[number] = Some((one, next.clone()));
                rows.push((node, place, ReadResponse { ids, ratios, eos, next }));
            }
            self.nodes
                .insert(Batch { prompt: batch.prompt.clone(), models: [tuned, untuned] }, rows);
        }
        Ok(scored.into_iter().flatten().collect())
    }
}

fn pruned() -> Error {
    Error::failed("the parent of a response to score was pruned")
}
