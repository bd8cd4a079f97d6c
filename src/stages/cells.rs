//! What `[steer]` asks for: each (base, method) is a cell, a folder below `steer/`.

use super::steer_method::Method;
use crate::error::{Error, Result};
use crate::recipe::{ChunkLen, GuideSource, Plan};

#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// A model of the recipe; for the guides sampled alone, the model they descend from.
    pub base: String,
    pub method_name: String,
    pub method: Method,
    pub source: Source,
}

/// Which weights propose.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    Model(String),
    Guide(GuideSource),
    /// What `[direct]` made of this model.
    Direct(String),
    /// What `[ppo]` with this chunk length made of its policy, for each seed.
    Ppo(ChunkLen),
}

impl Cell {
    /// Of the task that answers with this seed.
    pub fn name(&self, seed: u64) -> String {
        format!("steer/{}/{}/seed-{seed}", self.base, self.method_name)
    }

    /// Where its lines are kept, relative to the run directory.
    pub fn journal(&self, seed: u64) -> String {
        format!("{}.jsonl", self.name(seed))
    }
}

/// Every cell of the recipe, in its order: bases by methods, then the guides alone, once.
pub fn cells(plan: &Plan) -> Result<Vec<Cell>> {
    let Some(steer) = &plan.recipe.steer else { return Ok(Vec::new()) };
    let is_policy = |model: &str| plan.recipe.ppo.as_ref().is_some_and(|ppo| ppo.policy == model);
    let mut cells = Vec::new();
    for base in &steer.bases {
        for (name, method) in steer.method.iter().flat_map(Method::all_of) {
            let source = match method {
                Method::Tuned | Method::Untuned => continue,
                Method::Direct => Source::Direct(base.clone()),
                Method::Ppo { chunk_len } if is_policy(base) => Source::Ppo(chunk_len),
                Method::Ppo { .. } => continue,
                _ => Source::Model(base.clone()),
            };
            cells.push(Cell { base: base.clone(), method_name: name, method, source });
        }
    }
    for (name, method) in steer.method.iter().flat_map(Method::all_of) {
        let source = match method {
            Method::Tuned => plan.tuned(),
            Method::Untuned => plan.untuned(),
            _ => continue,
        };
        let source = source.ok_or_else(|| Error::recipe(format!("method `{name}` needs a guide pair")))?;
        let base = plan.model_of(&source).ok_or_else(|| Error::recipe("the recipe has no model to tune"))?.to_owned();
        cells.push(Cell { base, method_name: name, method, source: Source::Guide(source) });
    }
    Ok(cells)
}
