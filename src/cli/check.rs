//! `w2s check`.

use std::path::PathBuf;

use clap::Args;

use super::print;
use crate::error::Result;
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
        let recipe = recipe::load(&self.recipe, &self.set)?;
        let plan = Plan::new(recipe, &self.recipe)?;
        let text = [plan.describe(), plan_report(&plan)?].join("\n");
        print(text.trim_end())
    }
}
