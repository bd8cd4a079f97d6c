//! What a recipe file may say: one struct a table, one enum where there are alternatives, a default
//! for all that has one.
//!
//! Unknown keys are errors. What values mean together (does the model exist, does the budget fit
//! the context) is `validate`'s business; paths and per-stage defaults are settled by
//! [`super::Plan`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::preference_tables::Preferences;
use super::stage::{self, StageTable};
use super::tuning_tables::{Direct, Dpo, LossOn, Pretrain, Sft, TrainingTable};
use super::{DataSplits, JudgeTable, PpoTable, RewardModelTable, Steer};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    pub run: Run,
    pub data: Data,
    #[serde(default)]
    pub models: BTreeMap<String, Model>,
    pub pretrain: Option<Pretrain>,
    pub gold: Option<Gold>,
    /// Judges beside `[gold]`, asked by evaluation alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub judges: BTreeMap<String, JudgeTable>,
    pub preferences: Option<Preferences>,
    pub sft: Option<Sft>,
    pub reward_model: Option<RewardModelTable>,
    pub dpo: Option<Dpo>,
    pub direct: Option<Direct>,
    pub ppo: Option<PpoTable>,
    pub steer: Option<Steer>,
    pub evaluate: Option<Evaluate>,
}

stage::stages! {
    Pretrain(pretrain),
    Gold(gold),
    Preferences(preferences),
    Sft(sft),
    RewardModel(reward_model),
    Dpo(dpo),
    Direct(direct),
    Ppo(ppo),
    Steer(steer),
    Evaluate(evaluate),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Names the run directory below `checkpoints/`.
    pub name: String,
    /// The first seed drives data, training and preferences; steering is repeated for each.
    #[serde(default = "one_seed")]
    pub seeds: Vec<u64>,
    /// `cpu`, `cuda` or `cuda:N`.
    #[serde(default = "cpu")]
    pub device: String,
    /// Of weights at inference, and of the forward and backward passes of SFT and DPO, whose master
    /// weights are f32.
    #[serde(default)]
    pub dtype: Dtype,
    /// CPU threads; by default one for each core that the process may use, within its CPU quota.
    /// `OMP_NUM_THREADS` wins.
    pub threads: Option<usize>,
}

/// The device that a word of a recipe names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceName {
    Cpu,
    Cuda(usize),
}

impl DeviceName {
    /// `cpu`, `cuda` or `cuda:N`.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "cpu" => Some(Self::Cpu),
            "cuda" => Some(Self::Cuda(0)),
            other => {
                let index = other
                    .strip_prefix("cuda:")
                    .filter(|index| index.bytes().all(|byte| byte.is_ascii_digit()))?;
                Some(Self::Cuda(index.parse().ok()?))
            }
        }
    }
}

/// `auto` is bf16 where the processor multiplies it natively, f32 elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    #[default]
    Auto,
    #[serde(alias = "f32")]
    Float32,
    #[serde(alias = "bf16")]
    Bfloat16,
    #[serde(alias = "f16")]
    Float16,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// `builtin:reviews`, a file (`.jsonl[.gz]`, `.json`, `.csv`, `.parquet`), a folder with such
    /// files for each split, or a hub data set.
    pub source: String,
    /// A folder below `source`, where that holds several data sets.
    pub subset: Option<String>,
    #[serde(default)]
    pub splits: DataSplits,
    #[serde(default)]
    pub columns: Columns,
    #[serde(default)]
    pub prompt: PromptRule,
    /// Rows of each split; 0 takes all there are (not for `builtin:`).
    pub train: usize,
    pub validation: usize,
    pub test: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Columns {
    pub text: String,
    pub label: String,
}

/// A prompt is the first words of a text; how many is drawn between the two bounds from the seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PromptRule {
    pub min_words: usize,
    pub max_words: usize,
}

/// Either `id` (a folder in Hugging Face layout or a hub id) or `scratch`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub id: Option<String>,
    pub scratch: Option<Scratch>,
    /// What the model reads before the response; `{prompt}` is the raw prompt.
    #[serde(default = "plain_prompt")]
    pub prompt: String,
    /// Where this model is put instead of `run.device`, for inference and training.
    pub device: Option<String>,
    /// Of its weights at inference, instead of `run.dtype`.
    pub dtype: Option<Dtype>,
    /// Whether the model's BOS token stands before the prompt, in training and in search alike;
    /// left out, what the tokenizer's own files put there does, or the chat template's.
    pub bos: Option<bool>,
    /// Makes the filled `prompt` the user's turn of the tokenizer's chat template.
    pub chat: Option<Chat>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chat {
    /// The system's turn; an empty one is said too, none is left out.
    pub system: Option<String>,
}

