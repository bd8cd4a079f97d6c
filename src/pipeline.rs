//! Stage order: what a run does, and what `--only`, `--from`, `--fresh` and `--shard` change about it.

use std::path::{Path, PathBuf};

use tracing::{info, warn};

use crate::artifacts::{RunDir, Shard, atomic};
use crate::error::{Error, Result};
use crate::models::check_lm_folder;
use crate::recipe::{Counts, Plan, Stage};
use crate::report::Summary;
use crate::score::GoldReward;
use crate::stages::{self, Context, shards};
use crate::text::{DataReport, bos_problems, load_pair_rows, mixture_problems};

/// What `w2s run` was asked beyond the recipe.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Only these stages; empty for all.
    pub only: Vec<Stage>,
    /// Does this stage and all after it anew.
    pub from: Option<Stage>,
    /// Empties the run directory first.
    pub fresh: bool,
    /// Does this share of the steer stage and nothing else.
    pub shard: Option<Shard>,
}

/// Runs the plan's stages in `dir`, continuing where an earlier run of the same recipe stopped. Returns the summary if there is one.
pub fn run(mut plan: Plan, recipe_text: &str, dir: &Path, options: &RunOptions) -> Result<Option<Summary>> {
    let stages: Vec<Stage> = plan.stages.iter().copied().filter(|stage| options.only.is_empty() || options.only.contains(stage)).collect();
    if let Some(absent) = options.only.iter().chain(&options.from).find(|stage| !plan.stages.contains(stage)) {
        return Err(Error::recipe(format!("the recipe has no stage `{}`; its stages are {}", absent.name(), names(&plan.stages))));
    }
    if let Some(from) = options.from.filter(|from| !stages.contains(from)) {
        let only = options.only.iter().map(|stage| format!("--only {stage}")).collect::<Vec<_>>().join(" ");
        return Err(Error::recipe(format!(
            "`--from {from}` asks for `{from}` anew, but `{only}` leaves it out\n\nhint: add `--only {from}`, or start from one of those stages"
        )));
    }
    let Preflight { problems, counts, .. } = preflight(&plan);
    plan.counts = counts;
    if !problems.is_empty() {
        return Err(Error::Recipe(problems));
    }
    for doubt in plan.doubts() {
        warn!("{doubt}");
    }
    if let Some(shard) = options.shard {
        let context = Context::new(plan, RunDir::open_shard(dir, shard)?, false)?;
        info!("run directory {}: shard {shard} of stage steer", dir.display());
        shards::run(&context, shard)?;
        return Ok(None);
    }
    let resolved = serde_json::to_string_pretty(&plan).map_err(|error| Error::failed(error.to_string()))?;
    let context = Context::new(plan, RunDir::open(dir)?, options.fresh)?;
    if let Some(from) = options.from {
        if from <= Stage::Steer {
            shards::discard(&context)?;
        }
        let redone: Vec<&str> = stages.iter().filter(|stage| **stage >= from).map(|stage| stage.name()).collect();
        context.forget(&redone)?;
    }
    let reads_shards = stages.iter().any(|stage| matches!(stage, Stage::Steer | Stage::Evaluate));
    if reads_shards {
        shards::merge(&context)?;
    }
    if !options.only.is_empty() {
        stages::check_inputs(&stages, &context)?;
    }
    atomic::write(&context.path("recipe.toml"), recipe_text.as_bytes())?;
    atomic::write(&context.path("plan.json"), format!("{resolved}\n").as_bytes())?;
    info!("run directory {}: stages {}", dir.display(), names(&stages));
    context.plan.warnings().iter().for_each(|warning| warn!("{warning}"));
    stages::check_prompts_ahead(&stages, &context)?;
    for stage in &stages {
        stages::run(*stage, &context)?;
    }
    if reads_shards {
        shards::tidy(&context)?;
    }
    // Without its stage, a summary that lies there may be another recipe's.
    if stages.contains(&Stage::Evaluate) { read_summary(dir) } else { Ok(None) }
}

/// What is found before any work.
pub struct Preflight {
    pub problems: Vec<String>,
    pub counts: Counts,
    /// Of the preference pairs that a source holds.
    pub pairs: Option<DataReport>,
}

/// What is wrong with the models and preference pairs that the plan takes from folders and files: configs, headers of weights, tokenizers,
/// columns.
pub fn preflight(plan: &Plan) -> Preflight {
    let models = plan.recipe.models.iter().filter_map(|(name, model)| Some((format!("models.{name}.id"), model.id.as_ref()?)));
    let mut problems: Vec<String> =
        models.filter_map(|(key, folder)| Some(format!("`{key}`: {}", check_lm_folder(Path::new(folder)).err()?))).collect();
    let mut counts = Counts::default();
    let gold = plan.recipe.gold.as_ref().and_then(|gold| gold.id.as_ref());
    if problems.is_empty() {
        for found in [mixture_problems(plan), bos_problems(plan)] {
            problems.extend(found.unwrap_or_else(|error| vec![error.to_string()]));
        }
    }
    let mut pairs = None;
    if let Some((preferences, source)) = plan.recipe.preferences.as_ref().and_then(|table| Some((table, table.source.as_ref()?))) {
        match load_pair_rows(preferences, Path::new(source), plan.recipe.run.seeds[0]) {
            Ok(read) => {
                counts.pairs = Some(read.train.len());
                pairs = Some(read.report);
            }
            Err(error) => problems.push(format!("`preferences.source`: {error}")),
        }
    }
    problems.extend(gold.and_then(|folder| Some(format!("`gold.id`: {}", GoldReward::check_folder(Path::new(folder)).err()?))));
    Preflight { problems, counts, pairs }
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
