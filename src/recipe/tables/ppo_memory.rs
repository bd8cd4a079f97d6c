//! What PPO holds at once, by sizes alone.

use super::super::memory::{
    MemoryPart, cache, cache_apart, frozen, frozen_in, may_pass_in_bf16, part, pass_bytes,
    prompt_tokens, tuning_parts, weight_bytes,
};
use super::super::plan::Plan;
use super::super::reading::{ReaderSizes, Reading, SAMPLED_ROWS, guide_tokens};
use super::ppo::{PpoTable, ValueSource};
use super::training::Training;

impl PpoTable {
    /// The policy is tuned and sampled from beside what it started as, what values it, and both
    /// guides.
    pub(super) fn training_memory(
        &self,
        plan: &Plan,
        policy: &str,
        training: &Training,
    ) -> Option<Vec<MemoryPart>> {
        let sizes = plan.models.get(policy)?;
        let mut parts = tuning_parts(plan, policy, training, 1)?;
        if self.value == ValueSource::Model {
            // f32 weights, gradients and two moments, and where the passes are in bf16 its copies
            // of the first two.
            let trained = if may_pass_in_bf16(plan, policy) { 20 } else { 16 };
            let activations = parts.iter().find(|part| part.name == "activations").cloned();
            let numbers = ("parameters", sizes.parameters);
            let each = ("B of weights, gradients and moments", trained);
            parts.push(part("value model", &[numbers, each]));
            parts.extend(activations.map(|part| MemoryPart { name: "value activations", ..part }));
        }
        // It samples with the weights that it trains, which are never f16.
        let rows = training.batch_size.max(self.validation_prompts).min(SAMPLED_ROWS) as u64;
        parts.push(frozen_in(plan, "reference", policy, pass_bytes(plan, policy))?);
        parts.push(cache_apart(plan, policy, rows, self.max_new_tokens)?);
        let pair = plan.ppo_pair()?;
        let guides =
            [("tuned", "tuned cache", &pair.tuned), ("untuned", "untuned cache", &pair.untuned)];
        for (name, scored, source) in guides {
            let model = plan.model_of(source)?;
            parts.push(frozen(plan, name, model)?);
            parts.push(cache(scored, rows, &self.reading(plan, policy, model)?));
        }
        Some(parts)
    }

    /// What a guide reads of one rollout of `policy`.
    fn reading(&self, plan: &Plan, policy: &str, model: &str) -> Option<Reading> {
        let guide = plan.models.get(model)?;
        let owner = |model| plan.recipe.tokenizer_owner(model);
        let same = owner(policy) == owner(model);
        let new_tokens = (guide_tokens(self.max_new_tokens, same) as u64).min(guide.context);
        Some(Reading {
            sizes: ReaderSizes::of(guide, weight_bytes(plan, model)),
            prompt_tokens: prompt_tokens(plan, model),
            new_tokens,
            rows: 1,
            shares_prompt: true,
            chunk: new_tokens,
            is_sampled: false,
        })
    }
}
