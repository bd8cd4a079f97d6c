//! How much memory each stage will need, with the arithmetic shown: an upper bound by sizes alone, before any weights are read.
//!
//! Not counted: the program and libtorch themselves, data sets, and the allocator's slack.

use super::plan::GuideSource;
use super::{ClassifierSizes, Dtype, LmSizes, Plan, PpoTable, Stage, Training, ValueSource, prompt_bound};

/// Prompts that a sampling stage is taken to hold at once.
pub const PROMPTS_IN_FLIGHT: usize = 8;
/// Rollouts that PPO is taken to hold at once.
const ROLLOUTS_IN_FLIGHT: usize = 64;

const FLOAT32: u64 = 4;
/// Bytes of logits that training holds at once, at most.
const MOST_LOGITS: u64 = 320 << 20;

/// The peak of one stage; where it handles several models one after the other, of the largest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageMemory {
    pub stage: Stage,
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

    /// Of the parts that are there however short the texts are: weights, gradients, moments.
    pub fn least_bytes(&self) -> u64 {
        let grows = |part: &&MemoryPart| part.name.ends_with("activations") || part.name.ends_with("cache") || part.name == "logits";
        self.parts.iter().filter(|part| !grows(part)).fold(0, |sum, part| sum.saturating_add(part.bytes))
    }
}

/// For every stage that holds a model, in the plan's order.
pub fn memory_estimate(plan: &Plan) -> Vec<StageMemory> {
    plan.stages.iter().filter_map(|stage| estimate(plan, *stage)).collect()
}

fn estimate(plan: &Plan, stage: Stage) -> Option<StageMemory> {
    let recipe = &plan.recipe;
    let gold = || plan.gold.as_ref().map(|gold| part("gold", &[("parameters", gold.parameters), ("B", FLOAT32)]));
    match stage {
        Stage::Pretrain => largest(plan.training.pretrain.iter().filter_map(|(name, training)| {
            Some(StageMemory { stage, model: name.clone(), parts: tuning_parts(plan, name, training, 1)? })
        })),
        Stage::Gold => {
            let (sizes, training) = (plan.gold.as_ref()?, plan.training.gold.as_ref());
            let parts = training.map(|training| training_parts(&Shape::of_classifier(sizes), training, 1));
            Some(StageMemory { stage, model: "gold".to_owned(), parts: parts.or_else(|| Some(vec![gold()?]))? })
        }
        Stage::Preferences => {
            let preferences = recipe.preferences.as_ref()?;
            let Some(policy) = preferences.policy.as_ref().filter(|_| preferences.source.is_none()) else {
                return Some(StageMemory { stage, model: "gold".to_owned(), parts: vec![gold()?] });
            };
            let rows = product(&[PROMPTS_IN_FLIGHT as u64, preferences.samples_per_prompt as u64]);
            let tokens = tokens(plan, policy, preferences.max_new_tokens);
            let mut parts = sampling_parts(plan, policy, rows, tokens)?;
            parts.extend(gold());
            Some(StageMemory { stage, model: policy.clone(), parts })
        }
        Stage::Sft => {
            let name = recipe.guide_model()?;
            let parts = tuning_parts(plan, name, plan.training.sft.as_ref()?, 1)?;
            Some(StageMemory { stage, model: name.to_owned(), parts })
        }
        Stage::RewardModel => {
            let name = recipe.reward_model_base()?;
            // The head has one output a text.
            let shape = Shape { outputs: 0, ..Shape::of_lm(plan.models.get(name)?) };
            let parts = training_parts(&shape, plan.training.reward_model.as_ref()?, 2);
            Some(StageMemory { stage, model: name.to_owned(), parts })
        }
        Stage::Dpo => {
            let name = recipe.guide_model()?;
            Some(StageMemory { stage, model: name.to_owned(), parts: tuning_parts(plan, name, plan.training.dpo.as_ref()?, 2)? })
        }
        Stage::Direct => largest(plan.training.direct.iter().flat_map(|(name, training)| {
            let sft = training.sft.as_ref().and_then(|sft| tuning_parts(plan, name, sft, 1));
            let dpo = tuning_parts(plan, name, &training.dpo, 2);
            sft.into_iter().chain(dpo).map(|parts| StageMemory { stage, model: name.clone(), parts })
        })),
        Stage::Ppo => {
            let ppo = recipe.ppo.as_ref()?;
            let mut parts = ppo_parts(plan, ppo, plan.training.ppo.as_ref()?)?;
            parts.extend(gold().filter(|_| ppo.validation_prompts > 0));
            Some(StageMemory { stage, model: ppo.policy.clone(), parts })
        }
        Stage::Steer => {
            let steer = recipe.steer.as_ref()?;
            let samples = steer.method.iter().map(|method| method.rows()).max().unwrap_or(1);
            let rows = product(&[steer.prompts_in_flight as u64, samples as u64]);
            largest(steer.bases.iter().filter_map(|base| {
                let tokens = tokens(plan, base, steer.max_new_tokens);
                let mut parts = sampling_parts(plan, base, rows, tokens)?;
                let pairs = plan.guide_pairs();
                let guides =
                    pairs.iter().flat_map(|pair| [("tuned", "tuned cache", &pair.tuned), ("untuned", "untuned cache", &pair.untuned)]);
                for (name, cache, source) in guides {
                    let Some((model, guide)) = guide_sizes(plan, source) else { continue };
                    parts.push(part(name, &[("parameters", guide.parameters), ("B", weight_bytes(plan, model))]));
                    parts.push(kv_cache(cache, guide, rows, tokens, weight_bytes(plan, model)));
                }
                Some(StageMemory { stage, model: base.clone(), parts })
            }))
        }
        Stage::Evaluate => Some(StageMemory { stage, model: "gold".to_owned(), parts: vec![gold()?] }),
    }
}

