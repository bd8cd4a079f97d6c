//! The plan: a valid recipe with absolute paths, its stages in order, every stage's optimisation
//! settled, and the sizes of its models. Making one is left to `planning`.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::guide_pairs::{
    GuidePairSource, GuideSet, GuideSource, guide_pairs, guide_sets, ppo_pair, reference, untuned,
};
use super::reading::guide_tokens;
use super::sizes::{ClassifierSizes, LmSizes};
use super::tables::{Recipe, Stage, Training};
use crate::losses::DpoObjective;

/// What a run will do; written as `plan.json`. The same recipe gives the same plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub recipe: Recipe,
    /// Where the recipe lies, and its programs are started.
    #[serde(default)]
    pub folder: PathBuf,
    pub stages: Vec<Stage>,
    pub training: StageTraining,
    /// The sizes of every model of the recipe.
    pub models: BTreeMap<String, LmSizes>,
    pub gold: Option<ClassifierSizes>,
    /// The sizes of every judge beside it.
    pub judges: BTreeMap<String, ClassifierSizes>,
    #[serde(skip)]
    pub counts: Counts,
}

/// The settled optimisation of each stage that trains something.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StageTraining {
    /// That of each model made from scratch.
    pub pretrain: BTreeMap<String, Training>,
    pub gold: Option<Training>,
    pub sft: Option<Training>,
    pub reward_model: Option<Training>,
    /// One, or one for each setting of `dpo.sweep`.
    pub dpo: Vec<GuideTraining>,
    /// That of each model that `[direct]` tunes.
    pub direct: BTreeMap<String, DirectTraining>,
    /// That of each policy.
    pub ppo: BTreeMap<String, Training>,
}

impl StageTraining {
    /// That of `[dpo]`, of several the first.
    pub fn first_dpo(&self) -> Option<&Training> {
        self.dpo.first().map(|dpo| &dpo.training)
    }
}

/// How `[dpo]` tunes the guide.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuideTraining {
    /// The setting of `dpo.sweep`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setting: Option<String>,
    pub objective: DpoObjective,
    pub training: Training,
}

/// How one model is tuned directly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DirectTraining {
    pub sft: Option<Training>,
    pub objective: DpoObjective,
    pub dpo: Training,
}

/// How much there is to train on, where only the data themselves tell and have been read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Training texts of `[data]`.
    pub texts: Option<usize>,
    /// Training pairs of `preferences.source`.
    pub pairs: Option<usize>,
    /// Training pairs of `gold.reward_model`.
    pub gold_pairs: Option<usize>,
}

/// What a guide can read of responses, in its tokens.
struct GuideRoom {
    /// Tokens of the longest prompt.
    prompt: usize,
    /// What the guide's context has behind it.
    room: usize,
    /// Tokens of a response.
    expected: usize,
}

impl Plan {
    /// Texts to train on; `None` where only the source knows.
    pub(super) fn texts(&self) -> Option<usize> {
        let train = self.recipe.data.as_ref().and_then(|data| data.train);
        self.counts.texts.or(train.filter(|rows| *rows > 0))
    }

    /// Pairs to train on, before equal, empty, tied and overlong ones drop out; `None` where only
    /// the source knows.
    pub(super) fn pairs(&self) -> Option<usize> {
        let preferences = self.recipe.preferences.as_ref()?;
        let asked = Some(preferences.train_pairs).filter(|pairs| *pairs > 0);
        match preferences.source {
            Some(_) => self.counts.pairs.or(asked),
            None => Some(preferences.prompts.saturating_mul(preferences.pairs_per_prompt())),
        }
    }

    /// Pairs that the gold reward model is trained on, before equal, empty and overlong ones drop
    /// out; `None` where only the source knows.
    pub(super) fn gold_pairs(&self) -> Option<usize> {
        let asked = self.recipe.gold_reward_model()?.train_pairs;
        self.counts.gold_pairs.or(Some(asked).filter(|pairs| *pairs > 0))
    }

    pub fn has(&self, stage: Stage) -> bool {
        self.stages.contains(&stage)
    }

    /// All guide pairs that score together; empty without `[dpo]` and named guides. Of several sets
    /// of guides the first.
    pub fn guide_pairs(&self) -> Vec<GuidePairSource> {
        guide_pairs(&self.recipe)
    }

    /// The guides that methods run with: one set, or one for each setting of `dpo.sweep`.
    pub fn guide_sets(&self) -> Vec<GuideSet> {
        guide_sets(&self.recipe)
    }

    /// The recipe's model that a guide is or descends from.
    pub fn model_of<'a>(&'a self, source: &'a GuideSource) -> Option<&'a str> {
        self.recipe.model_of(source)
    }

    /// The pair that rewards in `[ppo]`.
    pub fn ppo_pair(&self) -> Option<GuidePairSource> {
        ppo_pair(&self.recipe)
    }

    /// The first pair's tuned guide π*; `None` without `[dpo]` and named guides.
    pub fn tuned(&self) -> Option<GuideSource> {
        self.guide_pairs().into_iter().next().map(|pair| pair.tuned)
    }

    /// The first pair's untuned guide π_ref; without a pair what would be one: [`Self::reference`].
    pub fn untuned(&self) -> Option<GuideSource> {
        untuned(&self.recipe)
    }

    /// What `[dpo]` starts from and keeps as its reference: the result of `[sft]`, or else
    /// `preferences.policy`.
    pub fn reference(&self) -> Option<GuideSource> {
        reference(&self.recipe)
    }

    /// A warning of a guide that may not read all of a response of these models.
    pub(super) fn short_guide(
        &self,
        key: &str,
        guide: &str,
        bases: &[&str],
        new_tokens: usize,
    ) -> Option<String> {
        let GuideRoom { prompt, room, expected } = self.guide_room(guide, bases, new_tokens)?;
        (room <= expected).then(|| {
            format!(
                "`{key}`: behind a prompt of up to {prompt} tokens `models.{guide}` reads {room}, \
                 and a response may take {expected} and an end token: of a longer one only the \
                 beginning is scored"
            )
        })
    }

    /// What a guide reads of responses in another vocabulary, where only a run knows how many
    /// tokens they become.
    pub(super) fn write_guide_room(
        &self,
        out: &mut String,
        guide: &str,
        bases: &[&str],
        new_tokens: usize,
    ) -> fmt::Result {
        let Some(GuideRoom { prompt, room, expected }) = self.guide_room(guide, bases, new_tokens)
        else {
            return Ok(());
        };
        if expected == new_tokens {
            return Ok(());
        }
        let each = room as f64 / new_tokens as f64;
        write!(out, "     {guide} reads {room} tokens behind a prompt of up to {prompt}, ")?;
        write!(out, "{each:.1} for each new token: ")?;
        writeln!(out, "of a response that takes more the beginning is scored")
    }

    /// `None` where the guide's sizes are not known, or prompts have no bound.
    fn guide_room(&self, guide: &str, bases: &[&str], new_tokens: usize) -> Option<GuideRoom> {
        let prompt = self.recipe.prompt_bound(guide).filter(|_| self.recipe.bounds_prompts())?;
        let room = (self.models.get(guide)?.context as usize).saturating_sub(prompt);
        let owner = self.recipe.tokenizer_owner(guide);
        let same = bases.iter().all(|base| self.recipe.tokenizer_owner(base) == owner);
        Some(GuideRoom { prompt, room, expected: guide_tokens(new_tokens, same) })
    }
}
