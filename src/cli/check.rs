//! `w2s check`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{hub, print};
use crate::error::{Error, Result};
use crate::models::hub::Files;
use crate::pipeline;
use crate::recipe::{self, Plan, Recipe, hub_dataset, hub_model};
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
        let planned = hub::resolve(&asked, &self.recipe, Files::WithoutWeights).and_then(|recipe| Plan::new(recipe, &self.recipe));
        let (told, plan) = match planned {
            Ok(plan) => (Vec::new(), Some(plan)),
            Err(Error::Recipe(problems)) => (problems, None),
            Err(other) => return Err(other),
        };
        let mut problems = match &plan {
            Some(plan) => find_problems(&asked, &plan.recipe, &self.recipe),
            None => find_problems(&asked, &recipe::with_joined_paths(&asked, &self.recipe), &self.recipe),
        };
        problems = pipeline::with_more(told, problems);
        // Of models that cannot be opened nothing more can be said.
        let vocabularies = match &plan {
            Some(plan) if problems.is_empty() => plan_report(plan)?,
            _ => String::new(),
        };
        match plan {
            Some(mut plan) if problems.is_empty() => {
                plan.recipe = hub::as_written(&plan.recipe, &asked, &self.recipe);
                print([plan.describe(), vocabularies].join("\n").trim_end())
            }
            _ => Err(Error::Recipe(problems)),
        }
    }
}

/// What a run would trip over later: model folders and data that lie here. Of hub models only config and tokenizer are at hand, which
/// [`hub::resolve`] has looked at, and of a hub data set nothing.
fn find_problems(asked: &Recipe, recipe: &Recipe, path: &Path) -> Vec<String> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let is_hub = |id: &Option<String>| id.as_ref().is_some_and(|id| hub_model(folder, id).is_some());
    let mut local = recipe.clone();
    local.models.retain(|name, _| !is_hub(&asked.models[name].id));
    local.gold = local.gold.filter(|_| asked.gold.as_ref().is_some_and(|gold| !is_hub(&gold.id)));
    let mut problems = pipeline::preflight(&local);
    let lies_here = hub_dataset(folder, &asked.data.source).is_none() && !asked.data.source.starts_with("builtin:");
    if let Some(seed) = recipe.run.seeds.first().filter(|_| lies_here && Path::new(&recipe.data.source).exists()) {
        problems.extend(load_dataset(&recipe.data, *seed).err().map(|error| error.to_string()));
    }
    problems
}
