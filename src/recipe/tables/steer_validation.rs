//! `steer.validation_prompts`: what is asked of validation prompts beside the methods, decided here
//! once. The pairs of guides answer them alone, so that their own gap is known before they steer,
//! and so does every weight of EFT, so that one can be chosen. Answering is left to `stages`.

use std::fmt::{self, Write};

use super::super::guide_pairs::{GuidePairSource, GuideSource};
use super::super::plan::Plan;
use super::super::words::{grouped, product};
use super::Recipe;
use super::method_spelling::MethodTable;
use super::steer::Steer;

/// A pair of guides that is measured before it steers.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasuredPair {
    pub pair: GuidePairSource,
    /// The setting of `dpo.sweep` that made its tuned guide.
    pub setting: Option<String>,
}

impl Recipe {
    /// Whether guides are measured and weights chosen, where there are any.
    pub fn measures_guides(&self) -> bool {
        self.gold.is_some() && self.steer.as_ref().is_some_and(|steer| steer.validation_prompts > 0)
    }

    /// Whether `[data]` has texts whose prompts are neither learned from nor the test's.
    pub fn has_validation_texts(&self) -> bool {
        self.data.as_ref().is_some_and(|data| data.validation.is_some())
    }

    /// Prompts that measure a guide, and of validation those that choose a weight: no more than
    /// there are rows or, where they are test prompts, than are steered over.
    pub fn measuring_prompts(&self) -> usize {
        let Some(steer) = &self.steer else { return 0 };
        let most = match self.data.as_ref().and_then(|data| data.validation) {
            Some(0) => usize::MAX,
            Some(rows) => rows,
            None => steer.prompts,
        };
        steer.validation_prompts.min(most)
    }

    /// Whether the weight of EFT is chosen on validation prompts, where it has several.
    pub fn chooses_weights(&self) -> bool {
        self.measures_guides() && self.has_validation_texts() && self.evaluate.is_some()
    }

    fn is_served(&self, source: &GuideSource) -> bool {
        matches!(source, GuideSource::Model(name) if self.api(name).is_some())
    }
}

impl Plan {
    /// The pairs of `[steer]` that are measured, each once. Guides that others serve answer
    /// nothing.
    pub fn measured_pairs(&self) -> Vec<MeasuredPair> {
        let mut pairs: Vec<MeasuredPair> = Vec::new();
        let sets = if self.recipe.measures_guides() { self.guide_sets() } else { Vec::new() };
        for set in sets {
            for pair in set.pairs {
                let is_served =
                    [&pair.tuned, &pair.untuned].iter().any(|half| self.recipe.is_served(half));
                let is_known = pairs.iter().any(|known| known.pair == pair);
                if !is_served && !is_known {
                    pairs.push(MeasuredPair { pair, setting: set.setting.clone() });
                }
            }
        }
        pairs
    }

    /// The guides of these pairs, each once.
    pub fn measured_guides(&self) -> Vec<GuideSource> {
        let mut guides: Vec<GuideSource> = Vec::new();
        for MeasuredPair { pair, .. } in self.measured_pairs() {
            for guide in [pair.tuned, pair.untuned] {
                if !guides.contains(&guide) {
                    guides.push(guide);
                }
            }
        }
        guides
    }
}

impl Steer {
    /// What is asked of validation prompts, and how many tokens that samples.
    pub(super) fn validation_words(
        &self,
        plan: &Plan,
        out: &mut String,
    ) -> Result<u64, fmt::Error> {
        let recipe = &plan.recipe;
        if !recipe.measures_guides() {
            return Ok(0);
        }
        let (guides, prompts) = (plan.measured_guides(), recipe.measuring_prompts() as u64);
        let mut all = 0_u64;
        let tokens = |model: &str| self.answering(recipe, model).max_new_tokens as u64;
        if !guides.is_empty() {
            let each = guides.iter().filter_map(|guide| recipe.model_of(guide)).map(tokens);
            let sampled = each.map(|tokens| product(&[prompts, tokens])).sum::<u64>();
            let split = if recipe.has_validation_texts() { "validation" } else { "test" };
            write!(out, "     before they steer, guides alone answer {prompts} {split} prompts: ")?;
            writeln!(out, "at most {} tokens", grouped(sampled))?;
            all = all.saturating_add(sampled);
        }
        if plan
            .guide_pairs()
            .iter()
            .any(|pair| [&pair.tuned, &pair.untuned].iter().any(|half| recipe.is_served(half)))
        {
            writeln!(out, "     guides that others serve are not measured: they only score")?;
        }
        let swept = self.swept_tokens(plan, &tokens);
        if swept > 0 && recipe.chooses_weights() {
            write!(out, "     the weight of eft is chosen on {prompts} validation prompts: ")?;
            writeln!(out, "at most {} tokens", grouped(swept))?;
            all = all.saturating_add(swept);
        }
        Ok(all)
    }

    /// Tokens that choosing among the weights of EFT samples.
    fn swept_tokens(&self, plan: &Plan, tokens: &dyn Fn(&str) -> u64) -> u64 {
        let sets = plan.guide_sets().len() as u64;
        let of_base = |base: &String| {
            let tables = self.method.iter().filter(|table| table.steers(base));
            let methods = tables.flat_map(MethodTable::methods);
            let weights = methods.filter(|(_, method)| method.is_eft()).count() as u64;
            let prompts = plan.recipe.measuring_prompts() as u64;
            if weights < 2 { 0 } else { product(&[weights, sets, prompts, tokens(base)]) }
        };
        self.bases.iter().map(of_base).sum()
    }
}
