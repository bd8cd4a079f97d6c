//! Supervised fine-tuning on both responses of each pair; the result is DPO's reference and, of the
//! guide, the untuned guide.

use super::context::Context;
use super::tasks::{TRAIN, VALIDATION};
use super::tuning::{Trainable, warn_left_out};
use super::tuning_plan::Pupil;
use crate::error::{Error, Result};
use crate::recipe::LossOn;
use crate::train::Sequence;
use crate::train::tasks::LanguageTask;

/// `name`: of the task, its metrics and its folder.
pub fn train(context: &Context, pupil: &Pupil, name: &str) -> Result<()> {
    let tuning = pupil.tuning(&context.plan)?;
    let (on, training) =
        tuning.sft.ok_or_else(|| Error::recipe("the recipe has no `[sft]` table"))?;
    let folder = context.models.folder(tuning.model)?;
    let model = Trainable::open(context, tuning.model, &folder, name, training.lora.as_ref())?;
    let sequences = |file: &str| -> Result<Vec<Sequence>> {
        let both = model.read_sequences(context, file, training.max_length)?;
        let responses = 2 * both.len();
        let kept = both.into_iter().flatten().flatten().map(|sequence| match on {
            LossOn::Response => sequence,
            LossOn::All => Sequence { scored_from: 1, ..sequence },
        });
        let kept: Vec<Sequence> = kept.collect();
        warn_left_out(name, file, "responses", responses - kept.len(), responses);
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
    model.fit(context, name, training, &mut task)
}
