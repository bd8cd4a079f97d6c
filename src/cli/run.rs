//! `w2s run`: a recipe's stages in its run directory. What a run does is in `pipeline.rs`.

use std::path::PathBuf;

use clap::Args;
use tracing::info;

use super::{hub, print, recipe_file, to_json};
use crate::artifacts::{Shard, interrupt};
use crate::error::{Error, Result};
use crate::hub::Files;
use crate::machine::threads::Threads;
use crate::pipeline::{self, RunOptions};
use crate::recipe::{self, Plan, Stage};
use crate::report::{Summary, table};

#[derive(Debug, Args)]
pub struct RunCommand {
    recipe: PathBuf,
    /// Override a key of the recipe, for example `steer.prompts=50`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The run directory [default: checkpoints/<run.name>]
    #[arg(long)]
    out: Option<PathBuf>,
    #[arg(
        long,
        value_name = "STAGE",
        value_parser = stage,
        help = format!("Only these stages: {}", Stage::names())
    )]
    only: Vec<Stage>,
    /// Do this stage and all after it anew
    #[arg(long, value_name = "STAGE", value_parser = stage)]
    from: Option<Stage>,
    /// Remove what runs wrote in the run directory first; other files stay
    #[arg(long)]
    fresh: bool,
    /// Answer only the I-th of N shares of the steer stage's prompts, in a journal of its own;
    /// `--only evaluate` merges the shares
    #[arg(long, value_name = "I/N", conflicts_with_all = ["from", "fresh"])]
    shard: Option<Shard>,
    /// Print the summary as JSON instead of a table
    #[arg(long)]
    json: bool,
}

fn stage(name: &str) -> Result<Stage, String> {
    Stage::ALL
        .into_iter()
        .find(|stage| stage.name() == name)
        .ok_or_else(|| format!("the stages are {}", Stage::names()))
}

impl RunCommand {
    pub fn execute(self) -> Result<()> {
        if let Some(other) =
            self.only.iter().find(|stage| **stage != Stage::Steer && self.shard.is_some())
        {
            return Err(Error::recipe(format!(
                "`--shard` does stage `steer` alone, so it cannot be used with `--only {other}`"
            )));
        }
        let only = if self.shard.is_some() { vec![Stage::Steer] } else { self.only };
        let asked = recipe_file::load(&self.recipe, &self.set)?;
        let planned = hub::resolve(&asked, &self.recipe, Files::All)
            .and_then(|recipe| Plan::new(recipe, &self.recipe));
        let plan = planned.map_err(|error| match error {
            Error::Recipe(told) => {
                let found = pipeline::preflight(&recipe::with_joined_paths(&asked, &self.recipe));
                Error::Recipe(pipeline::with_more(told, found.problems))
            }
            other => other,
        })?;
        let written = hub::as_written(&plan.recipe, &asked, &self.recipe);
        let text =
            toml::to_string_pretty(&written).map_err(|error| Error::failed(error.to_string()))?;
        let dir =
            self.out.unwrap_or_else(|| PathBuf::from("checkpoints").join(&plan.recipe.run.name));
        info!("threads {}", Threads::set(plan.recipe.run.threads));
        interrupt::install()?;
        let options = RunOptions { only, from: self.from, fresh: self.fresh, shard: self.shard };
        let show = |summary: Option<Summary>| match summary {
            Some(summary) => print(&if self.json { to_json(&summary)? } else { table(&summary) }),
            None => Ok(()),
        };
        match pipeline::run(plan, &text, &dir, &options) {
            Err(error @ Error::Unjudged(_)) => {
                show(pipeline::read_summary(&dir)?)?;
                Err(error)
            }
            outcome => show(outcome?),
        }
    }
}
