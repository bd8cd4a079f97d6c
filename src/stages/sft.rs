//! Supervised fine-tuning on both responses of each pair; the result is DPO's reference and, of the guide, the untuned guide.

use super::context::{Context, Task};
use super::preferences::{self, TRAIN, VALIDATION};
use super::tuning::{Tuning, warn_left_out};
use crate::error::{Error, Result};
use crate::recipe::{LossOn, Training};
use crate::train::Sequence;
use crate::train::tasks::LanguageTask;

pub fn run(context: &Context, tuning: &Tuning) -> Result<()> {
    let task = task(context, tuning)?;
    context.task(&task, &[&task.name], |_| train(context, tuning))
}

pub fn task(context: &Context, tuning: &Tuning) -> Result<Task> {
    Ok(Task::new(&tuning.sft_task, fingerprint(context, tuning)?))
}

pub fn fingerprint(context: &Context, tuning: &Tuning) -> Result<String> {
    let parents = [context.model_fingerprint(tuning.model)?, preferences::fingerprint(context)?];
    let (on, training) = settings(tuning)?;
    context.fingerprint(&tuning.sft_task, (on, training.outcome(), context.seed()), &parents)
}

fn settings<'a>(tuning: &Tuning<'a>) -> Result<(LossOn, &'a Training)> {
    tuning.sft.ok_or_else(|| Error::recipe("the recipe has no `[sft]` table"))
}

fn train(context: &Context, tuning: &Tuning) -> Result<()> {
    let (on, training) = settings(tuning)?;
    let model = tuning.open(context, &context.model_folder(tuning.model)?, &tuning.sft_task, training)?;
    let sequences = |file: &str| -> Result<Vec<Sequence>> {
        let both = model.read(context, file, training.max_length)?;
        let responses = 2 * both.len();
        let kept = both.into_iter().flatten().flatten().map(|sequence| match on {
            LossOn::Response => sequence,
            LossOn::All => Sequence { scored_from: 1, ..sequence },
        });
        let kept: Vec<Sequence> = kept.collect();
        warn_left_out(&tuning.sft_task, file, "responses", responses - kept.len(), responses);
        Ok(kept)
    };
    let mut task = LanguageTask {
        lm: model.lm.clone(),
        tokenizer: model.tokenizer.clone(),
        train: sequences(TRAIN)?,
        validation: sequences(VALIDATION)?,
        batch: training.micro_batch_size,
        activation_checkpointing: training.activation_checkpointing,
        sample: model.sample(context)?,
    };
    model.fit(context, &tuning.sft_task, training, &mut task)
}
