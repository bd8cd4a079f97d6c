//! `w2s check`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{hub, print};
use crate::error::{Error, Result};
use crate::models::hub::Files;
use crate::pipeline;
use crate::recipe::{self, Counts, Plan, Recipe, hub_dataset, hub_model};
use crate::text::{load_dataset, plan_report};

#[derive(Debug, Args)]
pub struct CheckCommand {
    recipe: PathBuf,
    /// Override a key of the recipe, for example `steer.prompts=50`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl CheckCommand {
    pub fn execute(self) -> Result<()> {
        let asked = recipe::load(&self.recipe, &self.set)?;
        let mut plan = Plan::new(hub::resolve(&asked, &self.recipe, Files::WithoutWeights)?, &self.recipe)?;
        let vocabularies = plan_report(&plan)?;
        let (problems, counts) = read(&asked, &plan, &self.recipe);
        if !problems.is_empty() {
            return Err(Error::Recipe(problems));
        }
        plan.counts = counts;
        plan.recipe = hub::as_written(&plan.recipe, &asked, &self.recipe);
        print([plan.describe(), vocabularies].join("\n").trim_end())
    }
}

/// What a run would trip over later, in model folders and data that lie here, and how much there is to train on. Of hub models only config and
/// tokenizer are at hand, and of a hub data set nothing.
fn read(asked: &Recipe, plan: &Plan, path: &Path) -> (Vec<String>, Counts) {
    let mut local = plan.clone();
    let folder = path.parent().unwrap_or(Path::new(""));
    local.recipe.models.retain(|name, _| asked.models[name].id.as_ref().is_some_and(|id| hub_model(folder, id).is_none()));
    let is_hub = |id: &Option<String>| id.as_ref().is_some_and(|id| hub_model(folder, id).is_some());
    local.recipe.gold = local.recipe.gold.filter(|_| asked.gold.as_ref().is_some_and(|gold| !is_hub(&gold.id)));
    let (mut problems, mut counts) = pipeline::preflight(&local);
    if hub_dataset(folder, &asked.data.source).is_none() && !asked.data.source.starts_with("builtin:") {
        match load_dataset(&plan.recipe.data, plan.recipe.run.seeds[0]) {
            Ok(dataset) => counts.texts = Some(dataset.train.len()),
            Err(error) => problems.push(error.to_string()),
        }
    }
    (problems, counts)
}
