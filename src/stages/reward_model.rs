//! A reward model from the preference pairs (paper B.1.4): a scalar head on a causal language
//! model, trained on which of two responses was chosen. The result can be the `[gold]` of another
//! recipe, and reads texts in training as it will there.

use std::path::PathBuf;

use tracing::{info, warn};

use super::context::Context;
use super::placements::Placement;
use super::run::write_json;
use super::tasks::{TRAIN, VALIDATION};
use super::tuning::{lora_seed, tell_lora};
use super::tuning_plan::Pupil;
use crate::error::{Error, Result};
use crate::machine::device::training_kind;
use crate::models::{
    RewardHead, RewardModel, lora_reward_model_with_tokenizer, reward_model_with_tokenizer,
};
use crate::monitor::glossary;
use crate::recipe::{RewardModelTable, RewardStart, Training};
use crate::score::Reading;
use crate::text::{Tokenizer, read_pairs};
use crate::train::Fit;
use crate::train::tasks::{PairTexts, RewardTask};

const NAME: &str = "reward_model";

struct RewardTraining<'a> {
    table: &'a RewardModelTable,
    model: &'a str,
    training: &'a Training,
}

fn from_plan(context: &Context) -> Result<RewardTraining<'_>> {
    let absent = || Error::recipe("the recipe has no `[reward_model]` table");
    Ok(RewardTraining {
        table: context.recipe().reward_model.as_ref().ok_or_else(absent)?,
        model: context.recipe().reward_model_base().ok_or_else(absent)?,
        training: context.plan.training.reward_model.as_ref().ok_or_else(absent)?,
    })
}

fn start_folder(context: &Context, settings: &RewardTraining) -> Result<PathBuf> {
    match settings.table.from {
        RewardStart::Model => context.models.folder(settings.model),
        RewardStart::Sft => Ok(context.run.path(&Pupil::Guide.folder("sft"))),
    }
}

pub fn train(context: &Context) -> Result<()> {
    let settings = from_plan(context)?;
    let training = settings.training;
    let (model, tokenizer) = open(context, &settings)?;
    let (train, validation) = (
        read_texts(context, &tokenizer, TRAIN, training.max_length)?,
        read_texts(context, &tokenizer, VALIDATION, training.max_length)?,
    );
    if train.is_empty() {
        return Err(Error::failed(format!(
            "{NAME}: no pair of {TRAIN} can be used\n\nhint: raise \
             `reward_model.training.max_length` = {} or `preferences.prompts`",
            training.max_length
        )));
    }
    if validation.is_empty() {
        warn!(
            "{NAME}: no pair of {VALIDATION} can be used, so there is no held-out accuracy, and \
             the last weights are kept"
        );
    }
    info!("{NAME}: {} training and {} validation pairs", train.len(), validation.len());
    let mut task = RewardTask {
        model,
        tokenizer,
        train,
        validation,
        batch: training.micro_batch_size,
        activation_checkpointing: training.activation_checkpointing,
        head_factor: settings.table.head_learning_rate / training.learning_rate,
    };
    let checkpoint = context.run.checkpoint(NAME);
    let fit = Fit {
        stage: NAME,
        training,
        seed: context.seed(),
        run_dir: context.run.dir(),
        checkpoint: &checkpoint,
    };
    let (report, weights) = fit.run(&mut task)?;
    if let Some(accuracy) = report.held_out(glossary::REWARDS_ACCURACIES) {
        info!("{NAME}: accuracy {accuracy:.4} on {} held-out pairs", task.validation.len());
    }
    let folder = context.run.path(NAME);
    let tokenizer = task.tokenizer.padding_within(task.model.info().vocab_size);
    tokenizer.save(&folder)?;
    task.model.save_trained(&folder, &weights, tokenizer.pad_id())?;
    write_json(&folder.join("training.json"), &report)
}

/// The language model that the head is put on, and the head: all weights learn, or adapters and the
/// head.
fn open(context: &Context, settings: &RewardTraining) -> Result<(RewardModel, Tokenizer)> {
    let folder = start_folder(context, settings)?;
    let Placement { device, kind } = context.models.placement(settings.model)?;
    let kind = training_kind(kind);
    match &settings.training.lora {
        None => reward_model_with_tokenizer(&folder, device, kind),
        Some(lora) => {
            let opened = lora_reward_model_with_tokenizer(
                &folder,
                device,
                kind,
                lora,
                lora_seed(context, NAME),
            )?;
            tell_lora(NAME, lora, &opened.0.trainable_parameters(), &opened.0.parameters());
            Ok(opened)
        }
    }
}

/// The pairs of `file` that can be learned from; a warning counts the others.
fn read_texts(
    context: &Context,
    tokenizer: &Tokenizer,
    file: &str,
    max_length: usize,
) -> Result<Vec<PairTexts>> {
    let pairs = read_pairs(&context.run.path(file))?;
    let mut kept = Vec::with_capacity(pairs.len());
    let (eos, reading) = (tokenizer.eos_id(), Reading::new(RewardHead::Score.layout(), None));
    for pair in &pairs {
        let encode = |response: &str| {
            let (response, _) = tokenizer.split_end(response, eos.as_slice());
            reading.ids(tokenizer, &pair.prompt, response)
        };
        let ids @ [chosen, rejected] = &[encode(&pair.chosen)?, encode(&pair.rejected)?];
        let is_empty =
            [&pair.chosen, &pair.rejected].iter().any(|response| response.trim().is_empty());
        if !is_empty
            && chosen != rejected
            && ids.iter().all(|ids| (1..=max_length).contains(&ids.len()))
        {
            kept.push(PairTexts::new(chosen.clone(), rejected.clone()));
        }
    }
    if kept.len() < pairs.len() {
        let left_out = pairs.len() - kept.len();
        warn!(
            "{NAME}: {left_out} of {} pairs of {file} are equal, empty or longer than `max_length` \
             and left out",
            pairs.len()
        );
    }
    Ok(kept)
}
