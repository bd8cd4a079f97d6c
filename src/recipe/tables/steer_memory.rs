//! What steering holds at once, by sizes alone; the engine plans with the same arithmetic and the
//! sizes that it has opened.

use super::super::guide_pairs::GuideSource;
use super::super::memory::{MemoryPart, cache, frozen, prompt_tokens, weight_bytes};
use super::super::plan::Plan;
use super::super::reading::{ReaderSizes, Reading, guide_tokens};
use super::super::sizes::LmSizes;
use super::method_spelling::MethodRow;
use super::steer::Steer;

impl Steer {
    /// The parts of `row` while `base` is steered, for as many prompts as are searched at once.
    pub(super) fn method_memory(
        &self,
        plan: &Plan,
        row: &MethodRow,
        base: &str,
    ) -> Option<Vec<MemoryPart>> {
        let prompts = self.prompts_in_flight.min(self.prompts) as u64;
        let reading = |model: &str, is_sampled: bool| {
            let sizes = plan.models.get(model)?;
            Some(self.reading(plan, row, (base, model), sizes, is_sampled))
        };
        let mut parts = Vec::new();
        // What others serve lies in their memory.
        if plan.recipe.api(base).is_none() {
            parts.push(frozen(plan, "weights", base)?);
            parts.push(cache("KV cache", prompts, &reading(base, true)?));
        }
        for pair in &plan.guide_pairs() {
            let names = [
                ("tuned", "tuned cache", "tuned mixture cache"),
                ("untuned", "untuned cache", "untuned mixture cache"),
            ];
            let guides = [&pair.tuned, &pair.untuned];
            for ((name, scored, mixed), source) in names.into_iter().zip(guides) {
                let Some(model) = guide_of(plan, source) else { continue };
                if plan.recipe.api(model).is_some() {
                    continue;
                }
                parts.push(frozen(plan, name, model)?);
                parts.push(cache(scored, prompts, &reading(model, false)?));
                if row.is_tilted() {
                    parts.push(cache(mixed, prompts, &reading(model, true)?));
                }
            }
        }
        Some(parts)
    }

    /// What `model` reads of one prompt of `base` and its response.
    fn reading(
        &self,
        plan: &Plan,
        row: &MethodRow,
        (base, model): (&str, &str),
        sizes: &LmSizes,
        is_sampled: bool,
    ) -> Reading {
        let search = row.search.settings();
        let most = self.answering(&plan.recipe, base).max_new_tokens;
        let owner = |model| plan.recipe.tokenizer_owner(model);
        let (new_tokens, chunk) = match is_sampled {
            true => (most as u64, 1),
            false => {
                let same = owner(base) == owner(model);
                let tokens = guide_tokens(most, same) as u64;
                let tokens = tokens.min(sizes.context);
                (tokens, (search.chunk(most) as u64).min(tokens))
            }
        };
        Reading {
            sizes: ReaderSizes::of(sizes, weight_bytes(plan, model)),
            prompt_tokens: prompt_tokens(plan, model),
            new_tokens,
            rows: search.rows() as u64,
            shares_prompt: true,
            chunk,
            is_sampled: is_sampled || search.weighs_next(),
        }
    }
}

/// The recipe's model that a guide is or descends from, where its sizes are known.
fn guide_of<'a>(plan: &'a Plan, source: &'a GuideSource) -> Option<&'a str> {
    plan.model_of(source).filter(|model| plan.models.contains_key(*model))
}
