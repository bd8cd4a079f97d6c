//! What judges have said of the responses that lie in a run directory, for those who only read it:
//! by the manifest, no score is of another response than the one that it stands beside. Making
//! judges speak is left to `judging.rs`.

use std::collections::HashMap;
use std::path::Path;

use super::cells::Cell;
use super::journals::{JudgeLine, once_each};
use super::tasks::Task;
use crate::artifacts::{FileHashes, Manifest};
use crate::error::Result;

/// What a run directory records of its tasks.
pub struct Record<'a> {
    run: &'a Path,
    manifest: Manifest,
    hashes: FileHashes,
}

/// The rewards of one judge by prompt id, or why none of those that lie here can be told.
pub type Rewards = Result<HashMap<String, f64>, String>;

impl<'a> Record<'a> {
    /// # Errors
    /// Where the manifest cannot be read.
    pub fn open(run: &'a Path) -> Result<Self> {
        let hashes = FileHashes::load(run.join("state/hashes.json"));
        Ok(Self { run, manifest: Manifest::load(run)?, hashes })
    }

    /// What `judge` has said so far of the responses of one cell and seed.
    ///
    /// # Errors
    /// Where its journal cannot be read, or tells of a prompt twice.
    pub fn rewards(&self, judge: &str, cell: &Cell, seed: u64) -> Result<Rewards> {
        let answers = Task::Steer { cell: cell.clone(), seed }.name();
        let judged = Task::Judge { judge: judge.to_owned(), cell: cell.clone(), seed }.name();
        let holds = |task: &str| self.manifest.holds(task, &self.hashes);
        let Some(answered) = holds(&answers) else {
            return Ok(Err(format!("{answers}.jsonl is not as the run left it")));
        };
        if holds(&judged).is_none() {
            return Ok(Err(format!("{judge} has not judged these responses")));
        }
        // A judgement names the fingerprint of the responses that it is of.
        if self.manifest.origin(&judged)["inputs"][&answers] != answered {
            return Ok(Err(format!("what {judge} says is of other responses")));
        }
        let lines = once_each::<JudgeLine>(&self.run.join(format!("{judged}.jsonl")))?;
        Ok(Ok(lines.into_iter().map(|(line, _)| (line.id, line.reward)).collect()))
    }
}
