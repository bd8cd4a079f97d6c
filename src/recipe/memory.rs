//! How much memory each stage will need, with the arithmetic shown: an upper bound by sizes alone,
//! before any weights are read. What answering prompts takes of a model is `reading`, which the
//! engine plans with too; what a stage adds up stands with its table.
//!
//! Not counted: the program and libtorch themselves, data sets, and the allocator's slack.

use super::plan::Plan;
use super::reading::{ReaderSizes, Reading, SAMPLED_ROWS, guide_tokens};
use super::sizes::{ClassifierSizes, LmSizes};
use super::tables::{Dtype, GOLD, Training};
use super::words::product;
use crate::kernels::choice::is_large;

const FLOAT32: u64 = 4;
/// Bytes of logits that training holds at once, at most.
const MOST_LOGITS: u64 = 320 << 20;

/// The peak of one stage; where it handles several models one after the other, that of the largest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageMemory {
    /// The model it is about.
    pub model: String,
    pub parts: Vec<MemoryPart>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPart {
    pub name: &'static str,
    /// The product that gives `bytes`, in words and numbers.
    pub arithmetic: String,
    pub bytes: u64,
}

impl StageMemory {
    pub fn bytes(&self) -> u64 {
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(part.bytes))
    }

    /// The bytes of the parts that are there however short the texts are: weights, gradients,
    /// moments.
    pub fn least_bytes(&self) -> u64 {
        let fixed = self.parts.iter().filter(|part| !part.grows());
        fixed.fold(0, |sum, part| sum.saturating_add(part.bytes))
    }
}

impl MemoryPart {
    /// Whether it is smaller where texts are shorter.
    pub fn grows(&self) -> bool {
        ["activations", "cache", "logits"].iter().any(|name| self.name.ends_with(name))
    }
}

/// The largest of what a stage holds one after the other.
pub(super) fn largest(stages: impl Iterator<Item = StageMemory>) -> Option<StageMemory> {
    stages.max_by_key(StageMemory::bytes)
}

/// What judging takes: weights, and the widest activations of the texts that are judged together.
/// Classifiers are f32; which way a reward model's `auto` goes depends on the machine, so the wider
/// is counted.
pub(super) fn judge_parts(plan: &Plan, name: &str) -> Option<Vec<MemoryPart>> {
    let sizes = if name == GOLD { plan.gold.as_ref()? } else { plan.judges.get(name)? };
    let dtype = plan.recipe.judge(name).and_then(|judge| judge.dtype);
    let element = match (sizes.causal, dtype.unwrap_or(plan.recipe.run.dtype)) {
        (true, Dtype::Bfloat16 | Dtype::Float16) => 2,
        _ => FLOAT32,
    };
    let tokens = judged_tokens(plan).min(sizes.context);
    Some(vec![
        part("judge", &[("parameters", sizes.parameters), ("B", element)]),
        part(
            "judge activations",
            &[
                ("rows", SAMPLED_ROWS as u64),
                ("tokens", tokens),
                ("widths", 12),
                ("wide", sizes.dim),
                ("B", FLOAT32),
            ],
        ),
    ])
}

/// Tokens of the longest prompt and response as a judge reads them, whose vocabulary nobody knows
/// before it is opened.
fn judged_tokens(plan: &Plan) -> u64 {
    let recipe = &plan.recipe;
    if recipe.preferences.as_ref().is_some_and(|preferences| preferences.source.is_some()) {
        return u64::MAX;
    }
    let prompts = recipe.models.keys().filter_map(|model| recipe.prompt_bound(model));
    let sampled = recipe.preferences.as_ref().map(|preferences| preferences.max_new_tokens);
    let steered = recipe.steer.as_ref().map(|steer| steer.most_new_tokens(recipe));
    let rolled_out = recipe.ppo.as_ref().map(|ppo| ppo.max_new_tokens);
    let responses = [sampled, steered, rolled_out].into_iter().flatten();
    let longest = guide_tokens(responses.max().unwrap_or_default(), false);
    prompts.max().unwrap_or_default().saturating_add(longest) as u64
}

