//! What `[steer]` asks for: each (base, method) is a cell, a folder below `steer/`. Cells that are
//! no rows of the summary are made in `validation_cells.rs`; how a cell is answered is in
//! `steer.rs`.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::recipe::{
    ChunkLen, GuidePairSource, GuideSet, GuideSource, Method, MethodTable, Plan, Proposal, Recipe,
};
use crate::search::Search;
use crate::text::Split;

/// The folder of what guides alone answer before they steer, and the task that reports on it.
pub const GAP: &str = "steer/gap";

#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// A model of the recipe; for the guides sampled alone, the model they descend from.
    pub base: String,
    pub method_name: String,
    pub method: Method,
    pub source: Source,
    /// Who scores, and is mixed in.
    pub guides: Vec<GuidePairSource>,
    pub purpose: Purpose,
}

/// What the answers of a cell are for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Purpose {
    /// A row of the summary: all test prompts, each seed.
    Row,
    /// To choose among settings: validation prompts, one seed.
    Choice,
    /// To measure a guide alone: prompts of this split, one seed.
    Gap(Split),
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
    /// What tells it from other cells: the method's settings, and the setting of `dpo.sweep` that
    /// made the guides.
    pub fn settings(&self) -> Value {
        let mut settings = self.method.settings();
        let setting = self.guides.iter().find_map(|pair| match &pair.tuned {
            GuideSource::Dpo(Some(setting)) => Some(setting),
            _ => None,
        });
        if let Some(setting) = setting {
            settings["guide"] = json!(setting);
        }
        settings
    }

    /// The name of the task that answers with this seed.
    pub fn name(&self, seed: u64) -> String {
        let Self { base, method_name: method, .. } = self;
        match self.purpose {
            Purpose::Row => format!("steer/{base}/{method}/seed-{seed}"),
            Purpose::Choice => format!("steer/{base}/{method}/validation-seed-{seed}"),
            Purpose::Gap(split) => format!("{GAP}/{method}/{}-seed-{seed}", split.key()),
        }
    }

    /// The name of the task in which a judge is asked about these answers.
    pub fn judged_name(&self, judge: &str, seed: u64) -> String {
        let Self { base, method_name: method, .. } = self;
        match self.purpose {
            Purpose::Row => format!("evaluate/{judge}/{base}/{method}/seed-{seed}"),
            Purpose::Choice => format!("evaluate/{judge}/{base}/{method}/validation-seed-{seed}"),
            Purpose::Gap(split) => format!("{GAP}/{method}/{judge}-{}-seed-{seed}", split.key()),
        }
    }

    /// How many prompts it answers, at most.
    pub fn prompts(&self, recipe: &Recipe) -> usize {
        match self.purpose {
            Purpose::Row => recipe.steer.as_ref().map_or(0, |steer| steer.prompts),
            Purpose::Choice | Purpose::Gap(_) => recipe.measuring_prompts(),
        }
    }

    /// Whether it samples from a distribution of its own whose models are all here, so that its
    /// divergence from the base is known.
    pub fn has_likelihood(&self, plan: &Plan) -> bool {
        let is_here = |model: &str| plan.recipe.api(model).is_none();
        let guides = self.guides.iter().flat_map(|pair| [&pair.tuned, &pair.untuned]);
        let mut guides = guides.filter_map(|source| plan.model_of(source));
        match self.method.proposal {
            Proposal::Base | Proposal::Untuned => false,
            Proposal::Direct | Proposal::Ppo { .. } => true,
            Proposal::Tuned => !self.guides.is_empty() && guides.all(is_here),
            Proposal::Tilted { .. } => {
                matches!(self.method.search, Search::Sample(_))
                    && is_here(&self.base)
                    && guides.all(is_here)
            }
        }
    }

    /// Where its lines are kept, relative to the run directory.
    pub fn journal(&self, seed: u64) -> String {
        format!("{}.jsonl", self.name(seed))
    }
}

/// Every cell of the recipe, in its order: bases by methods, then the guides alone, once.
pub fn cells(plan: &Plan) -> Result<Vec<Cell>> {
    let Some(steer) = &plan.recipe.steer else { return Ok(Vec::new()) };
    let is_policy =
        |model: &String| plan.recipe.ppo.as_ref().is_some_and(|ppo| ppo.policy.0.contains(model));
    let (mut cells, sets) = (Vec::new(), plan.guide_sets());
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
            let of_guides = |(suffix, guides): (String, Vec<GuidePairSource>)| Cell {
                base: base.clone(),
                method_name: format!("{name}{suffix}"),
                method: method.clone(),
                source: source.clone(),
                guides,
                purpose: Purpose::Row,
            };
            cells.extend(guides_of(&sets, method.needs_guides()).into_iter().map(of_guides));
        }
    }
    for (name, method) in steer.method.iter().flat_map(MethodTable::methods) {
        let is_tuned = match method.proposal {
            Proposal::Tuned => true,
            Proposal::Untuned => false,
            _ => continue,
        };
        for (suffix, guides) in guides_of(&sets, is_tuned) {
            let source = match is_tuned {
                true => guides.first().map(|pair| pair.tuned.clone()),
                false => plan.untuned(),
            };
            let source = source
                .ok_or_else(|| Error::recipe(format!("method `{name}` needs a guide pair")))?;
            let base = plan
                .model_of(&source)
                .ok_or_else(|| Error::recipe("the recipe has no model to tune"))?
                .to_owned();
            let (method_name, method) = (format!("{name}{suffix}"), method.clone());
            let (source, purpose) = (Source::Guide(source), Purpose::Row);
            cells.push(Cell { base, method_name, method, source, guides, purpose });
        }
    }
    Ok(cells)
}

/// The guides that a method runs with, and what its name says of them. Where there are several
/// sets, what `is_guided` runs with each of them, and what is not is scored by none.
fn guides_of(sets: &[GuideSet], is_guided: bool) -> Vec<(String, Vec<GuidePairSource>)> {
    let suffix = |set: &GuideSet| set.setting.iter().map(|name| format!("-{name}")).collect();
    match sets {
        [_, _, ..] if !is_guided => vec![(String::new(), Vec::new())],
        _ => sets.iter().map(|set| (suffix(set), set.pairs.clone())).collect(),
    }
}