fn largest(stages: impl Iterator<Item = StageMemory>) -> Option<StageMemory> {
    stages.max_by_key(StageMemory::bytes)
}

/// The recipe's model that a guide is or descends from, and its sizes.
fn guide_sizes<'a>(plan: &'a Plan, source: &'a GuideSource) -> Option<(&'a str, &'a LmSizes)> {
    let model = match source {
        GuideSource::Stage(_) => plan.recipe.guide_model()?,
        GuideSource::Model(name) => name,
    };
    Some((model, plan.models.get(model)?))
}

/// Of a prompt and its response.
fn tokens(plan: &Plan, model: &str, new_tokens: usize) -> u64 {
    let prompt = plan.recipe.models.get(model).map_or(0, |model| prompt_bound(&plan.recipe.data.prompt, model));
    prompt.saturating_add(new_tokens) as u64
}

/// Of the weights of `model` at inference. Which way `auto` goes depends on the machine, so the wider is counted.
fn weight_bytes(plan: &Plan, model: &str) -> u64 {
    match dtype(plan, model) {
        Dtype::Auto | Dtype::Float32 => FLOAT32,
        Dtype::Bfloat16 | Dtype::Float16 => 2,
    }
}

fn dtype(plan: &Plan, model: &str) -> Dtype {
    plan.recipe.models.get(model).and_then(|model| model.dtype).unwrap_or(plan.recipe.run.dtype)
}

/// What a transformer's training memory depends on; `outputs` are the numbers that its head gives for each token.
struct Shape {
    parameters: u64,
    layers: u64,
    width: u64,
    outputs: u64,
}

impl Shape {
    fn of_lm(sizes: &LmSizes) -> Self {
        let LmSizes { parameters, n_layer: layers, hidden_size: width, vocab_size: outputs, .. } = *sizes;
        Self { parameters, layers, width, outputs }
    }

    fn of_classifier(sizes: &ClassifierSizes) -> Self {
        let ClassifierSizes { parameters, n_layers: layers, dim: width, .. } = *sizes;
        Self { parameters, layers, width, outputs: 0 }
    }
}

fn training_parts(shape: &Shape, training: &Training, texts_per_example: u64) -> Vec<MemoryPart> {
    let rows = product(&[training.micro_batch_size as u64, texts_per_example]);
    let length = training.max_length as u64;
    // Kept for the backward pass of one block: norms, q, k, v, attention's result and projection, the MLP's two wide layers, residuals
    // (16 widths); with activation checkpointing of each block its input, and all that of one block at a time.
    let (layers, kept) = match training.activation_checkpointing {
        true => (shape.layers.saturating_add(16), shape.width),
        false => (shape.layers, shape.width.saturating_mul(16)),
    };
    let mut parts = vec![
        part("weights", &[("parameters", shape.parameters), ("B", FLOAT32)]),
        part("gradients", &[("parameters", shape.parameters), ("B", FLOAT32)]),
        part("optimizer", &[("parameters", shape.parameters), ("moments", 2), ("B", FLOAT32)]),
        part("activations", &[("rows", rows), ("tokens", length), ("layers", layers), ("kept numbers", kept), ("B", FLOAT32)]),
    ];
    if shape.outputs > 0 {
        // Their gradient takes their place; beyond what is kept they are made again, slice by slice.
        let logits = part("logits", &[("rows", rows), ("tokens", length), ("vocabulary", shape.outputs), ("B", FLOAT32)]);
        parts.push(MemoryPart { bytes: logits.bytes.min(MOST_LOGITS), ..logits });
    }
    parts
}

