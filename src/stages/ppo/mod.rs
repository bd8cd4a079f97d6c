//! PPO of a base on the guide pair's dense reward (paper C.3): one training for each chunk length and seed, each a task with its own folder,
//! which holds the policy in Hugging Face layout and the journals of how it came about.

mod fit;
mod journals;
mod learner;
mod records;
mod report;
mod rollouts;

pub use report::read as report;

use super::context::{Context, Task};
use super::gold;
use super::prompt_room::{Asked, Model};
use crate::error::{Error, Result};
use crate::recipe::{ChunkLen, GuidePairSource, GuideSource, PpoTable, Training};
use crate::text::Split;

pub fn run(context: &Context) -> Result<()> {
    for cell in cells(context)? {
        context.task(&cell.as_task(context)?, &[&cell.task], |_| fit::train(context, &cell))?;
    }
    report::write(context)
}

/// One training of the stage.
pub struct Cell<'a> {
    /// Its name: of the task, of its metrics, and of its folder below the run directory.
    pub task: String,
    pub chunk_len: ChunkLen,
    pub seed: u64,
    table: &'a PpoTable,
    training: &'a Training,
    pair: GuidePairSource,
}

/// Every training, chunk length by chunk length.
pub fn cells(context: &Context) -> Result<Vec<Cell<'_>>> {
    let Some(table) = &context.recipe().ppo else { return Ok(Vec::new()) };
    let lengths = table.chunk_len.0.iter();
    lengths.flat_map(|&length| context.recipe().run.seeds.iter().map(move |&seed| cell(context, length, seed))).collect()
}

/// The training with chunks of this length.
pub fn cell(context: &Context, chunk_len: ChunkLen, seed: u64) -> Result<Cell<'_>> {
    let table = context.recipe().ppo.as_ref().zip(context.plan.training.ppo.as_ref());
    let (table, training) = table.ok_or_else(|| Error::recipe("the recipe has no `[ppo]` table"))?;
    let pair = context.plan.ppo_pair().ok_or_else(|| Error::recipe("`[ppo]` has no guide pair"))?;
    Ok(Cell { task: format!("ppo/{}/L-{chunk_len}/seed-{seed}", table.policy), chunk_len, seed, table, training, pair })
}

/// The prompts of the stage, and what reads them.
pub fn asked(context: &Context) -> Result<Asked> {
    let mut asked = Asked { prompts: Vec::new(), new_tokens: 0, models: Vec::new() };
    // All trainings have the same.
    if let Some(cell) = cells(context)?.first() {
        let table = cell.table;
        let policy = &table.policy;
        let scores = |source: &GuideSource| -> Result<Model> {
            Ok(Model { name: context.guide_model(source)?.to_owned(), folder: context.guide_folder(source)?, samples: false })
        };
        asked.prompts = context.prompts(Split::Train, table.prompts)?.prompts;
        asked.prompts.extend(context.prompts(Split::Validation, table.validation_prompts)?.prompts);
        asked.new_tokens = table.max_new_tokens;
        asked.models.push(Model { name: policy.clone(), folder: context.model_folder(policy)?, samples: true });
        asked.models.extend([scores(&cell.pair.tuned)?, scores(&cell.pair.untuned)?]);
    }
    Ok(asked)
}

pub fn tasks(context: &Context) -> Result<Vec<Task>> {
    cells(context)?.iter().map(|cell| cell.as_task(context)).collect()
}

impl Cell<'_> {
    fn as_task(&self, context: &Context) -> Result<Task> {
        Ok(Task::new(&self.task, self.fingerprint(context)?))
    }

    pub fn fingerprint(&self, context: &Context) -> Result<String> {
        let GuidePairSource { tuned, untuned, .. } = &self.pair;
        let mut parents = vec![context.prompts_fingerprint()?, context.model_fingerprint(&self.table.policy)?];
        parents.extend([context.guide_fingerprint(tuned)?, context.guide_fingerprint(untuned)?]);
        parents.push(context.model_fingerprint(context.guide_model(tuned)?)?);
        if context.recipe().gold.is_some() && self.table.validation_prompts > 0 {
            parents.push(gold::fingerprint(context)?);
        }
        context.fingerprint("ppo", (self.table.outcome(self.chunk_len, self.training), self.seed), &parents)
    }
}
