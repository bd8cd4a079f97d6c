//! PPO of bases on the guide pair's dense reward (paper C.3): one training for each policy, chunk
//! length and seed, each a task with its own folder, which holds the policy in Hugging Face
//! layout and the journals of how it came about.

mod cell;
mod journals;
mod learner;
mod records;
mod report;
mod rollouts;
mod train;

pub use report::{reports, write_report};

use cell::PpoCell;

use super::context::Context;
use super::prompt_room::{Asked, Model};
use super::tasks;
use crate::error::Result;
use crate::recipe::{ChunkLen, GuideSource};
use crate::text::Split;

/// Trains a policy with chunks of this length; `name` is that of the task, of its metrics and of
/// its folder.
pub fn train(
    context: &Context,
    policy: &str,
    chunk_len: ChunkLen,
    seed: u64,
    name: &str,
) -> Result<()> {
    train::train(context, &PpoCell::new(&context.plan, policy, chunk_len, seed, name)?)
}

/// The prompts of the stage, and what reads them.
pub fn asked(context: &Context) -> Result<Asked> {
    // All trainings have the same.
    let table = context.recipe().ppo.as_ref().ok_or_else(|| tasks::absent("ppo"))?;
    let pair = cell::pair(&context.plan)?;
    let scores = |source: &GuideSource| -> Result<Model> {
        Ok(Model {
            name: context.models.of_guide(source)?.to_owned(),
            folder: context.models.guide_folder(source)?,
            samples: false,
        })
    };
    let mut prompts = context.prompts(Split::Train, table.prompts)?.prompts;
    prompts.extend(context.prompts(Split::Validation, table.validation_prompts)?.prompts);
    let sampled = |name: &String| -> Result<Model> {
        Ok(Model { name: name.clone(), folder: context.models.folder(name)?, samples: true })
    };
    let mut models = table.policy.0.iter().map(sampled).collect::<Result<Vec<_>>>()?;
    models.extend([scores(&pair.tuned)?, scores(&pair.untuned)?]);
    Ok(Asked { prompts, new_tokens: table.max_new_tokens, models })
}
