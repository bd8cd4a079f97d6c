//! How much memory each stage will need, with the arithmetic shown: an upper bound by sizes alone,
//! before any weights are read.
//!
//! Not counted: the program and libtorch themselves, data sets, and the allocator's slack.

use super::plan::GuideSource;
use super::{
    ClassifierSizes, Dtype, GOLD, LmSizes, MethodTable, Plan, PpoTable, Preferences, Proposal,
    ReaderSizes, Reading, SAMPLED_ROWS, Stage, Steer, Training, ValueSource, guide_tokens,
    prompt_bound,
};
use crate::kernels::choice::is_large;

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
        let grows = |part: &&MemoryPart| {
            part.name.ends_with("activations")
                || part.name.ends_with("cache")
                || part.name == "logits"
        };
        self.parts
            .iter()
            .filter(|part| !grows(part))
            .fold(0, |sum, part| sum.saturating_add(part.bytes))
    }
}

/// For every stage that holds a model, in the plan's order.
pub fn memory_estimate(plan: &Plan) -> Vec<StageMemory> {
    plan.stages.iter().filter_map(|stage| stage.table(&plan.recipe)?.memory(plan)).collect()
}

pub(super) fn pretrain(plan: &Plan) -> Option<StageMemory> {
    largest(plan.training.pretrain.iter().filter_map(|(name, training)| {
        Some(StageMemory {
            stage: Stage::Pretrain,
            model: name.clone(),
            parts: tuning_parts(plan, name, training, 1)?,
        })
    }))
}

pub(super) fn gold(plan: &Plan) -> Option<StageMemory> {
    let (sizes, training) = (plan.gold.as_ref()?, plan.training.gold.as_ref());
    let parts = training.map_or_else(
        || vec![judge(GOLD, sizes)],
        |training| training_parts(&Shape::of_classifier(sizes), training, 1),
    );
    Some(StageMemory { stage: Stage::Gold, model: GOLD.to_owned(), parts })
}

pub(super) fn preferences(plan: &Plan, preferences: &Preferences) -> Option<StageMemory> {
    let stage = Stage::Preferences;
    let Some(policy) = preferences.policy.as_ref().filter(|_| preferences.source.is_none()) else {
        return Some(StageMemory {
            stage,
            model: GOLD.to_owned(),
            parts: vec![gold_at_work(plan)?],
        });
    };
    let rows =
        product(&[preferences.prompts_at_once() as u64, preferences.samples_per_prompt as u64]);
    let element = weight_bytes(plan, policy);
    let mut parts = vec![frozen(plan, "weights", policy, plan.models.get(policy)?, element)];
    parts.push(cache(
        "KV cache",
        1,
        &sampled_apart(plan, policy, rows, preferences.max_new_tokens, element)?,
    ));
    parts.extend(gold_at_work(plan));
    Some(StageMemory { stage, model: policy.clone(), parts })
}

pub(super) fn sft(plan: &Plan) -> Option<StageMemory> {
    let name = plan.recipe.guide_model()?;
    Some(StageMemory {
        stage: Stage::Sft,
        model: name.to_owned(),
        parts: tuning_parts(plan, name, plan.training.sft.as_ref()?, 1)?,
    })
}

pub(super) fn reward_model(plan: &Plan) -> Option<StageMemory> {
    let name = plan.recipe.reward_model_base()?;
    let mut parts = tuning_parts(plan, name, plan.training.reward_model.as_ref()?, 2)?;
    // The head has one output a text.
    parts.retain(|part| part.name != "logits");
    Some(StageMemory { stage: Stage::RewardModel, model: name.to_owned(), parts })
}

pub(super) fn dpo(plan: &Plan) -> Option<StageMemory> {
    let name = plan.recipe.guide_model()?;
    Some(StageMemory {
        stage: Stage::Dpo,
        model: name.to_owned(),
        parts: tuning_parts(plan, name, plan.training.dpo.as_ref()?, 2)?,
    })
}

pub(super) fn direct(plan: &Plan) -> Option<StageMemory> {
    largest(plan.training.direct.iter().flat_map(|(name, training)| {
        let sft = training.sft.as_ref().and_then(|sft| tuning_parts(plan, name, sft, 1));
        let dpo = tuning_parts(plan, name, &training.dpo, 2);
        sft.into_iter().chain(dpo).map(|parts| StageMemory {
            stage: Stage::Direct,
            model: name.clone(),
            parts,
        })
    }))
}

pub(super) fn ppo(plan: &Plan, ppo: &PpoTable) -> Option<StageMemory> {
    let mut parts = ppo_parts(plan, ppo, plan.training.ppo.as_ref()?)?;
    parts.extend(gold_at_work(plan).filter(|_| ppo.validation_prompts > 0));
    Some(StageMemory { stage: Stage::Ppo, model: ppo.policy.clone(), parts })
}