/// A GPT-2 to be pretrained on the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scratch {
    pub architecture: Architecture,
    pub n_layer: i64,
    pub n_head: i64,
    pub n_embd: i64,
    #[serde(default = "default_positions")]
    pub n_positions: i64,
    pub tokenizer: ScratchTokenizer,
    /// Optimiser steps for this model instead of `pretrain.training.steps`.
    pub steps: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    Gpt2,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScratchTokenizer {
    /// Byte-level BPE trained on the training texts.
    Bpe { vocab_size: usize },
    /// The tokenizer of another scratch model.
    SameAs { model: String },
}

/// Either `id` (a sequence classifier or a reward model, as a folder or a hub id) or `scratch`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gold {
    pub id: Option<String>,
    pub scratch: Option<GoldScratch>,
    /// What the judge reads, with `{prompt}` and `{response}`; by default the layout that its kind
    /// was trained with.
    pub text: Option<String>,
    /// Instead of `run.device`.
    pub device: Option<String>,
    /// Of a reward model's weights, instead of `run.dtype`; classifiers are always f32.
    pub dtype: Option<Dtype>,
    #[serde(default)]
    pub training: TrainingTable,
}

/// A DistilBERT classifier with its own WordPiece vocabulary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldScratch {
    pub n_layers: i64,
    pub n_heads: i64,
    pub dim: i64,
    pub hidden_dim: i64,
    #[serde(default = "default_positions")]
    pub max_position_embeddings: i64,
    pub vocab_size: usize,
}

/// Applied in this order: temperature (0 is greedy), top-k (0 is off), top-p (1 is off).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingTable {
    pub temperature: f64,
    pub top_k: usize,
    pub top_p: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Evaluate {
    /// Sample responses of each method shown in `report.html`.
    pub examples: usize,
}

impl Default for Columns {
    fn default() -> Self {
        Self { text: "text".into(), label: "label".into() }
    }
}

impl Default for PromptRule {
    fn default() -> Self {
        Self { min_words: 4, max_words: 8 }
    }
}

impl Default for SamplingTable {
    fn default() -> Self {
        Self { temperature: 0.7, top_k: 50, top_p: 1.0 }
    }
}

impl Default for Evaluate {
    fn default() -> Self {
        Self { examples: 3 }
    }
}

impl Recipe {
    /// The model whose tokenizer `model` uses: itself, or the one named by `same_as`.
    pub fn tokenizer_owner<'a>(&'a self, model: &'a str) -> &'a str {
        match self
            .models
            .get(model)
            .and_then(|model| model.scratch.as_ref())
            .map(|scratch| &scratch.tokenizer)
        {
            Some(ScratchTokenizer::SameAs { model: owner }) => owner,
            _ => model,
        }
    }

    /// The model that `[sft]` tunes, or `[dpo]` where there is no `[sft]`; also the architecture of
    /// both guides that result.
    pub fn guide_model(&self) -> Option<&str> {
        let policy =
            self.preferences.as_ref().and_then(|preferences| preferences.policy.as_deref());
        self.sft.as_ref().and_then(|sft| sft.model.as_deref()).or(policy)
    }

    /// Of all SFT in the recipe.
    pub fn sft_on(&self) -> LossOn {
        self.sft.as_ref().map(|Sft { model: _, on, training: _, lora: _ }| *on).unwrap_or_default()
    }

    /// The models that `[direct]` tunes.
    pub fn direct_models(&self) -> &[String] {
        let bases = self.steer.as_ref().map_or(&[][..], |steer| &steer.bases);
        self.direct.as_ref().map_or(&[], |direct| direct.models.as_deref().unwrap_or(bases))
    }
}

fn one_seed() -> Vec<u64> {
    vec![1]
}
fn cpu() -> String {
    "cpu".into()
}
fn plain_prompt() -> String {
    "{prompt}".into()
}
fn default_positions() -> i64 {
    128
}
