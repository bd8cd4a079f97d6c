//! A reward model from the preference pairs (paper B.1.4): a scalar head on a causal language model, trained on which of two responses was
//! chosen. The result can be the `[gold]` of another recipe, and reads texts in training as it will there.

use std::path::PathBuf;

use serde_json::{Value, json};
use tch::{Kind, Tensor};
use tracing::{info, warn};

use super::context::Context;
use super::placements::Placement;
use super::run::write_json;
use super::tasks::{Pupil, TRAIN, VALIDATION};
use crate::error::{Error, Result};
use crate::losses::{BradleyTerryOutput, bradley_terry};
use crate::models::device::training_kind;
use crate::models::{RewardHead, RewardModel, reward_model_with_tokenizer};
use crate::monitor::glossary;
use crate::recipe::{RewardModelTable, RewardStart, Training};
use crate::score::lay_out;
use crate::text::{Tokenizer, read_pairs};
use crate::train::{Fit, StepLoss, Task};

const NAME: &str = "reward_model";

struct Settings<'a> {
    table: &'a RewardModelTable,
    model: &'a str,
    training: &'a Training,
}

fn settings(context: &Context) -> Result<Settings<'_>> {
    let absent = || Error::recipe("the recipe has no `[reward_model]` table");
    Ok(Settings {
        table: context.recipe().reward_model.as_ref().ok_or_else(absent)?,
        model: context.recipe().reward_model_base().ok_or_else(absent)?,
        training: context.plan.training.reward_model.as_ref().ok_or_else(absent)?,
    })
}

fn start_folder(context: &Context, settings: &Settings) -> Result<PathBuf> {
    match settings.table.from {
        RewardStart::Model => context.models.folder(settings.model),
        RewardStart::Sft => Ok(context.run.path(&Pupil::Guide.folder("sft"))),
    }
}

pub fn train(context: &Context) -> Result<()> {
    let settings = settings(context)?;
    let training = settings.training;
    let Placement { device, kind } = context.models.placement(settings.model)?;
    let (model, tokenizer) = reward_model_with_tokenizer(&start_folder(context, &settings)?, device, training_kind(kind))?;
    let train = read(context, &tokenizer, TRAIN, training.max_length)?;
    let mut validation = read(context, &tokenizer, VALIDATION, training.max_length)?;
    if train.is_empty() {
        return Err(Error::failed(format!(
            "{NAME}: no pair of {TRAIN} can be used\n\nhint: raise `reward_model.training.max_length` = {} or `preferences.prompts`",
            training.max_length
        )));
    }
    if validation.is_empty() {
        warn!("{NAME}: no pair of {VALIDATION} can be used, so there is no held-out accuracy, and the last weights are kept");
    }
    // Little is padded where pairs of one length meet; their order does not matter.
    validation.sort_by_key(|pair| pair.iter().map(Vec::len).max());
    info!("{NAME}: {} training and {} validation pairs", train.len(), validation.len());
    let head_factor = settings.table.head_learning_rate / training.learning_rate;
    let mut task = RewardTask { model, tokenizer, train, validation, batch: training.micro_batch_size, head_factor };
    let checkpoint = context.run.checkpoint(NAME);
    let fit = Fit { stage: NAME, training, seed: context.seed(), run_dir: context.run.dir(), checkpoint: &checkpoint };
    let (report, weights) = fit.run(&mut task)?;
    if let Some((_, accuracy)) = report.validation.iter().find(|(name, _)| name == glossary::VALIDATION_REWARDS_ACCURACIES) {
        info!("{NAME}: accuracy {accuracy:.4} on {} held-out pairs", task.validation.len());
    }
    let folder = context.run.path(NAME);
    task.tokenizer.save(&folder)?;
    task.model.save_weights(&folder, &weights, Kind::Float)?;
    write_json(&folder.join("training.json"), &report)
}

/// Ids of the chosen and the rejected text of one pair, each after its prompt.
type PairIds = [Vec<i64>; 2];

/// The pairs of `file` that can be learned from; a warning counts the others.
fn read(context: &Context, tokenizer: &Tokenizer, file: &str, max_length: usize) -> Result<Vec<PairIds>> {
    let pairs = read_pairs(&context.run.path(file))?;
    let mut kept = Vec::with_capacity(pairs.len());
    let eos = tokenizer.eos_id();
    for pair in &pairs {
        let encode = |response: &str| {
            let (response, _) = tokenizer.split_end(response, eos.as_slice());
            tokenizer.encode_with_special(&lay_out(RewardHead::Score.layout(), &pair.prompt, response))
        };
        let ids = [encode(&pair.chosen)?, encode(&pair.rejected)?];
        let is_empty = [&pair.chosen, &pair.rejected].iter().any(|response| response.trim().is_empty());
        if !is_empty && ids[0] != ids[1] && ids.iter().all(|ids| (1..=max_length).contains(&ids.len())) {
            kept.push(ids);
        }
    }
    if kept.len() < pairs.len() {
        let left_out = pairs.len() - kept.len();
        warn!("{NAME}: {left_out} of {} pairs of {file} are equal, empty or longer than `max_length` and left out", pairs.len());
    }
    Ok(kept)
}

