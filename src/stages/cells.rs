//! What `[steer]` asks for: each (base, method) is a cell, a folder below `steer/`. How a cell is
//! answered is in `steer.rs`.

use crate::error::{Error, Result};
use crate::recipe::{ChunkLen, GuideSource, Method, MethodTable, Plan, Proposal};

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
    /// The name of the task that answers with this seed.
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
        let tables = steer.method.iter().filter(|table| table.steers(base));
        for (name, method) in tables.flat_map(MethodTable::methods) {
            let source = match method.proposal {
                Proposal::Tuned | Proposal::Untuned => continue,
                Proposal::Direct => Source::Direct(base.clone()),
                Proposal::Ppo { chunk_len } if is_policy(base) => Source::Ppo(chunk_len),
                Proposal::Ppo { .. } => continue,
                Proposal::Base | Proposal::Tilted { .. } => Source::Model(base.clone()),
            };
            cells.push(Cell { base: base.clone(), method_name: name, method, source });
        }
    }
    for (name, method) in steer.method.iter().flat_map(MethodTable::methods) {
        let source = match method.proposal {
            Proposal::Tuned => plan.tuned(),
            Proposal::Untuned => plan.untuned(),
            _ => continue,
        };
        let source =
            source.ok_or_else(|| Error::recipe(format!("method `{name}` needs a guide pair")))?;
        let base = plan
            .model_of(&source)
            .ok_or_else(|| Error::recipe("the recipe has no model to tune"))?
            .to_owned();
        cells.push(Cell { base, method_name: name, method, source: Source::Guide(source) });
    }
    Ok(cells)
}
