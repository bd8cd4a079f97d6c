//! Where the weights lie that a cell samples from.

use std::path::PathBuf;

use super::cells::{Cell, Source};
use super::context::Context;
use super::tasks::Task;
use super::tuning_plan::Pupil;
use crate::error::Result;

/// Where the weights lie that propose.
pub fn source_folder(context: &Context, cell: &Cell, seed: u64) -> Result<PathBuf> {
    let result = |task: Task| context.run.path(&task.name());
    match &cell.source {
        Source::Model(name) => context.models.folder(name),
        Source::Guide(source) => context.models.guide_folder(source),
        Source::Direct(name) => Ok(result(Task::Dpo(Pupil::Direct(name.clone())))),
        Source::Ppo(chunk_len) => {
            let policy = cell.base.clone();
            Ok(result(Task::Ppo { policy, chunk_len: *chunk_len, seed }))
        }
    }
}
