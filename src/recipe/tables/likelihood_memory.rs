//! What evaluation holds while models read responses again (`likelihood` of the run directory), by
//! sizes alone: the base, and the models that were sampled.

use super::super::memory::{MemoryPart, StageMemory, frozen, part};
use super::super::plan::Plan;
use super::{Proposal, Steer};
use crate::search::Search;

/// Tokens that are read in one pass, and numbers of one model's logits that exist at once.
const TOKENS: u64 = 4096;
const LOGITS: u64 = 1 << 24;

impl Steer {
    /// For each base and what was sampled of it, where that has a distribution of its own and all
    /// is here.
    pub(super) fn likelihood_memory(&self, plan: &Plan) -> Vec<StageMemory> {
        let rows = self.method.iter().flat_map(|table| &table.rows);
        let sampled = rows.filter(|row| matches!(row.search, Search::Sample(_)));
        let proposals: Vec<Proposal> =
            sampled.flat_map(|row| row.proposals.iter().copied()).collect();
        let asked = self.bases.iter().flat_map(|base| proposals.iter().map(move |of| (base, of)));
        asked
            .filter_map(|(base, proposal)| {
                let parts = parts(plan, *proposal, base)?;
                Some(StageMemory { model: base.clone(), parts })
            })
            .collect()
    }
}

fn parts(plan: &Plan, proposal: Proposal, base: &str) -> Option<Vec<MemoryPart>> {
    let pairs = plan.guide_pairs();
    let halves = pairs.iter().flat_map(|pair| [("tuned", &pair.tuned), ("untuned", &pair.untuned)]);
    let guides = halves.filter_map(|(name, source)| Some((name, plan.model_of(source)?)));
    let models: Vec<(&'static str, &str)> = match proposal {
        Proposal::Base | Proposal::Untuned => return None,
        Proposal::Tuned => guides.take(2).collect(),
        Proposal::Direct | Proposal::Ppo { .. } => vec![("weights", base), ("sampled model", base)],
        Proposal::Tilted { .. } => [("weights", base)].into_iter().chain(guides).collect(),
    };
    if models.iter().any(|(_, model)| plan.recipe.api(model).is_some()) {
        return None;
    }
    let sizes = models.iter().map(|(_, model)| plan.models.get(*model));
    let sizes = sizes.collect::<Option<Vec<_>>>()?;
    let width = sizes.iter().map(|sizes| sizes.hidden_size).max()?;
    let vocabulary = sizes.iter().map(|sizes| sizes.vocab_size).min()?;
    let weights = models.iter().map(|(name, model)| frozen(plan, name, model));
    let mut parts = weights.collect::<Option<Vec<_>>>()?;
    let wide = [("tokens", TOKENS), ("widths", 12), ("wide", width), ("B", 4)];
    parts.push(part("activations", &wide));
    let numbers = LOGITS.min(vocabulary.saturating_mul(TOKENS));
    parts.push(part("logits", &[("numbers", numbers), ("copies", 6), ("B", 4)]));
    Some(parts)
}
