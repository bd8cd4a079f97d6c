//! PPO of a base on the guide pair's dense reward (paper C.3).

use super::context::Context;
use crate::error::{Error, Result};

pub fn run(_context: &Context) -> Result<()> {
    Err(Error::failed("being written"))
}

/// The stage's tasks and their fingerprints.
pub fn tasks(_context: &Context) -> Result<Vec<(String, String)>> {
    Ok(Vec::new())
}

/// Name of the task, of its metrics, and of its folder below the run directory.
pub fn task(context: &Context, chunk_len: crate::recipe::ChunkLen, seed: u64) -> Result<String> {
    let policy = context.recipe().ppo.as_ref().map(|ppo| ppo.policy.as_str()).unwrap_or_default();
    Ok(format!("ppo/{policy}/L-{chunk_len}/seed-{seed}"))
}

pub fn fingerprint(_context: &Context, _chunk_len: crate::recipe::ChunkLen, _seed: u64) -> Result<String> {
    Ok(String::new())
}
