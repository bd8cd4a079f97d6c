//! `w2s compare`: tables over runs. They are drawn by `report`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;

use super::{print, to_json};
use crate::error::{Error, Result};
use crate::pipeline::{read_summary, tell_outdated_summary};
use crate::report::{compare, compared};

#[derive(Debug, Args)]
pub struct CompareCommand {
    /// Run directories
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Count differences from this method of each base, or of the guides where the base has none of
    /// this name [default: `base`; of the guides `untuned`]
    #[arg(long, value_name = "METHOD")]
    baseline: Option<String>,
    /// A JSON array of the summaries instead of tables, with `differences` from the baseline
    #[arg(long)]
    json: bool,
}

impl CompareCommand {
    pub fn execute(self) -> Result<()> {
        let summaries = self.runs.iter().map(|run| {
            tell_outdated_summary(run)?;
            read_summary(run)?.ok_or_else(|| {
                Error::failed(format!(
                    "{}: no evaluate/summary.json\n\nhint: finish the run with `w2s run`",
                    run.display()
                ))
            })
        });
        let mut summaries = summaries.collect::<Result<Vec<_>>>()?;
        let names: BTreeSet<String> = summaries.iter().map(|it| it.run.clone()).collect();
        if names.len() < summaries.len() {
            // Runs of one name are told apart by where they are.
            for (summary, run) in summaries.iter_mut().zip(&self.runs) {
                summary.run = run.display().to_string();
            }
        }
        let baseline = self.baseline.as_deref();
        print(&match self.json {
            true => to_json(&compared(&summaries, baseline)?)?,
            false => compare(&summaries, baseline)?,
        })
    }
}
