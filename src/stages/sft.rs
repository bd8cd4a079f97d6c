//! Supervised fine-tuning on both responses of each pair; the result is DPO's reference and, of the guide, the untuned guide.

use super::context::Context;
use super::language_task::LanguageTask;
use super::preferences::{self, TRAIN, VALIDATION};
use super::tuning::{Tuning, warn_left_out};
use crate::error::{Error, Result};
use crate::train::Sequence;

pub fn run(context: &Context, tuning: &Tuning) -> Result<()> {
    let task = &tuning.sft_task;
    context.task(task, &fingerprint(context, tuning)?, &[task], |_| train(context, tuning))
}

pub fn fingerprint(context: &Context, tuning: &Tuning) -> Result<String> {
    let parents = [context.model_fingerprint(tuning.model)?, preferences::fingerprint(context)?];
    context.fingerprint(&tuning.sft_task, (tuning.sft, context.seed()), &parents)
}

fn train(context: &Context, tuning: &Tuning) -> Result<()> {
    let training = tuning.sft.ok_or_else(|| Error::recipe("the recipe has no `[sft]` table"))?;
    let model = tuning.open(context, &context.model_folder(tuning.model)?, &tuning.sft_task, training)?;
    let sequences = |file: &str| -> Result<Vec<Sequence>> {
        let both = model.read(context, file, training.max_length)?;
        let responses = 2 * both.len();
        let kept: Vec<Sequence> = both.into_iter().flatten().flatten().collect();
        warn_left_out(&tuning.sft_task, file, "responses", responses - kept.len(), responses);
        Ok(kept)
    };
    let mut task = LanguageTask {
        lm: model.lm.clone(),
        train: sequences(TRAIN)?,
        validation: sequences(VALIDATION)?,
        batch: training.micro_batch_size,
        activation_checkpointing: training.activation_checkpointing,
        sample: model.sample_prompt(context)?,
    };
    model.fit(context, &tuning.sft_task, training, &mut task)
}
