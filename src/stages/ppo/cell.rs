//! One training of the stage, as the plan has it.

use crate::error::{Error, Result};
use crate::recipe::{ChunkLen, GuidePairSource, Plan, PpoTable, Training};
use crate::stages::tasks;

pub struct PpoCell<'a> {
    /// Its name: of the task, of its metrics, and of its folder below the run directory.
    pub task: String,
    /// The model of the recipe that is trained.
    pub policy: &'a str,
    pub chunk_len: ChunkLen,
    pub seed: u64,
    pub table: &'a PpoTable,
    pub training: &'a Training,
    pub pair: GuidePairSource,
}

impl<'a> PpoCell<'a> {
    pub fn new(
        plan: &'a Plan,
        policy: &'a str,
        chunk_len: ChunkLen,
        seed: u64,
        name: &str,
    ) -> Result<Self> {
        let (table, training) = tasks::ppo(plan, policy)?;
        let (task, pair) = (name.to_owned(), pair(plan)?);
        Ok(Self { task, policy, chunk_len, seed, table, training, pair })
    }
}

/// The guides that reward.
pub fn pair(plan: &Plan) -> Result<GuidePairSource> {
    plan.ppo_pair().ok_or_else(|| Error::recipe("`[ppo]` has no guide pair"))
}
