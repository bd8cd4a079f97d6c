//! Direct preference optimisation of a model against its SFT reference; of the guide, the result is the tuned guide.

use tracing::info;

use super::context::{Context, Task as RunTask};
use super::preferences::{self, TRAIN, VALIDATION};
use super::tuning::{Tuning, warn_left_out};
use crate::error::{Error, Result};
use crate::losses::DpoObjective;
use crate::recipe::Training;
use crate::train::tasks::{DpoTask, PairSequences, reference_of};

pub fn run(context: &Context, tuning: &Tuning) -> Result<()> {
    let task = task(context, tuning)?;
    context.task(&task, &[&task.name], |_| train(context, tuning))
}

pub fn task(context: &Context, tuning: &Tuning) -> Result<RunTask> {
    Ok(RunTask::new(&tuning.dpo_task, fingerprint(context, tuning)?))
}

pub fn fingerprint(context: &Context, tuning: &Tuning) -> Result<String> {
    let (objective, training) = settings(tuning)?;
    let parents = [tuning.reference_fingerprint(context)?, preferences::fingerprint(context)?];
    context.fingerprint(&tuning.dpo_task, (objective, training.outcome(), context.seed()), &parents)
}

fn settings<'a>(tuning: &Tuning<'a>) -> Result<(DpoObjective, &'a Training)> {
    tuning.dpo.ok_or_else(|| Error::recipe("the recipe has no `[dpo]` table"))
}

fn train(context: &Context, tuning: &Tuning) -> Result<()> {
    let (objective, training) = settings(tuning)?;
    let name = &tuning.dpo_task;
    let model = tuning.open(context, &tuning.reference_folder(context)?, name, training)?;
    let read = |file: &str| -> Result<Vec<PairSequences>> {
        let both = model.read(context, file, training.max_length)?;
        let pairs = both.len();
        let whole = both
            .into_iter()
            .filter_map(|[chosen, rejected]| chosen.zip(rejected).map(|(chosen, rejected)| PairSequences::new(chosen, rejected)));
        let kept: Vec<PairSequences> = whole.collect();
        warn_left_out(name, file, "pairs", pairs - kept.len(), pairs);
        Ok(kept)
    };
    let (mut train, mut validation) = (read(TRAIN)?, read(VALIDATION)?);
    info!("{name}: {} training and {} validation pairs, {objective}", train.len(), validation.len());
    // The reference is the model as it stands now, and never changes.
    let file = context.checkpoint(name).reference();
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
