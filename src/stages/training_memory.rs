//! Whether a training fits into main memory, before the kernel ends it on the way. Steering plans
//! for itself.

use tch::Device;
use tracing::warn;

use super::context::Context;
use super::tasks::Task;
use crate::error::{Error, Result};
use crate::machine::memory::{self, MainMemory};
use crate::recipe::{Stage, bytes_in_words};

/// Refuses a training whose weights, gradients and moments do not fit into main memory, with the
/// sum; warns where its texts may make it larger than that.
pub fn check(task: &Task, context: &Context) -> Result<()> {
    let stage = task.stage();
    if matches!(stage, Stage::Preferences | Stage::Steer | Stage::Evaluate)
        || matches!(task, Task::PpoReport(_))
    {
        return Ok(());
    }
    let all = context.plan.memory();
    let Some((_, need)) = all.into_iter().find(|(of, _)| *of == stage) else { return Ok(()) };
    let placements = context.models.placements();
    let placement = placements.model(&need.model).or_else(|_| placements.judge(&need.model))?;
    let lacking = || MainMemory::now().filter(|memory| memory.free < need.bytes());
    if placement.device != Device::Cpu || lacking().is_none() {
        return Ok(());
    }
    memory::return_unused();
    let Some(memory) = lacking() else { return Ok(()) };
    let name = task.name();
    let parts = need.parts.iter().map(|part| {
        format!("  {}: {} = {}", part.name, part.arithmetic, bytes_in_words(part.bytes))
    });
    let parts = parts.collect::<Vec<_>>().join("\n");
    let (most, least) = (bytes_in_words(need.bytes()), bytes_in_words(need.least_bytes()));
    if need.least_bytes() > memory.free {
        return Err(Error::failed(format!(
            "{name} takes {least} of memory and up to {most} with long texts, and there are \
             {memory}:\n{parts}\n\n\
             hint: train a smaller model or LoRA adapters, or use a machine or job with more memory"
        )));
    }
    warn!(
        "{name} takes {least} of memory and up to {most} with long texts, and there are {memory}; \
         where it is ended for that, lower \
         `micro_batch_size` or set `activation_checkpointing`\n{parts}"
    );
    Ok(())
}