/// Of a language model. With LoRA only the adapters have gradients and moments, and the frozen weights are in bf16 where that is asked for.
fn tuning_parts(plan: &Plan, name: &str, training: &Training, texts_per_example: u64) -> Option<Vec<MemoryPart>> {
    let model = plan.models.get(name)?;
    let mut parts = training_parts(&Shape::of_lm(model), training, texts_per_example);
    let dtype = dtype(plan, name);
    if let Some(lora) = &training.lora {
        let adapters = lora.parameters(model);
        let frozen = if dtype == Dtype::Bfloat16 { 2 } else { FLOAT32 };
        parts[0] = part("weights", &[("parameters", model.parameters), ("B", frozen)]);
        parts[1] = part("adapters and their gradients", &[("parameters", adapters), ("copies", 2), ("B", FLOAT32)]);
        parts[2] = part("optimizer", &[("parameters", adapters), ("moments", 2), ("B", FLOAT32)]);
    } else if matches!(dtype, Dtype::Auto | Dtype::Bfloat16) {
        // Beside the f32 masters and the f32 sums of the gradients; which way `auto` goes depends on the machine.
        parts.push(part("bf16 weights and gradients", &[("parameters", model.parameters), ("copies", 2), ("B", 2)]));
    }
    Some(parts)
}

/// The policy is tuned and sampled from beside what it started as, what values it, and both guides.
fn ppo_parts(plan: &Plan, ppo: &PpoTable, training: &Training) -> Option<Vec<MemoryPart>> {
    let policy = plan.models.get(&ppo.policy)?;
    let mut parts = tuning_parts(plan, &ppo.policy, training, 1)?;
    if ppo.value == ValueSource::Model {
        // f32 weights, gradients and two moments, and where the passes are in bf16 its copies of the first two.
        let trained = if matches!(dtype(plan, &ppo.policy), Dtype::Auto | Dtype::Bfloat16) { 20 } else { 16 };
        let activations = parts.iter().find(|part| part.name == "activations").cloned();
        parts.push(part("value model", &[("parameters", policy.parameters), ("B of weights, gradients and moments", trained)]));
        parts.extend(activations.map(|part| MemoryPart { name: "value activations", ..part }));
    }
    // It samples with the weights that it trains, which are never f16.
    let bytes = if dtype(plan, &ppo.policy) == Dtype::Bfloat16 { 2 } else { FLOAT32 };
    let rows = training.batch_size.max(ppo.validation_prompts).min(ROLLOUTS_IN_FLIGHT) as u64;
    parts.push(part("reference", &[("parameters", policy.parameters), ("B", bytes)]));
    parts.push(kv_cache("KV cache", policy, rows, tokens(plan, &ppo.policy, ppo.max_new_tokens), bytes));
    let pair = plan.ppo_pair()?;
    for (name, cache, source) in [("tuned", "tuned cache", &pair.tuned), ("untuned", "untuned cache", &pair.untuned)] {
        let (model, guide) = guide_sizes(plan, source)?;
        let other = plan.recipe.tokenizer_owner(&ppo.policy) != plan.recipe.tokenizer_owner(model);
        let new_tokens = ppo.max_new_tokens.saturating_add(if other { ppo.max_new_tokens / 2 } else { 0 });
        parts.push(part(name, &[("parameters", guide.parameters), ("B", weight_bytes(plan, model))]));
        parts.push(kv_cache(cache, guide, rows, tokens(plan, model, new_tokens), weight_bytes(plan, model)));
    }
    Some(parts)
}

fn sampling_parts(plan: &Plan, name: &str, rows: u64, tokens: u64) -> Option<Vec<MemoryPart>> {
    let (model, weight_bytes) = (plan.models.get(name)?, weight_bytes(plan, name));
    Some(vec![
        part("weights", &[("parameters", model.parameters), ("B", weight_bytes)]),
        kv_cache("KV cache", model, rows, tokens, weight_bytes),
        part("logits", &[("rows", rows), ("vocabulary", model.vocab_size), ("copies", 2), ("B", FLOAT32)]),
    ])
}

fn kv_cache(name: &'static str, model: &LmSizes, rows: u64, tokens: u64, bytes: u64) -> MemoryPart {
    part(name, &[("rows", rows), ("tokens", tokens), ("layers", model.n_layer), ("keys and values", model.kv_size), ("B", bytes)])
}

fn part(name: &'static str, factors: &[(&str, u64)]) -> MemoryPart {
    let numbers: Vec<u64> = factors.iter().map(|(_, number)| *number).collect();
    let arithmetic = factors.iter().map(|(what, number)| format!("{number} {what}")).collect::<Vec<_>>().join(" × ");
    MemoryPart { name, arithmetic, bytes: product(&numbers) }
}

pub(super) fn product(factors: &[u64]) -> u64 {
    factors.iter().fold(1, |product, factor| product.saturating_mul(*factor))
}
