//! `w2s check`.

use std::path::PathBuf;

use clap::Args;

use super::{hub, print};
use crate::error::Result;
use crate::models::hub::Files;
use crate::recipe::{self, Plan};
use crate::text::plan_report;

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
        plan.recipe = hub::as_written(&plan.recipe, &asked, &self.recipe);
        print([plan.describe(), vocabularies].join("\n").trim_end())
    }
}