/// Tokens of the longest prompt as `model` reads it.
pub(super) fn prompt_tokens(plan: &Plan, model: &str) -> u64 {
    plan.recipe.prompt_bound(model).unwrap_or_default() as u64
}

/// The cache of `rows` that are sampled together and share no prompt.
pub(super) fn cache_apart(
    plan: &Plan,
    model: &str,
    rows: u64,
    new_tokens: usize,
) -> Option<MemoryPart> {
    let sizes = ReaderSizes::of(plan.models.get(model)?, weight_bytes(plan, model));
    let (prompt_tokens, new_tokens) = (prompt_tokens(plan, model), new_tokens as u64);
    let reading = Reading {
        sizes,
        prompt_tokens,
        new_tokens,
        rows,
        shares_prompt: false,
        chunk: 1,
        is_sampled: true,
    };
    Some(cache("KV cache", 1, &reading))
}

/// The same reading for so many prompts at once.
pub(super) fn cache(name: &'static str, prompts: u64, reading: &Reading) -> MemoryPart {
    let arithmetic = match prompts {
        1 => reading.arithmetic(),
        prompts => format!("{prompts} prompts × [{}]", reading.arithmetic()),
    };
    MemoryPart { name, arithmetic, bytes: product(&[prompts, reading.bytes()]) }
}

/// Weights for inference. Packed ones take the place of the plain, but for a head that is the
/// embedding, too.
pub(super) fn frozen(plan: &Plan, name: &'static str, model: &str) -> Option<MemoryPart> {
    frozen_in(plan, name, model, weight_bytes(plan, model))
}

/// The same with `element` bytes a weight.
pub(super) fn frozen_in(
    plan: &Plan,
    name: &'static str,
    model: &str,
    element: u64,
) -> Option<MemoryPart> {
    let sizes = plan.models.get(model)?;
    let [vocab, width] =
        [sizes.vocab_size, sizes.hidden_size].map(|size| i64::try_from(size).unwrap_or(i64::MAX));
    if sizes.tied && packs(plan, model, element) && is_large((vocab, width)) {
        let again = product(&[sizes.vocab_size, sizes.hidden_size]);
        let numbers = sizes.parameters.saturating_add(again);
        let what = "parameters and the head once more, packed";
        return Some(part(name, &[(what, numbers), ("B", element)]));
    }
    Some(part(name, &[("parameters", sizes.parameters), ("B", element)]))
}

/// Whether frozen weights of `model`, `element` bytes each, may be packed: f16 never is, and which
/// of the others are depends on the machine.
fn packs(plan: &Plan, model: &str, element: u64) -> bool {
    let is_f16 = element < FLOAT32 && dtype(plan, model) == Dtype::Float16;
    let table = plan.recipe.models.get(model);
    let device = table.and_then(|model| model.device.as_ref());
    !is_f16 && device.unwrap_or(&plan.recipe.run.device) == "cpu"
}

/// Bytes of a weight of `model` at inference. Which way `auto` goes depends on the machine, so the
/// wider is counted.
pub(super) fn weight_bytes(plan: &Plan, model: &str) -> u64 {
    match dtype(plan, model) {
        Dtype::Auto | Dtype::Float32 => FLOAT32,
        Dtype::Bfloat16 | Dtype::Float16 => 2,
    }
}

/// Bytes of a weight of `model` in the forward pass of its training; f16 is for inference alone.
pub(super) fn pass_bytes(plan: &Plan, model: &str) -> u64 {
    if dtype(plan, model) == Dtype::Bfloat16 { 2 } else { FLOAT32 }
}

/// Whether the forward and backward passes may be in bf16; which way `auto` goes depends on the
/// machine.
pub(super) fn may_pass_in_bf16(plan: &Plan, model: &str) -> bool {
    matches!(dtype(plan, model), Dtype::Auto | Dtype::Bfloat16)
}

fn dtype(plan: &Plan, model: &str) -> Dtype {
    let table = plan.recipe.models.get(model);
    table.and_then(|model| model.dtype).unwrap_or(plan.recipe.run.dtype)
}

/// What a transformer's training memory depends on; `outputs` are the numbers that its head gives
/// for each token.
pub(super) struct Shape {
    parameters: u64,
    layers: u64,
    width: u64,
    outputs: u64,
}