struct RewardTask {
    model: RewardModel,
    tokenizer: Tokenizer,
    train: Vec<PairIds>,
    validation: Vec<PairIds>,
    batch: usize,
    /// Learning rate of the head over that of the body.
    head_factor: f64,
}

/// Names in the order of [`measures`].
const TRAIN_NAMES: [&str; 4] =
    [glossary::REWARDS_CHOSEN, glossary::REWARDS_REJECTED, glossary::REWARDS_MARGINS, glossary::REWARDS_ACCURACIES];
const VALIDATION_NAMES: [&str; 4] = [
    glossary::VALIDATION_REWARDS_CHOSEN,
    glossary::VALIDATION_REWARDS_REJECTED,
    glossary::VALIDATION_REWARDS_MARGINS,
    glossary::VALIDATION_REWARDS_ACCURACIES,
];

fn sum(values: &Tensor) -> f64 {
    values.detach().sum(Kind::Double).double_value(&[])
}

/// The losses of some pairs, and sums over them, by one forward pass over all texts.
fn measures(model: &RewardModel, pairs: &[&PairIds]) -> (BradleyTerryOutput, [f64; 4]) {
    let texts: Vec<&[i64]> = [0, 1].iter().flat_map(|&side| pairs.iter().map(move |pair| pair[side].as_slice())).collect();
    let rewards = model.rewards_of(&texts).chunk(2, 0);
    let output = bradley_terry(&rewards[0], &rewards[1]);
    let (chosen, rejected, right) = (sum(&rewards[0]), sum(&rewards[1]), sum(&output.accuracies));
    (output, [chosen, rejected, chosen - rejected, right])
}

impl Task for RewardTask {
    fn examples(&self) -> usize {
        self.train.len()
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.model.parameters()
    }

    fn learning_rate_factor(&self, name: &str) -> f64 {
        if RewardModel::is_head(name) { self.head_factor } else { 1.0 }
    }

    fn accumulate(&mut self, examples: &[usize]) -> Result<StepLoss> {
        let pairs: Vec<&PairIds> = examples.iter().map(|&i| &self.train[i]).collect();
        let (output, sums) = measures(&self.model, &pairs);
        let count = pairs.len() as f64;
        let metrics = TRAIN_NAMES.into_iter().zip(sums).map(|(name, sum)| (name, sum, count)).collect();
        let tokens = pairs.iter().flat_map(|pair| pair.iter().map(Vec::len)).sum();
        let loss = output.losses.sum(Kind::Float);
        loss.f_backward()?;
        Ok(StepLoss { loss: loss.double_value(&[]), weight: count, metrics, tokens })
    }

    /// The head starts at 0, and so does the difference of any two rewards.
    fn loss_at_start(&self) -> Option<f64> {
        Some(2f64.ln())
    }

    fn describe(&self, example: usize) -> Value {
        let [chosen, rejected] = self.train[example].each_ref().map(|ids| {
            let text = self.tokenizer.decode(ids).unwrap_or_default();
            json!({ "text": text, "ids": ids })
        });
        json!({ "chosen": chosen, "rejected": rejected })
    }

    fn validate(&mut self) -> Result<Vec<(&'static str, f64)>> {
        let _no_grad = tch::no_grad_guard();
        if self.validation.is_empty() {
            return Ok(Vec::new());
        }
        let (mut loss, mut totals) = (0.0, [0.0; 4]);
        let pairs: Vec<&PairIds> = self.validation.iter().collect();
        for batch in pairs.chunks(self.batch) {
            let (output, sums) = measures(&self.model, batch);
            loss += sum(&output.losses);
            for (total, sum) in totals.iter_mut().zip(sums) {
                *total += sum;
            }
        }
        let count = pairs.len() as f64;
        let mut values = vec![(glossary::VALIDATION_LOSS, loss / count)];
        values.extend(VALIDATION_NAMES.into_iter().zip(totals).map(|(name, total)| (name, total / count)));
        Ok(values)
    }
}
