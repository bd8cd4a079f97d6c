//! Stage order: what a run does, and what `--only`, `--from` and `--fresh` change about it.

use std::path::{Path, PathBuf};

use tracing::info;

use crate::artifacts::{Manifest, RunDir, atomic};
use crate::error::{Error, Result};
use crate::recipe::{Plan, Stage};
use crate::report::Summary;
use crate::stages::{self, Context};

/// What `w2s run` was asked beyond the recipe.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Only these stages; empty for all.
    pub only: Vec<Stage>,
    /// Does this stage and all after it anew.
    pub from: Option<Stage>,
    /// Empties the run directory first.
    pub fresh: bool,
}

/// Runs the plan's stages in `dir`, continuing where an earlier run of the same recipe stopped. Returns the summary if there is one.
pub fn run(plan: Plan, recipe_text: &str, dir: &Path, options: &RunOptions) -> Result<Option<Summary>> {
    let run = RunDir::open(dir)?;
    if options.fresh {
        run.clear()?;
    }
    let stages: Vec<Stage> = plan.stages.iter().copied().filter(|stage| options.only.is_empty() || options.only.contains(stage)).collect();
    if let Some(absent) = options.only.iter().chain(&options.from).find(|stage| !plan.stages.contains(stage)) {
        return Err(Error::recipe(format!("the recipe has no stage `{}`; its stages are {}", absent.name(), names(&plan.stages))));
    }
    if let Some(from) = options.from {
        let redone: Vec<&str> = plan.stages.iter().filter(|stage| **stage >= from).map(|stage| stage.name()).collect();
        Manifest::load(run.path())?.forget(|task| redone.contains(&task.split('/').next().unwrap_or(task)))?;
    }
    atomic::write(&run.join("recipe.toml"), recipe_text.as_bytes())?;
    let resolved = serde_json::to_string_pretty(&plan).map_err(|error| Error::failed(error.to_string()))?;
    atomic::write(&run.join("plan.json"), format!("{resolved}\n").as_bytes())?;
    info!("run directory {}: stages {}", dir.display(), names(&stages));
    let context = Context::new(plan, run)?;
    for stage in stages {
        stages::run(stage, &context)?;
    }
    read_summary(dir)
}

/// The summary of a run directory; `None` before its evaluation.
pub fn read_summary(dir: &Path) -> Result<Option<Summary>> {
    let path: PathBuf = dir.join("evaluate/summary.json");
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| Error::data(&path, None, error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path, "reading")(error)),
    }
}

fn names(stages: &[Stage]) -> String {
    stages.iter().map(|stage| stage.name()).collect::<Vec<_>>().join(", ")
}
