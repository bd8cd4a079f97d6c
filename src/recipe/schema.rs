//! What a recipe file may say: one struct a table, one enum where there are alternatives, a default for all that has one.
//!
//! Unknown keys are errors. What values mean together (does the model exist, does the budget fit the context) is `validate`'s business;
//! paths and per-stage defaults are settled by [`super::Plan`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{RewardModelTable, Steer};
use crate::losses::PreferenceLoss;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    pub run: Run,
    pub data: Data,
    #[serde(default)]
    pub models: BTreeMap<String, Model>,
    pub pretrain: Option<Pretrain>,
    pub gold: Option<Gold>,
    pub preferences: Option<Preferences>,
    pub sft: Option<Sft>,
    pub reward_model: Option<RewardModelTable>,
    pub dpo: Option<Dpo>,
    pub direct: Option<Direct>,
    pub steer: Option<Steer>,
    pub evaluate: Option<Evaluate>,
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
    /// Of weights at inference, and of the forward and backward passes of SFT and DPO, whose master weights are f32.
    #[serde(default)]
    pub dtype: Dtype,
    /// CPU threads; all cores by default.
    pub threads: Option<usize>,
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
    /// `builtin:reviews`, a file (`.jsonl[.gz]`, `.json`, `.csv`, `.parquet`), a folder with such files for each split, or a hub data set.
    pub source: String,
    /// A folder below `source`, where that holds several data sets.
    pub subset: Option<String>,
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
    /// Whether the model's BOS token stands before the prompt, in training and in search alike; see [`Model::has_bos`].
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

/// Optimisation of one stage; what is left out takes the stage's default (`recipes/README.md`). Keys that came later are not serialized where they
/// are absent, so that fingerprints of what was done before stay what they are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingTable {
    /// Optimiser steps; instead of `epochs`.
    pub steps: Option<usize>,
    pub epochs: Option<f64>,
    /// Examples per optimiser step.
    pub batch_size: Option<usize>,
    /// Examples per forward pass; must divide `batch_size`.
    pub micro_batch_size: Option<usize>,
    pub learning_rate: Option<f64>,
    pub schedule: Option<Schedule>,
    pub warmup_ratio: Option<f64>,
    pub weight_decay: Option<f64>,
    pub max_grad_norm: Option<f64>,
    /// Whether activations are computed again on the way back instead of being kept: less memory, a third more arithmetic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation_checkpointing: Option<bool>,
    /// Tokens of one example (prompt and response).
    pub max_length: Option<usize>,
    /// Steps between validations; the best of them is kept.
    pub eval_every: Option<usize>,
    /// Steps between checkpoints that a killed run continues from.
    pub checkpoint_every: Option<usize>,
    /// Checkpoints that stay, the newest included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_checkpoints: Option<usize>,
    /// What all checkpoints of a stage may take together, in GiB; the newest always stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoints_gib: Option<f64>,
    /// Validations without a new best after which training ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stop: Option<usize>,
    /// A step's loss above this many times the median of those before it is a spike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spike_factor: Option<f64>,
    /// Batches with a spike, or with a loss that is no number, that are skipped before training stops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_skips: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    Cosine,
    Linear,
    Constant,
}

/// Low-rank adaptation (arXiv 2106.09685) instead of training every weight; `{}` takes every default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraTable {
    /// Rows of A and columns of B.
    pub rank: Option<u64>,
    /// The update is scaled by `alpha / rank`.
    pub alpha: Option<f64>,
    /// Names of linear layers, or the last parts of them.
    pub targets: Option<Vec<String>>,
    #[serde(default)]
    pub save: LoraSave,
}

/// `merged`: a whole model folder; `adapter`: A and B alone, as a PEFT adapter folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoraSave {
    #[default]
    Merged,
    Adapter,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pretrain {
    #[serde(default)]
    pub training: TrainingTable,
}

/// Either `id` (a sequence classifier or a reward model, as a folder or a hub id) or `scratch`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gold {
    pub id: Option<String>,
    pub scratch: Option<GoldScratch>,
    /// What the judge reads, with `{prompt}` and `{response}`; by default the layout that its kind was trained with.
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

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preferences {
    /// The model whose samples are judged: the untuned guide.
    pub policy: String,
    /// Prompts from the training split, and from the validation split.
    pub prompts: usize,
    pub validation_prompts: usize,
    /// Even; samples (1, 2), (3, 4), … of a prompt make its pairs.
    #[serde(default = "two")]
    pub samples_per_prompt: usize,
    #[serde(default)]
    pub label: PreferenceLabel,
    #[serde(default)]
    pub sampling: SamplingTable,
    pub max_new_tokens: usize,
}

/// `drawn`: chosen with probability σ(r1 − r2) (Bradley–Terry); `argmax`: the higher reward.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreferenceLabel {
    #[default]
    Drawn,
    Argmax,
}

/// Applied in this order: temperature (0 is greedy), top-k (0 is off), top-p (1 is off).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingTable {
    pub temperature: f64,
    pub top_k: usize,
    pub top_p: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sft {
    /// A model of the recipe; `preferences.policy` by default.
    pub model: Option<String>,
    /// Also of the SFT in `[direct]`.
    #[serde(default)]
    pub on: LossOn,
    #[serde(default)]
    pub training: TrainingTable,
    pub lora: Option<LoraTable>,
}

/// Which tokens SFT learns to predict: those of the response, or those of the prompt too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossOn {
    #[default]
    Response,
    All,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dpo {
    #[serde(default)]
    pub loss: PreferenceLoss,
    #[serde(default = "default_beta")]
    pub beta: f64,
    /// Of the loss `sigmoid`.
    #[serde(default)]
    pub label_smoothing: f64,
    #[serde(default)]
    pub training: TrainingTable,
    pub lora: Option<LoraTable>,
}

/// SFT and DPO of the bases themselves on the same pairs: what search is compared with. What is left out is as the guide's tuning has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Direct {
    /// Models of the recipe; `steer.bases` by default.
    pub models: Option<Vec<String>>,
    pub loss: Option<PreferenceLoss>,
    pub beta: Option<f64>,
    pub label_smoothing: Option<f64>,
    /// Its presence asks for SFT before DPO, as that of `[sft]` does.
    pub sft: Option<TrainingTable>,
    #[serde(default)]
    pub dpo: TrainingTable,
    /// Of both SFT and DPO; the guide's is not taken over.
    pub lora: Option<LoraTable>,
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
        match self.models.get(model).and_then(|model| model.scratch.as_ref()).map(|scratch| &scratch.tokenizer) {
            Some(ScratchTokenizer::SameAs { model: owner }) => owner,
            _ => model,
        }
    }

    /// The model that `[sft]` tunes, or `[dpo]` where there is no `[sft]`; also the architecture of both guides that result.
    pub fn guide_model(&self) -> Option<&str> {
        let policy = self.preferences.as_ref().map(|preferences| preferences.policy.as_str());
        self.sft.as_ref().and_then(|sft| sft.model.as_deref()).or(policy)
    }

    /// Of all SFT in the recipe.
    pub fn sft_on(&self) -> LossOn {
        self.sft.as_ref().map(|sft| sft.on).unwrap_or_default()
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
fn two() -> usize {
    2
}
pub(super) fn default_beta() -> f64 {
    0.1
}