pub(super) fn steer(plan: &Plan, steer: &Steer) -> Option<StageMemory> {
    let guides = [plan.tuned(), plan.untuned()]
        .map(|source| source.and_then(|source| Some(guide_sizes(plan, &source)?.0.to_owned())));
    let cells = steer.method.iter().flat_map(|method| {
        let models: Vec<String> = match method.proposals.first() {
            Some(Proposal::Tuned) => guides[0].iter().cloned().collect(),
            Some(Proposal::Untuned) => guides[1].iter().cloned().collect(),
            _ => steer.bases.clone(),
        };
        models.into_iter().map(move |model| (method, model))
    });
    largest(cells.filter_map(|(method, model)| {
        let parts = steering_parts(plan, steer, method, &model)?;
        Some(StageMemory { stage: Stage::Steer, model, parts })
    }))
}

/// One judge after the other.
pub(super) fn evaluate(plan: &Plan) -> Option<StageMemory> {
    let gold = plan.gold.iter().map(|sizes| (GOLD, sizes));
    let judges = gold.chain(plan.judges.iter().map(|(name, sizes)| (name.as_str(), sizes)));
    largest(judges.map(|(name, sizes)| StageMemory {
        stage: Stage::Evaluate,
        model: name.to_owned(),
        parts: vec![judge("judge", sizes)],
    }))
}

fn gold_at_work(plan: &Plan) -> Option<MemoryPart> {
    plan.gold.as_ref().map(|sizes| judge(GOLD, sizes))
}

fn judge(name: &'static str, sizes: &ClassifierSizes) -> MemoryPart {
    part(name, &[("parameters", sizes.parameters), ("B", FLOAT32)])
}

fn largest(stages: impl Iterator<Item = StageMemory>) -> Option<StageMemory> {
    stages.max_by_key(StageMemory::bytes)
}

/// The recipe's model that a guide is or descends from, and its sizes.
fn guide_sizes<'a>(plan: &'a Plan, source: &'a GuideSource) -> Option<(&'a str, &'a LmSizes)> {
    let model = plan.model_of(source)?;
    Some((model, plan.models.get(model)?))
}

/// Of the longest prompt as `model` reads it.
fn prompt_tokens(plan: &Plan, model: &str) -> u64 {
    plan.recipe.models.get(model).map_or(0, |model| prompt_bound(&plan.recipe.data.prompt, model))
        as u64
}

/// What `method` holds while `base` is steered, for as many prompts as are searched at once.
fn steering_parts(
    plan: &Plan,
    steer: &Steer,
    method: &MethodTable,
    base: &str,
) -> Option<Vec<MemoryPart>> {
    let prompts = steer.prompts_in_flight.min(steer.prompts) as u64;
    let search = method.search.settings();
    let (rows, new_tokens) = (search.rows() as u64, steer.max_new_tokens as u64);
    let reading = |model: &str, sizes: &LmSizes, is_sampled: bool| {
        let same_vocabulary =
            plan.recipe.tokenizer_owner(base) == plan.recipe.tokenizer_owner(model);
        let new_tokens = if is_sampled {
            new_tokens
        } else {
            (guide_tokens(steer.max_new_tokens, same_vocabulary) as u64).min(sizes.context)
        };
        let chunk = if is_sampled {
            1
        } else {
            (search.chunk(steer.max_new_tokens) as u64).min(new_tokens)
        };
        let sizes = ReaderSizes::of(sizes, weight_bytes(plan, model));
        Reading {
            sizes,
            prompt_tokens: prompt_tokens(plan, model),
            new_tokens,
            rows,
            shares_prompt: true,
            chunk,
            is_sampled,
        }
    };
    let sizes = plan.models.get(base)?;
    let mut parts = vec![frozen(plan, "weights", base, sizes, weight_bytes(plan, base))];
    parts.push(cache("KV cache", prompts, &reading(base, sizes, true)));
    for pair in &plan.guide_pairs() {
        let names = [
            ("tuned", "tuned cache", "tuned mixture cache"),
            ("untuned", "untuned cache", "untuned mixture cache"),
        ];
        for ((name, scored, mixed), source) in names.into_iter().zip([&pair.tuned, &pair.untuned]) {
            let Some((model, guide)) = guide_sizes(plan, source) else { continue };
            parts.push(frozen(plan, name, model, guide, weight_bytes(plan, model)));
            parts.push(cache(scored, prompts, &reading(model, guide, false)));
            if method.is_tilted() {
                parts.push(cache(mixed, prompts, &reading(model, guide, true)));
            }
        }
    }
    Some(parts)
}

