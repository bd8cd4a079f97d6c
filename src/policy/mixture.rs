//! The models that a policy samples from together: a base, and guides whose logits are added to its
//! own,
//!
//! log p(y_t | x, y_<t) = log π_base + Σ_m weight_m · log π_m + const,
//!
//! which is emulated fine-tuning (EFT, §5 of arXiv 2405.19262) where the guides are a pair with the
//! weights w and −w. The softmax takes out what is the same for all tokens of a row, so logits are
//! added as they are.

use std::rc::Rc;

use tch::{Kind, Tensor};

use super::draw::{Distribution, distributions};
use crate::error::Result;
use crate::models::{KvCache, Lm, Segment};
use crate::prompt::PromptText;
use crate::text::{PromptTemplate, Tokenizer};

/// A model, what it reads before the response, and the weight of its logits.
pub struct Member {
    pub lm: Rc<Lm>,
    pub template: PromptTemplate,
    pub weight: f64,
}

/// All members have one vocabulary. The first is the base; its weight is 1.
pub(super) struct Mixture {
    members: Vec<Member>,
}

/// The rows of one prompt, in each member's cache.
pub(super) struct Caches(Vec<Segment>);

/// Hidden states of some rows, (rows, hidden_size) for each member.
pub(super) struct Hidden(Vec<Tensor>);

impl Mixture {
    pub fn new(base: Member, guides: Vec<Member>) -> Self {
        let mut mixture = Self { members: vec![base] };
        mixture.add(guides);
        mixture
    }

    /// A guide of weight 0 changes nothing and is left out.
    pub fn add(&mut self, guides: Vec<Member>) {
        self.members.extend(guides.into_iter().filter(|guide| guide.weight != 0.0));
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }

    pub fn base(&self) -> &Member {
        &self.members[0]
    }

    /// For each prompt, caches that have it as their shared prefix, and the state after it.
    pub fn read_prompts(
        &self,
        tokenizer: &Tokenizer,
        prompts: &[&PromptText],
    ) -> Result<Vec<(Caches, Hidden)>> {
        let mut read: Vec<(Caches, Hidden)> =
            prompts.iter().map(|_| (Caches(Vec::new()), Hidden(Vec::new()))).collect();
        for member in &self.members {
            let opened = member.lm.model.read_prompts(&member.encode(tokenizer, prompts)?);
            for ((caches, hidden), (segment, last)) in read.iter_mut().zip(opened) {
                caches.0.push(segment);
                hidden.0.push(last);
            }
        }
        Ok(read)
    }

    /// All prompts as rows that share nothing; see
    /// [`crate::models::CausalLm::read_prompts_as_rows`].
    pub fn read_prompts_as_rows(
        &self,
        tokenizer: &Tokenizer,
        prompts: &[&PromptText],
    ) -> Result<(Caches, Hidden)> {
        let (mut caches, mut hidden) = (Caches(Vec::new()), Hidden(Vec::new()));
        for member in &self.members {
            let (segment, last) =
                member.lm.model.read_prompts_as_rows(&member.encode(tokenizer, prompts)?);
            caches.0.push(segment);
            hidden.0.push(last);
        }
        Ok((caches, hidden))
    }

    /// Feeds one token to each row of all caches.
    pub fn step(&self, mut caches: Vec<&mut Caches>, tokens: &[i64]) -> Hidden {
        let ids = Tensor::from_slice(tokens).unsqueeze(1);
        let read = self.members.iter().enumerate().map(|(m, member)| {
            let segments = caches.iter_mut().map(|caches| &mut caches.0[m]).collect();
            member.lm.model.read(&ids, KvCache::new(segments, vec![1; tokens.len()])).squeeze_dim(1)
        });
        Hidden(read.collect())
    }

    /// What the next token of each row is drawn from: its `needed` likeliest, or all.
    pub fn distributions(
        &self,
        hidden: &Hidden,
        needed: Option<usize>,
    ) -> Result<Vec<Distribution>> {
        let base = self.base().lm.model.logits(&hidden.0[0]);
        if self.members.len() == 1 {
            return distributions(&base, None, needed);
        }
        // Equal vocabularies may lie in embeddings that are padded differently; what is beyond the
        // shortest has no token.
        let width =
            self.members.iter().map(|member| member.lm.model.info().vocab_size).min().unwrap_or(0);
        let on_base = |logits: &Tensor| {
            logits.narrow(1, 0, width).to_device(base.device()).to_kind(Kind::Float)
        };
        let guides = self.members[1..].iter().zip(&hidden.0[1..]);
        // Sums are new tensors: the base's own logits are told too.
        let mixed = guides.fold(on_base(&base), |sum, (guide, hidden)| {
            sum + on_base(&guide.lm.model.logits(hidden)) * guide.weight
        });
        distributions(&mixed, Some(&base.narrow(1, 0, width)), needed)
    }
}

impl Member {
    fn encode(&self, tokenizer: &Tokenizer, prompts: &[&PromptText]) -> Result<Vec<Vec<i64>>> {
        prompts.iter().map(|prompt| self.template.encode(tokenizer, prompt)).collect()
    }
}

impl Caches {
    pub fn select(&self, rows: &[usize]) -> Self {
        Self(self.0.iter().map(|segment| segment.select(rows)).collect())
    }
}

impl Hidden {
    /// `rows` of them from row `first` on.
    pub fn narrow(&self, first: usize, rows: usize) -> Self {
        Self(self.0.iter().map(|hidden| hidden.narrow(0, first as i64, rows as i64)).collect())
    }

    pub fn select(&self, rows: &[usize]) -> Self {
        let rows = Tensor::from_slice(&rows.iter().map(|&row| row as i64).collect::<Vec<_>>());
        Self(
            self.0
                .iter()
                .map(|hidden| hidden.index_select(0, &rows.to_device(hidden.device())))
                .collect(),
        )
    }

    /// The rows of all, one after the other; none must be empty.
    pub fn cat(all: &[Self]) -> Self {
        let members = all.first().map_or(0, |hidden| hidden.0.len());
        Self(
            (0..members)
                .map(|m| Tensor::cat(&all.iter().map(|hidden| &hidden.0[m]).collect::<Vec<_>>(), 0))
                .collect(),
        )
    }
}
