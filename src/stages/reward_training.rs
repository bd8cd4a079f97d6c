//! The training of a reward model (paper B.1.4): a scalar head on a causal language model, from
//! which of two responses was chosen. What `[reward_model]` and `gold.reward_model` share; where
//! their pairs come from they say themselves.

use std::path::PathBuf;

use tracing::{info, warn};

use super::context::Context;
use super::placements::Placement;
use super::run::write_json;
use super::tuning::{lora_seed, tell_lora};
use crate::error::{Error, Result};
use crate::machine::device::training_kind;
use crate::models::{RewardModel, lora_reward_model_with_tokenizer, reward_model_with_tokenizer};
use crate::monitor::glossary;
use crate::prompt::PromptText;
use crate::recipe::Training;
use crate::score::Reading;
use crate::text::Tokenizer;
use crate::train::Fit;
use crate::train::tasks::{PairTexts, RewardTask};

/// A reward model to train.
pub struct RewardTraining<'a> {
    /// The task, which is the folder of the result too.
    pub name: &'static str,
    /// The recipe's model that it is or descends from; it is trained where that is put.
    pub model: &'a str,
    /// The weights below the head.
    pub start: PathBuf,
    pub head_learning_rate: f64,
    pub training: &'a Training,
    pub reading: Reading,
}

/// Pairs to learn from, or to validate on.
pub struct Judged<'a> {
    /// Where they are from, for messages.
    pub of: String,
    pub pairs: Vec<JudgedPair<'a>>,
    /// What else gives some that can be used, behind `or`.
    pub hint: &'a str,
}

/// A prompt and two responses.
pub struct JudgedPair<'a> {
    pub prompt: &'a PromptText,
    pub chosen: &'a str,
    pub rejected: &'a str,
}

/// Trains to the end and saves the model with its tokenizer in the folder that has the task's name.
///
/// # Errors
/// Where no training pair can be used, beside those of models and training.
pub fn train(context: &Context, asked: &RewardTraining, pairs: [Judged; 2]) -> Result<()> {
    let RewardTraining { name, training, .. } = asked;
    let (model, tokenizer) = open(context, asked)?;
    let [train, validation] =
        [asked.texts(&tokenizer, &pairs[0])?, asked.texts(&tokenizer, &pairs[1])?];
    if train.is_empty() {
        return Err(Error::failed(format!(
            "{name}: no pair of {} can be used\n\nhint: raise `{name}.training.max_length` = {} or \
             {}",
            pairs[0].of, training.max_length, pairs[0].hint
        )));
    }
    if validation.is_empty() {
        warn!(
            "{name}: no pair of {} can be used, so there is no held-out accuracy, and the last \
             weights are kept",
            pairs[1].of
        );
    }
    info!("{name}: {} training and {} validation pairs", train.len(), validation.len());
    let mut task = RewardTask {
        model,
        tokenizer,
        train,
        validation,
        batch: training.micro_batch_size,
        activation_checkpointing: training.activation_checkpointing,
        head_factor: asked.head_learning_rate / training.learning_rate,
    };
    let checkpoint = context.run.checkpoint(name);
    let fit = Fit {
        stage: name,
        training,
        seed: context.seed(),
        run_dir: context.run.dir(),
        checkpoint: &checkpoint,
    };
    let (report, weights) = fit.run(&mut task)?;
    if let Some(accuracy) = report.held_out(glossary::REWARDS_ACCURACIES) {
        info!("{name}: accuracy {accuracy:.4} on {} held-out pairs", task.validation.len());
    }
    let folder = context.run.path(name);
    let tokenizer = task.tokenizer.padding_within(task.model.info().vocab_size);
    tokenizer.save(&folder)?;
    task.model.save_trained(&folder, &weights, tokenizer.pad_id())?;
    write_json(&folder.join("training.json"), &report)
}

/// The language model that the head is put on, and the head: all weights learn, or adapters and the
/// head.
fn open(context: &Context, asked: &RewardTraining) -> Result<(RewardModel, Tokenizer)> {
    let RewardTraining { name, start, .. } = asked;
    let Placement { device, kind } = context.models.placement(asked.model)?;
    let kind = training_kind(kind);
    match &asked.training.lora {
        None => reward_model_with_tokenizer(start, device, kind),
        Some(lora) => {
            let seed = lora_seed(context, name);
            let opened = lora_reward_model_with_tokenizer(start, device, kind, lora, seed)?;
            tell_lora(name, lora, &opened.0.trainable_parameters(), &opened.0.parameters());
            Ok(opened)
        }
    }
}

impl RewardTraining<'_> {
    /// The pairs that can be learned from; a warning counts the others.
    fn texts(&self, tokenizer: &Tokenizer, judged: &Judged) -> Result<Vec<PairTexts>> {
        let mut kept = Vec::with_capacity(judged.pairs.len());
        let eos = tokenizer.eos_id();
        for JudgedPair { prompt, chosen, rejected } in &judged.pairs {
            let encode = |response: &str| {
                let (response, _) = tokenizer.split_end(response, eos.as_slice());
                self.reading.ids(tokenizer, prompt, response)
            };
            let is_empty = [chosen, rejected].iter().any(|response| response.trim().is_empty());
            let ids @ [chosen, rejected] = &[encode(chosen)?, encode(rejected)?];
            let fits = |ids: &Vec<i64>| (1..=self.training.max_length).contains(&ids.len());
            if !is_empty && chosen != rejected && ids.iter().all(fits) {
                kept.push(PairTexts::new(chosen.clone(), rejected.clone()));
            }
        }
        let (left_out, all) = (judged.pairs.len() - kept.len(), judged.pairs.len());
        if left_out > 0 {
            warn!(
                "{}: {left_out} of {all} pairs of {} are equal, empty or longer than `max_length` \
                 and left out",
                self.name, judged.of
            );
        }
        Ok(kept)
    }
}