/// Of `rows` that are sampled together and share no prompt.
fn sampled_apart(
    plan: &Plan,
    model: &str,
    rows: u64,
    new_tokens: usize,
    element: u64,
) -> Option<Reading> {
    let sizes = ReaderSizes::of(plan.models.get(model)?, element);
    let prompt_tokens = prompt_tokens(plan, model);
    Some(Reading {
        sizes,
        prompt_tokens,
        new_tokens: new_tokens as u64,
        rows,
        shares_prompt: false,
        chunk: 1,
        is_sampled: true,
    })
}

fn cache(name: &'static str, prompts: u64, reading: &Reading) -> MemoryPart {
    let arithmetic = reading.arithmetic();
    let arithmetic = if prompts == 1 {
        arithmetic
    } else {
        format!(
            "{prompts} prompts × \
                                                                    [{arithmetic}]"
        )
    };
    MemoryPart { name, arithmetic, bytes: product(&[prompts, reading.bytes()]) }
}

/// Weights for inference, `B` bytes each. Packed ones take the place of the plain, but for a head
/// that is the embedding, too.
fn frozen(
    plan: &Plan,
    name: &'static str,
    model: &str,
    sizes: &LmSizes,
    element: u64,
) -> MemoryPart {
    let head =
        [sizes.vocab_size, sizes.hidden_size].map(|size| i64::try_from(size).unwrap_or(i64::MAX));
    if sizes.tied && packs(plan, model, element) && is_large((head[0], head[1])) {
        let again = sizes.vocab_size.saturating_mul(sizes.hidden_size);
        return part(
            name,
            &[
                (
                    "parameters and the head once more, packed",
                    sizes.parameters.saturating_add(again),
                ),
                ("B", element),
            ],
        );
    }
    part(name, &[("parameters", sizes.parameters), ("B", element)])
}

/// Whether frozen weights of `model`, `element` bytes each, may be packed: f16 never is, and which
/// of the others are depends on the machine.
fn packs(plan: &Plan, model: &str, element: u64) -> bool {
    let is_f16 = element < FLOAT32 && dtype(plan, model) == Dtype::Float16;
    !is_f16
        && plan
            .recipe
            .models
            .get(model)
            .and_then(|model| model.device.as_ref())
            .unwrap_or(&plan.recipe.run.device)
            == "cpu"
}

/// Of the weights of `model` at inference. Which way `auto` goes depends on the machine, so the
/// wider is counted.
fn weight_bytes(plan: &Plan, model: &str) -> u64 {
    match dtype(plan, model) {
        Dtype::Auto | Dtype::Float32 => FLOAT32,
        Dtype::Bfloat16 | Dtype::Float16 => 2,
    }
}

fn dtype(plan: &Plan, model: &str) -> Dtype {
    plan.recipe.models.get(model).and_then(|model| model.dtype).unwrap_or(plan.recipe.run.dtype)
}

/// What a transformer's training memory depends on; `outputs` are the numbers that its head gives
/// for each token.
struct Shape {
    parameters: u64,
    layers: u64,
    width: u64,
    outputs: u64,
}

