//! `w2s check`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{hub, print};
use crate::error::{Error, Result};
use crate::models::hub::Files;
use crate::pipeline::{self, Preflight};
use crate::recipe::{self, Counts, Plan, Recipe, hub_dataset, hub_model};
use crate::text::{DataReport, load_dataset, plan_report};

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
        let Findings { problems, counts, data, pairs } = find(&asked, &plan, &self.recipe);
        if !problems.is_empty() {
            return Err(Error::Recipe(problems));
        }
        plan.counts = counts;
        plan.recipe = hub::as_written(&plan.recipe, &asked, &self.recipe);
        let read = [("data files", data), ("pair files", pairs)]
            .map(|(what, report)| report.map_or_else(String::new, |report| words(what, &report)));
        let parts = [plan.describe(), vocabularies].into_iter().chain(read).filter(|part| !part.is_empty());
        print(parts.collect::<Vec<_>>().join("\n").trim_end())
    }
}

/// What the data that lies here is like.
struct Findings {
    problems: Vec<String>,
    counts: Counts,
    data: Option<DataReport>,
    pairs: Option<DataReport>,
}

/// What a run would trip over later: model folders and data that lie here. Of hub models only config and tokenizer are at hand, and of a hub
/// data set nothing.
fn find(asked: &Recipe, plan: &Plan, path: &Path) -> Findings {
    let mut local = plan.clone();
    let folder = path.parent().unwrap_or(Path::new(""));
    local.recipe.models.retain(|name, _| asked.models[name].id.as_ref().is_some_and(|id| hub_model(folder, id).is_none()));
    let is_hub = |id: &Option<String>| id.as_ref().is_some_and(|id| hub_model(folder, id).is_some());
    local.recipe.gold = local.recipe.gold.filter(|_| asked.gold.as_ref().is_some_and(|gold| !is_hub(&gold.id)));
    let Preflight { mut problems, mut counts, pairs } = pipeline::preflight(&local);
    let mut data = None;
    if hub_dataset(folder, &asked.data.source).is_none() && !asked.data.source.starts_with("builtin:") {
        match load_dataset(&plan.recipe.data, plan.recipe.run.seeds[0]) {
            Ok(read) => {
                counts.texts = Some(read.train.len());
                data = Some(read.report);
            }
            Err(error) => problems.push(error.to_string()),
        }
    }
    Findings { problems, counts, data, pairs }
}

/// A paragraph of the plan.
fn words(what: &str, report: &DataReport) -> String {
    let warnings = report.warnings.iter().map(|warning| format!("  warning: {warning}\n"));
    let lines = report.lines.iter().map(|line| format!("  {line}\n"));
    format!("{what}\n{}", lines.chain(warnings).collect::<String>())
}
