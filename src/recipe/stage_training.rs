//! The optimisation of every stage, settled: its table over its defaults, and lengths that fit what
//! the model reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::plan::Sizes;
use super::training::largest_divisor;
use super::{Direct, Lora, LoraTable, Recipe, Training, TrainingTable, prompt_bound};
use crate::losses::DpoObjective;

/// Tokens of prompt and response that are trained on by default where the pairs come from a file.
const PAIR_FILE_TOKENS: usize = 512;

/// The settled optimisation of each stage that trains something.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StageTraining {
    /// For each model made from scratch.
    pub pretrain: BTreeMap<String, Training>,
    pub gold: Option<Training>,
    pub sft: Option<Training>,
    pub reward_model: Option<Training>,
    pub dpo: Option<Training>,
    /// For each model that `[direct]` tunes.
    pub direct: BTreeMap<String, DirectTraining>,
    pub ppo: Option<Training>,
}

/// How one model is tuned directly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DirectTraining {
    pub sft: Option<Training>,
    pub objective: DpoObjective,
    pub dpo: Training,
}

impl StageTraining {
    pub(super) fn resolve(recipe: &Recipe, sizes: &Sizes) -> Self {
        let within = |default: Training, context: Option<u64>| {
            let most =
                context.and_then(|context| usize::try_from(context).ok()).unwrap_or(usize::MAX);
            Training { max_length: default.max_length.min(most), ..default }
        };
        let context = |model: &str| sizes.models.get(model).map(|sizes| sizes.context);

        let mut resolved = Self::default();
        if let Some(pretrain) = &recipe.pretrain {
            for (name, scratch) in recipe
                .models
                .iter()
                .filter_map(|(name, model)| Some((name, model.scratch.as_ref()?)))
            {
                let table = match scratch.steps {
                    Some(steps) => TrainingTable {
                        steps: Some(steps),
                        epochs: None,
                        ..pretrain.training.clone()
                    },
                    None => pretrain.training.clone(),
                };
                resolved.pretrain.insert(
                    name.clone(),
                    Training::resolve(&table, within(Training::pretrain(), context(name))),
                );
            }
        }
        let gold_context = sizes.gold.as_ref().map(|gold| gold.context);
        resolved.gold =
            recipe.gold.as_ref().filter(|gold| gold.scratch.is_some()).map(|gold| {
                Training::resolve(&gold.training, within(Training::gold(), gold_context))
            });

        // Room for the longest pair, unless the model sees less.
        let roomy = |model: &str, new_tokens: usize, default: Training| {
            let longest = longest_pair(recipe, model, new_tokens).unwrap_or_default();
            within(
                Training { max_length: default.max_length.max(longest), ..default },
                context(model),
            )
        };
        let new_tokens =
            recipe.preferences.as_ref().map_or(0, |preferences| preferences.max_new_tokens);
        let guide = recipe.guide_model().unwrap_or_default();
        let lora = |table: &Option<LoraTable>, model: &str| {
            table.as_ref().map(|table| Lora::resolve(table, sizes.models.get(model)))
        };
        resolved.sft = recipe.sft.as_ref().map(|sft| {
            let training =
                Training::resolve(&sft.training, roomy(guide, new_tokens, Training::sft()));
            Training { lora: lora(&sft.lora, guide), ..training }
        });
        if let (Some(table), Some(model)) = (&recipe.reward_model, recipe.reward_model_base()) {
            let default = roomy(model, response_tokens(recipe, model), Training::reward_model());
            let training = Training::resolve(&table.training, default);
            resolved.reward_model = Some(Training { lora: lora(&table.lora, model), ..training });
        }
        resolved.dpo = recipe.dpo.as_ref().map(|dpo| {
            let training =
                Training::resolve(&dpo.training, roomy(guide, new_tokens, Training::dpo()));
            Training { lora: lora(&dpo.lora, guide), ..training }
        });
        if let Some(direct) = &recipe.direct {
            for model in recipe.direct_models() {
                let new_tokens = response_tokens(recipe, model);
                let mut training =
                    DirectTraining::of(recipe, direct, |default| roomy(model, new_tokens, default));
                for training in training.sft.iter_mut().chain([&mut training.dpo]) {
                    training.lora = lora(&direct.lora, model);
                }
                resolved.direct.insert(model.clone(), training);
            }
        }
        if let Some(ppo) = &recipe.ppo {
            let prompt = recipe
                .models
                .get(&ppo.policy)
                .map_or(0, |model| prompt_bound(&recipe.data.prompt, model));
            let max_length = prompt.saturating_add(ppo.max_new_tokens).saturating_add(1);
            let default = within(Training { max_length, ..Training::ppo() }, context(&ppo.policy));
            // A divisor of the minibatch is one of the batch too.
            let most = default.micro_batch_size;
            let micro_batch_size =
                ppo.minibatch_size.map_or(most, |minibatch| largest_divisor(minibatch, most));
            let training =
                Training::resolve(&ppo.training, Training { micro_batch_size, ..default });
            resolved.ppo = Some(Training { lora: lora(&ppo.lora, &ppo.policy), ..training });
        }
        resolved
    }
}

impl DirectTraining {
    /// What the recipe says of the guide's tuning is the default here; `fit` gives a default the
    /// length that the model needs.
    fn of(recipe: &Recipe, direct: &Direct, fit: impl Fn(Training) -> Training) -> Self {
        let over = |table: &TrainingTable, guide: Option<&TrainingTable>, default: Training| {
            let default = guide.map_or(default.clone(), |guide| Training::resolve(guide, default));
            Training::resolve(table, fit(default))
        };
        let (sft, dpo) = (recipe.sft.as_ref().map(|sft| &sft.training), recipe.dpo.as_ref());
        let sft_table = direct.sft.clone().or(sft.map(|_| TrainingTable::default()));
        Self {
            sft: sft_table.map(|table| over(&table, sft, Training::sft())),
            objective: direct.objective(dpo),
            dpo: over(&direct.dpo, dpo.map(|dpo| &dpo.training), Training::dpo()),
        }
    }
}

/// Tokens of a prompt as `model` reads it, its response and an end token, at most; of a pair file,
/// what is usual.
fn longest_pair(recipe: &Recipe, model: &str, new_tokens: usize) -> Option<usize> {
    if recipe.preferences.as_ref().is_some_and(|preferences| preferences.source.is_some()) {
        return Some(PAIR_FILE_TOKENS);
    }
    let prompt = prompt_bound(&recipe.data.prompt, recipe.models.get(model)?);
    Some(prompt.saturating_add(new_tokens).saturating_add(1))
}

/// Tokens of a response as `model` reads it, at most; with another vocabulary than the policy's
/// that may be more.
fn response_tokens(recipe: &Recipe, model: &str) -> usize {
    let Some(preferences) = &recipe.preferences else { return 0 };
    let same = preferences
        .policy
        .as_ref()
        .is_some_and(|policy| recipe.tokenizer_owner(policy) == recipe.tokenizer_owner(model));
    preferences.max_new_tokens.saturating_add(if same { 0 } else { preferences.max_new_tokens / 2 })
}
