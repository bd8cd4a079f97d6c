//! One PPO training from its models to its folder; its steps are the [`Learner`]'s.

use std::rc::Rc;

use tracing::{info, warn};

use super::cell::PpoCell;
use super::journals::Journals;
use super::learner::Learner;
use super::records::Seconds;
use super::rollouts::Sampler;
use crate::error::{Error, Result};
use crate::machine::device::training_kind;
use crate::models::open_with_tokenizer;
use crate::prompt::Prompt;
use crate::recipe::{PpoTable, Training, ValueSource};
use crate::stages::context::Context;
use crate::stages::placements::Placement;
use crate::stages::run::write_json;
use crate::stages::tuning::Trainable;
use crate::text::{Prompts, Split};
use crate::train::tasks::{Ppo, PpoSettings, Value};
use crate::train::{Run, Trained};

pub fn train(context: &Context, cell: &PpoCell) -> Result<()> {
    let PpoCell { task, policy, table, training, .. } = cell;
    // 1. The policy, which also samples, and the guides that reward it.
    let folder = context.models.folder(policy)?;
    let model = Trainable::open(context, policy, &folder, task, training.lora.as_ref())?;
    let sampler = Sampler::open(context, cell, &model)?;
    let (train, validation) = prompts(context, cell)?;
    // 2. What it is held to, what values its states, and who judges it on the way.
    let Placement { device, kind } = context.models.placement(policy)?;
    let (reference, _) = open_with_tokenizer(&folder, device, training_kind(kind))?;
    let value = match table.value {
        ValueSource::Head => Value::head(&model.lm),
        ValueSource::Model => {
            Value::model(Trainable::open(context, policy, &folder, task, None)?.lm)
        }
    };
    let is_judged = context.recipe().gold.is_some() && !validation.is_empty();
    let gold = is_judged.then(|| context.models.open_gold()).transpose()?;
    // 3. All steps.
    let settings = ppo_settings(table, training);
    let ppo =
        Ppo { settings: &settings, policy: model.lm.clone(), reference: Rc::new(reference), value };
    let (checkpoint, steps) = (context.run.checkpoint(task), training.steps(train.len()));
    let journals = Journals::open(context.run.path(task))?;
    let mut learner = Learner { cell, ppo, sampler, train, validation, gold, journals };
    let run =
        Run { stage: task, training, run_dir: context.run.dir(), checkpoint: &checkpoint, steps };
    let Trained { changed, weights, .. } = run.run(&mut learner)?;
    // 4. The policy as a model folder, and what came of it.
    let folder = context.run.path(task);
    model.save(&folder, &weights, training.lora.as_ref())?;
    let report = learner.journals.report(changed)?;
    let Seconds { rollout, reward, update } = report.seconds.shares();
    info!(
        "{task}: {} rollouts, {:.1} a second: {rollout:.0} % of the time in rollouts, {reward:.0} \
         % in rewards, {update:.0} % in updates",
        report.rollouts, report.rollouts_per_second
    );
    write_json(&folder.join("training.json"), &report)
}

/// Prompts of the training and of the validation split.
fn prompts(context: &Context, cell: &PpoCell) -> Result<(Vec<Prompt>, Vec<Prompt>)> {
    let PpoTable { prompts, validation_prompts, .. } = *cell.table;
    let of = |split: Split, asked: usize| -> Result<Vec<Prompt>> {
        let Prompts { prompts, seen } = context.prompts(split, asked)?;
        let (found, seen) = (prompts.len(), seen.len());
        if found < asked {
            warn!(
                "{}: only {found} {split} texts make a prompt, and {seen} one of training texts; \
                 {asked} were asked for",
                cell.task
            );
        } else if seen > 0 {
            info!(
                "{}: {seen} {split} texts are passed over, for training texts make the same \
                 prompts",
                cell.task
            );
        }
        Ok(prompts)
    };
    let (train, validation) =
        (of(Split::Train, prompts)?, of(Split::Validation, validation_prompts)?);
    let batch = cell.training.batch_size;
    if train.len() < batch {
        return Err(Error::failed(format!(
            "`{}`: {} training prompts do not fill a batch of {batch} rollouts\n\nhint: lower \
             `ppo.training.batch_size`, or give more texts",
            cell.task,
            train.len()
        )));
    }
    Ok((train, validation))
}

fn ppo_settings(table: &PpoTable, training: &Training) -> PpoSettings {
    PpoSettings {
        temperature: table.temperature,
        epochs: table.ppo_epochs,
        minibatch_size: table.minibatch(training.batch_size),
        micro_batch_size: training.micro_batch_size,
        gamma: table.gamma,
        lam: table.lam,
        cliprange: table.cliprange,
        cliprange_value: table.cliprange_value,
        vf_coef: table.vf_coef,
        kl_estimator: table.kl.estimator,
        target_kl: table.target_kl,
        max_grad_norm: training.max_grad_norm,
        activation_checkpointing: training.activation_checkpointing,
    }
}