impl Shape {
    pub fn of_lm(sizes: &LmSizes) -> Self {
        let LmSizes { parameters, n_layer, hidden_size, vocab_size, .. } = *sizes;
        Self { parameters, layers: n_layer, width: hidden_size, outputs: vocab_size }
    }

    pub fn of_classifier(sizes: &ClassifierSizes) -> Self {
        let ClassifierSizes { parameters, n_layers, dim, .. } = *sizes;
        Self { parameters, layers: n_layers, width: dim, outputs: 0 }
    }

    /// Weights, gradients, moments and activations, in f32.
    pub fn training_parts(&self, training: &Training, texts_per_example: u64) -> Vec<MemoryPart> {
        let Self { parameters, layers, width, outputs } = *self;
        let rows = product(&[training.micro_batch_size as u64, texts_per_example]);
        let length = training.max_length as u64;
        // Kept for the backward pass of one block: norms, q, k, v, attention's result and
        // projection, the MLP's two wide layers, residuals (16 widths); with activation
        // checkpointing of each block its input, and all that of one block at a time.
        let (layers, kept) = match training.activation_checkpointing {
            true => (layers.saturating_add(16), width),
            false => (layers, width.saturating_mul(16)),
        };
        let texts = [("rows", rows), ("tokens", length)];
        let activations = [("layers", layers), ("kept numbers", kept), ("B", FLOAT32)];
        let mut parts = vec![
            part("weights", &[("parameters", parameters), ("B", FLOAT32)]),
            part("gradients", &[("parameters", parameters), ("B", FLOAT32)]),
            part("optimizer", &[("parameters", parameters), ("moments", 2), ("B", FLOAT32)]),
            part("activations", &[&texts[..], &activations[..]].concat()),
        ];
        if outputs > 0 {
            // Their gradient takes their place; beyond what is kept they are made again, slice by
            // slice.
            let numbers = [("vocabulary", outputs), ("B", FLOAT32)];
            let logits = part("logits", &[&texts[..], &numbers[..]].concat());
            parts.push(MemoryPart { bytes: logits.bytes.min(MOST_LOGITS), ..logits });
        }
        parts
    }
}

/// The training of a language model. With LoRA only the adapters have gradients and moments, and
/// the frozen weights are in bf16 where that is asked for.
pub(super) fn tuning_parts(
    plan: &Plan,
    name: &str,
    training: &Training,
    texts_per_example: u64,
) -> Option<Vec<MemoryPart>> {
    let model = plan.models.get(name)?;
    let mut parts = Shape::of_lm(model).training_parts(training, texts_per_example);
    let Some(lora) = &training.lora else {
        if may_pass_in_bf16(plan, name) {
            // Beside the f32 masters and the f32 sums of the gradients.
            let factors = [("parameters", model.parameters), ("copies", 2), ("B", 2)];
            parts.push(part("bf16 weights and gradients", &factors));
        }
        return Some(parts);
    };
    let (adapters, element) = (lora.parameters(model), pass_bytes(plan, name));
    let copies = [("parameters", adapters), ("copies", 2), ("B", FLOAT32)];
    parts[0] = part("weights", &[("parameters", model.parameters), ("B", element)]);
    parts[1] = part("adapters and their gradients", &copies);
    parts[2] = part("optimizer", &[("parameters", adapters), ("moments", 2), ("B", FLOAT32)]);
    if packs(plan, name, element) {
        // Gradients read the plain ones.
        let block = model.linears.iter().map(|layer| layer.n_in.saturating_mul(layer.n_out));
        let numbers = block.fold(0, u64::saturating_add);
        let factors = [("numbers of a block", numbers), ("layers", model.n_layer), ("B", element)];
        parts.push(part("packed weights", &factors));
    }
    Some(parts)
}

pub(super) fn part(name: &'static str, factors: &[(&str, u64)]) -> MemoryPart {
    let numbers: Vec<u64> = factors.iter().map(|(_, number)| *number).collect();
    let words: Vec<String> =
        factors.iter().map(|(what, number)| format!("{number} {what}")).collect();
    MemoryPart { name, arithmetic: words.join(" × "), bytes: product(&numbers) }
}