impl Shape {
    fn of_lm(sizes: &LmSizes) -> Self {
        let LmSizes {
            parameters, n_layer: layers, hidden_size: width, vocab_size: outputs, ..
        } = *sizes;
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
    // Kept for the backward pass of one block: norms, q, k, v, attention's result and projection,
    // the MLP's two wide layers, residuals (16 widths); with activation checkpointing of each block
    // its input, and all that of one block at a time.
    let (layers, kept) = match training.activation_checkpointing {
        true => (shape.layers.saturating_add(16), shape.width),
        false => (shape.layers, shape.width.saturating_mul(16)),
    };
    let mut parts = vec![
        part("weights", &[("parameters", shape.parameters), ("B", FLOAT32)]),
        part("gradients", &[("parameters", shape.parameters), ("B", FLOAT32)]),
        part("optimizer", &[("parameters", shape.parameters), ("moments", 2), ("B", FLOAT32)]),
        part(
            "activations",
            &[
                ("rows", rows),
                ("tokens", length),
                ("layers", layers),
                ("kept numbers", kept),
                ("B", FLOAT32),
            ],
        ),
    ];
    if shape.outputs > 0 {
        // Their gradient takes their place; beyond what is kept they are made again, slice by
        // slice.
        let logits = part(
            "logits",
            &[("rows", rows), ("tokens", length), ("vocabulary", shape.outputs), ("B", FLOAT32)],
        );
        parts.push(MemoryPart { bytes: logits.bytes.min(MOST_LOGITS), ..logits });
    }
    parts
}

/// Of a language model. With LoRA only the adapters have gradients and moments, and the frozen
/// weights are in bf16 where that is asked for.
fn tuning_parts(
    plan: &Plan,
    name: &str,
    training: &Training,
    texts_per_example: u64,
) -> Option<Vec<MemoryPart>> {
    let model = plan.models.get(name)?;
    let mut parts = training_parts(&Shape::of_lm(model), training, texts_per_example);
    let dtype = dtype(plan, name);
    if let Some(lora) = &training.lora {
        let adapters = lora.parameters(model);
        let element = if dtype == Dtype::Bfloat16 { 2 } else { FLOAT32 };
        parts[0] = part("weights", &[("parameters", model.parameters), ("B", element)]);
        parts[1] = part(
            "adapters and their gradients",
            &[("parameters", adapters), ("copies", 2), ("B", FLOAT32)],
        );
        parts[2] = part("optimizer", &[("parameters", adapters), ("moments", 2), ("B", FLOAT32)]);
        if packs(plan, name, element) {
            // Gradients read the plain ones.
            let numbers = model
                .linears
                .iter()
                .map(|layer| layer.n_in.saturating_mul(layer.n_out))
                .fold(0, u64::saturating_add);
            parts.push(part(
                "packed weights",
                &[("numbers of a block", numbers), ("layers", model.n_layer), ("B", element)],
            ));
        }
    } else if matches!(dtype, Dtype::Auto | Dtype::Bfloat16) {
        // Beside the f32 masters and the f32 sums of the gradients; which way `auto` goes depends
        // on the machine.
        parts.push(part(
            "bf16 weights and gradients",
            &[("parameters", model.parameters), ("copies", 2), ("B", 2)],
        ));
    }
    Some(parts)
}

/// The policy is tuned and sampled from beside what it started as, what values it, and both guides.
fn ppo_parts(plan: &Plan, ppo: &PpoTable, training: &Training) -> Option<Vec<MemoryPart>> {
    let policy = plan.models.get(&ppo.policy)?;
    let mut parts = tuning_parts(plan, &ppo.policy, training, 1)?;
    if ppo.value == ValueSource::Model {
        // f32 weights, gradients and two moments, and where the passes are in bf16 its copies of
        // the first two.
        let trained =
            if matches!(dtype(plan, &ppo.policy), Dtype::Auto | Dtype::Bfloat16) { 20 } else { 16 };
        let activations = parts.iter().find(|part| part.name == "activations").cloned();
        parts.push(part(
            "value model",
            &[
                ("parameters", policy.parameters),
                (
                    "B of weights, \
                                                                              gradients and \
                                                                              moments",
                    trained,
                ),
            ],
        ));
        parts.extend(activations.map(|part| MemoryPart { name: "value activations", ..part }));
    }
    // It samples with the weights that it trains, which are never f16.
    let bytes = if dtype(plan, &ppo.policy) == Dtype::Bfloat16 { 2 } else { FLOAT32 };
    let rows = training.batch_size.max(ppo.validation_prompts).min(SAMPLED_ROWS) as u64;
    parts.push(frozen(plan, "reference", &ppo.policy, policy, bytes));
    parts.push(cache(
        "KV cache",
        1,
        &sampled_apart(plan, &ppo.policy, rows, ppo.max_new_tokens, bytes)?,
    ));
    let pair = plan.ppo_pair()?;
    for (name, scored, source) in
        [("tuned", "tuned cache", &pair.tuned), ("untuned", "untuned cache", &pair.untuned)]
    {
        let (model, guide) = guide_sizes(plan, source)?;
        let same_vocabulary =
            plan.recipe.tokenizer_owner(&ppo.policy) == plan.recipe.tokenizer_owner(model);
        let new_tokens =
            (guide_tokens(ppo.max_new_tokens, same_vocabulary) as u64).min(guide.context);
        let (sizes, prompt_tokens) =
            (ReaderSizes::of(guide, weight_bytes(plan, model)), prompt_tokens(plan, model));
        let reading = Reading {
            sizes,
            prompt_tokens,
            new_tokens,
            rows: 1,
            shares_prompt: true,
            chunk: new_tokens,
            is_sampled: false,
        };
        parts.push(frozen(plan, name, model, guide, weight_bytes(plan, model)));
        parts.push(cache(scored, rows, &reading));
    }
    Some(parts)
}

fn part(name: &'static str, factors: &[(&str, u64)]) -> MemoryPart {
    let numbers: Vec<u64> = factors.iter().map(|(_, number)| *number).collect();
    let arithmetic = factors
        .iter()
        .map(|(what, number)| format!("{number} {what}"))
        .collect::<Vec<_>>()
        .join(" × ");
    MemoryPart { name, arithmetic, bytes: product(&numbers) }
}

pub(super) fn product(factors: &[u64]) -> u64 {
    factors.iter().fold(1, |product, factor| product.saturating_mul(*factor))
}
