//! `w2s compare`.

use std::path::PathBuf;

use clap::Args;

use super::{print, to_json};
use crate::error::{Error, Result};
use crate::pipeline::read_summary;
use crate::report::compare;

#[derive(Debug, Args)]
pub struct CompareCommand {
    /// Run directories
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// A JSON array of the summaries instead of a table
    #[arg(long)]
    json: bool,
}

impl CompareCommand {
    pub fn execute(self) -> Result<()> {
        let summaries = self.runs.iter().map(|run| {
            read_summary(run)?.ok_or_else(|| {
                Error::failed(format!(
                    "{}: no evaluate/summary.json\n\nhint: finish the run with `w2s run`",
                    run.display()
                ))
            })
        });
        let summaries = summaries.collect::<Result<Vec<_>>>()?;
        print(&if self.json { to_json(&summaries)? } else { compare(&summaries) })
    }
}
