//! Direct preference optimisation of a model against its SFT reference; of the guide, the result is
//! the tuned guide.

use tracing::info;

use super::context::Context;
use super::tasks::{TRAIN, VALIDATION};
use super::tuning::{Trainable, warn_left_out};
use super::tuning_plan::Pupil;
use crate::error::{Error, Result};
use crate::train::tasks::{DpoTask, PairSequences, reference_of};

/// `name`: of the task, its metrics and its folder.
pub fn train(context: &Context, pupil: &Pupil, name: &str) -> Result<()> {
    let tuning = pupil.tuning(&context.plan)?;
    let (objective, training) =
        tuning.dpo.ok_or_else(|| Error::recipe("the recipe has no `[dpo]` table"))?;
    // What DPO starts from and keeps as its reference: the result of SFT, or else the model itself.
    let reference = match tuning.sft {
        Some(_) => context.run.path(&pupil.folder("sft")),
        None => context.models.folder(tuning.model)?,
    };
    let model = Trainable::open(context, tuning.model, &reference, name, training.lora.as_ref())?;
    let read = |file: &str| -> Result<Vec<PairSequences>> {
        let both = model.read_sequences(context, file, training.max_length)?;
        let pairs = both.len();
        let whole = both.into_iter().filter_map(|[chosen, rejected]| {
            chosen.zip(rejected).map(|(chosen, rejected)| PairSequences::new(chosen, rejected))
        });
        let kept: Vec<PairSequences> = whole.collect();
        warn_left_out(name, file, "pairs", pairs - kept.len(), pairs);
        Ok(kept)
    };
    let (mut train, mut validation) = (read(TRAIN)?, read(VALIDATION)?);
    info!(
        "{name}: {} training and {} validation pairs, {objective}",
        train.len(),
        validation.len()
    );
    // The reference is the model as it stands now, and never changes.
    let file = context.run.checkpoint(name).reference();
    reference_of(&model.lm, [&mut train, &mut validation], training.micro_batch_size, name, &file)?;
    let mut task = DpoTask {
        policy: model.lm.clone(),
        tokenizer: model.tokenizer.clone(),
        train,
        validation,
        objective,
        batch: training.micro_batch_size,
        activation_checkpointing: training.activation_checkpointing,
        sample: model.sample(context)?,
    };
    model.fit(context, name, training, &mut task)
}
