//! The `training` table that stages share: what one stage minimises in and how, as it is said and
//! with every default filled in. The loop that does it is left to `train`.

use std::fmt::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::super::sizes::LmSizes;
use super::super::words::{grouped, product};
use super::length::Length;
use super::lora::{Lora, LoraTable};

/// How a stage that trains is optimised; what is left out takes the stage's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainingTable {
    /// Optimiser steps; instead of `epochs`.
    #[schemars(range(min = 1), extend("x-also" = ["max_steps", "total_episodes"]))]
    #[schemars(example = 1000)]
    pub steps: Option<usize>,
    /// Passes over the data, which may be a fraction.
    #[schemars(extend("exclusiveMinimum" = 0, "x-also" = ["num_train_epochs", "num_epochs"]))]
    #[schemars(example = 1.0)]
    pub epochs: Option<f64>,
    /// Examples of one optimiser step: texts, or pairs for `[dpo]` and `[reward_model]`, or
    /// rollouts for `[ppo]`.
    #[schemars(range(min = 1))]
    #[schemars(extend("x-also" = ["train_batch_size"]))]
    #[schemars(example = 64)]
    pub batch_size: Option<usize>,
    /// Examples of one forward pass; divides `batch_size`. By default the largest divisor up to 16.
    #[schemars(range(min = 1))]
    #[schemars(extend("x-also" = ["per_device_train_batch_size", "mini_batch_size"]))]
    #[schemars(example = 8)]
    pub micro_batch_size: Option<usize>,
    /// The learning rate at its peak.
    #[schemars(extend("exclusiveMinimum" = 0, "x-also" = ["lr"]))]
    #[schemars(example = 2e-5)]
    pub learning_rate: Option<f64>,
    /// How the rate falls after the warm-up.
    #[schemars(extend("x-also" = ["lr_scheduler_type", "lr_scheduler"]))]
    #[schemars(example = &"cosine")]
    pub schedule: Option<Schedule>,
    /// The share of the steps in which the rate rises, counted from 1: no step has rate 0, as the
    /// first one has in transformers and TRL.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1, "x-also" = ["warmup_steps"]))]
    #[schemars(example = 0.05)]
    pub warmup_ratio: Option<f64>,
    /// Decoupled weight decay of AdamW.
    #[schemars(range(min = 0))]
    #[schemars(example = 0.1)]
    pub weight_decay: Option<f64>,
    /// Gradients are clipped to this norm.
    #[schemars(extend("exclusiveMinimum" = 0, "x-also" = ["grad_clip", "clip_grad_norm"]))]
    #[schemars(example = 1.0)]
    pub max_grad_norm: Option<f64>,
    /// Whether activations are computed again on the way back instead of being kept: less memory, a
    /// third more arithmetic. Not for the gold classifier.
    #[schemars(extend("x-also" = ["gradient_checkpointing"]))]
    #[schemars(example = true)]
    pub activation_checkpointing: Option<bool>,
    /// Tokens of one example (prompt and response). For pairs more by default where a prompt and
    /// `preferences.max_new_tokens` need it, and 512 with `preferences.source`; never more than the
    /// model sees.
    #[schemars(range(min = 2), extend("x-also" = ["max_seq_length", "max_seq_len", "block_size"]))]
    #[schemars(example = 256)]
    pub max_length: Option<usize>,
    /// Steps between validations; the weights of the best of them are kept.
    #[schemars(range(min = 1), extend("x-also" = ["eval_steps"]))]
    #[schemars(example = 50)]
    pub eval_every: Option<usize>,
    /// Steps between checkpoints that a killed run continues from.
    #[schemars(range(min = 1), extend("x-also" = ["save_steps"]))]
    #[schemars(example = 50)]
    pub checkpoint_every: Option<usize>,
    /// Checkpoints that stay while the stage runs, the newest included; where that cannot be read,
    /// the one before it is taken.
    #[schemars(range(min = 1), extend("x-also" = ["save_total_limit"]))]
    #[schemars(example = 2)]
    pub keep_checkpoints: Option<usize>,
    /// What all checkpoints of a stage may take together, in GiB; the oldest go first, the newest
    /// always stays.
    #[schemars(extend("exclusiveMinimum" = 0))]
    #[schemars(example = 20.0)]
    pub checkpoints_gib: Option<f64>,
    /// Validations without a new best after which training ends.
    #[schemars(range(min = 1), extend("x-also" = ["early_stopping_patience"]))]
    #[schemars(example = 3)]
    pub early_stop: Option<usize>,
    /// A step's loss above this many times the median of the 32 before it is a spike; before the
    /// ninth step nothing is.
    #[schemars(extend("exclusiveMinimum" = 1))]
    #[schemars(example = 4.0)]
    pub spike_factor: Option<f64>,
    /// Steps with a spike, or with a loss or gradient that is not finite, that change nothing; at
    /// the next one training stops. The batch of each is written to
    /// `state/<stage>.bad-step-<n>.json` in the run directory.
    #[schemars(example = 2)]
    pub max_skips: Option<usize>,
}

/// The learning rate after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Falls to 0 along half a cosine.
    Cosine,
    /// Falls to 0 in a straight line.
    Linear,
    /// Stays.
    Constant,
}

/// What one stage minimises and how, with every default filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Training {
    pub length: Length,
    pub batch_size: usize,
    pub micro_batch_size: usize,
    pub learning_rate: f64,
    pub schedule: Schedule,
    pub warmup_ratio: f64,
    pub weight_decay: f64,
    pub max_grad_norm: f64,
    pub activation_checkpointing: bool,
    pub max_length: usize,
    pub eval_every: usize,
    pub checkpoint_every: usize,
    pub keep_checkpoints: usize,
    pub checkpoints_gib: Option<f64>,
    pub early_stop: Option<usize>,
    pub spike_factor: Option<f64>,
    pub max_skips: usize,
    /// `None` trains every weight.
    pub lora: Option<Lora>,
}

impl Training {
    /// Optimiser steps for `examples` training examples; at least one. A last, smaller batch of an
    /// epoch counts.
    pub fn steps(&self, examples: usize) -> usize {
        self.length.steps(self.batch_size, examples)
    }

    /// What is doubtful about training on so many examples, if anything is. Steps that were asked
    /// for as such are taken at their word.
    pub fn doubt(&self, examples: usize) -> Option<String> {
        self.length.doubt(self.batch_size, examples)
    }

    /// `table` over `default`; naming `steps` or `epochs` replaces the default length, and a
    /// micro-batch not given is the largest divisor of the batch up to the default one.
    pub fn resolve(table: &TrainingTable, default: Self) -> Self {
        let batch_size = table.batch_size.unwrap_or(default.batch_size);
        let most = default.micro_batch_size;
        let micro = table.micro_batch_size.unwrap_or_else(|| largest_divisor(batch_size, most));
        Self {
            length: match (table.steps, table.epochs) {
                (Some(steps), _) => Length::Steps(steps),
                (None, Some(epochs)) => Length::Epochs(epochs),
                (None, None) => default.length,
            },
            batch_size,
            micro_batch_size: micro,
            learning_rate: table.learning_rate.unwrap_or(default.learning_rate),
            schedule: table.schedule.unwrap_or(default.schedule),
            warmup_ratio: table.warmup_ratio.unwrap_or(default.warmup_ratio),
            weight_decay: table.weight_decay.unwrap_or(default.weight_decay),
            max_grad_norm: table.max_grad_norm.unwrap_or(default.max_grad_norm),
            activation_checkpointing: table
                .activation_checkpointing
                .unwrap_or(default.activation_checkpointing),
            max_length: table.max_length.unwrap_or(default.max_length),
            eval_every: table.eval_every.unwrap_or(default.eval_every),
            checkpoint_every: table.checkpoint_every.unwrap_or(default.checkpoint_every),
            keep_checkpoints: table.keep_checkpoints.unwrap_or(default.keep_checkpoints),
            checkpoints_gib: table.checkpoints_gib.or(default.checkpoints_gib),
            early_stop: table.early_stop.or(default.early_stop),
            spike_factor: table.spike_factor.or(default.spike_factor),
            max_skips: table.max_skips.unwrap_or(default.max_skips),
            lora: default.lora,
        }
    }

    /// The values that the weights that are kept depend on: where there is validation, the best of
    /// those that were validated.
    pub fn outcome(&self) -> Value {
        let Self {
            length,
            batch_size,
            micro_batch_size: _,
            learning_rate,
            schedule,
            warmup_ratio,
            weight_decay,
            max_grad_norm,
            activation_checkpointing: _,
            max_length,
            eval_every,
            checkpoint_every: _,
            keep_checkpoints: _,
            checkpoints_gib: _,
            early_stop,
            spike_factor,
            // A training that comes to its end has passed over the same batches whatever the limit.
            max_skips: _,
            lora,
        } = self;
        json!({
            "length": length,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "schedule": schedule,
            "warmup_ratio": warmup_ratio,
            "weight_decay": weight_decay,
            "max_grad_norm": max_grad_norm,
            "max_length": max_length,
            "eval_every": eval_every,
            "early_stop": early_stop,
            "spike_factor": spike_factor,
            "lora": lora,
        })
    }

    /// The settled values by the keys of the table.
    pub(in crate::recipe) fn as_keys(&self) -> Map<String, Value> {
        let Value::Object(mut keys) = json!(self) else { return Map::new() };
        if let Some(Value::Object(length)) = keys.remove("length") {
            keys.extend(length);
        }
        keys
    }

    /// Pretraining of a small model on windows of the texts.
    pub fn pretrain() -> Self {
        Self {
            length: Length::Epochs(1.0),
            batch_size: 16,
            micro_batch_size: 16,
            learning_rate: 1e-3,
            schedule: Schedule::Cosine,
            warmup_ratio: 0.05,
            weight_decay: 0.1,
            max_grad_norm: 1.0,
            activation_checkpointing: false,
            max_length: 128,
            eval_every: 100,
            checkpoint_every: 100,
            keep_checkpoints: 1,
            checkpoints_gib: None,
            early_stop: None,
            spike_factor: None,
            max_skips: 0,
            lora: None,
        }
    }

    pub fn gold() -> Self {
        Self {
            length: Length::Epochs(3.0),
            learning_rate: 5e-4,
            weight_decay: 0.01,
            ..Self::pretrain()
        }
    }

    /// Paper B.1: batch 64, lr 2e-5, cosine, one epoch.
    pub fn sft() -> Self {
        Self { batch_size: 64, learning_rate: 2e-5, weight_decay: 0.0, ..Self::pretrain() }
    }

    /// Paper B.1.4: batch 32, lr 5e-6, cosine, one epoch. The head has a rate of its own.
    pub fn reward_model() -> Self {
        Self { batch_size: 32, learning_rate: 5e-6, ..Self::sft() }
    }

    /// Paper B.1: batch 256, lr 1e-6, cosine, one epoch.
    pub fn dpo() -> Self {
        Self { batch_size: 256, learning_rate: 1e-6, ..Self::sft() }
    }

    /// TRL's PPO: lr 3e-6, falling linearly.
    pub fn ppo() -> Self {
        Self {
            length: Length::Steps(100),
            batch_size: 64,
            learning_rate: 3e-6,
            schedule: Schedule::Linear,
            warmup_ratio: 0.0,
            weight_decay: 0.0,
            eval_every: 10,
            checkpoint_every: 10,
            ..Self::pretrain()
        }
    }

    /// The same on texts that a model with this context can read.
    pub(in crate::recipe) fn within(self, context: Option<u64>) -> Self {
        let most = context.and_then(|context| usize::try_from(context).ok()).unwrap_or(usize::MAX);
        Self { max_length: self.max_length.min(most), ..self }
    }

    /// The same with room for texts of `longest` tokens, unless the model sees less.
    pub(super) fn roomy(self, longest: usize, context: Option<u64>) -> Self {
        Self { max_length: self.max_length.max(longest), ..self }.within(context)
    }

    /// The same with the adapters that `table` asks for of a model of these sizes.
    pub(super) fn with_lora(self, table: &Option<LoraTable>, sizes: Option<&LmSizes>) -> Self {
        Self { lora: table.as_ref().map(|table| Lora::resolve(table, sizes)), ..self }
    }

    /// One line on the adapters, if there are any.
    pub(super) fn lora_words(&self, sizes: Option<&LmSizes>, out: &mut String) -> fmt::Result {
        let (Some(lora), Some(sizes)) = (&self.lora, sizes) else { return Ok(()) };
        lora.words(sizes, out)
    }

    /// One line on the optimisation; `examples` where their number is known before the run, each of
    /// `texts` texts.
    pub(super) fn words(
        &self,
        out: &mut String,
        examples: Option<usize>,
        texts: u64,
    ) -> fmt::Result {
        match (self.length, examples) {
            (Length::Steps(steps), _) => write!(out, "{} steps", grouped(steps as u64))?,
            (Length::Epochs(epochs), Some(examples)) => {
                let steps = grouped(self.steps(examples) as u64);
                let (epochs, examples) = (epochs_in_words(epochs), grouped(examples as u64));
                write!(out, "{epochs} of {examples} examples = {steps} steps")?;
            }
            (Length::Epochs(epochs), None) => {
                write!(out, "{} (steps follow from the data)", epochs_in_words(epochs))?;
            }
        }
        let Self { batch_size, micro_batch_size, max_length, .. } = *self;
        let tokens = grouped(product(&[batch_size as u64, texts, max_length as u64]));
        let of = if texts == 1 { String::new() } else { format!("{texts} texts of ") };
        let micro_batches = batch_size / micro_batch_size;
        write!(out, ", batch {batch_size} = {micro_batches} × {micro_batch_size}, ")?;
        writeln!(out, "{of}up to {max_length} tokens: {tokens} tokens a step")?;
        self.optimisation_words(out)?;
        let Self { eval_every, checkpoint_every, .. } = self;
        writeln!(out, "; validated every {eval_every} steps, checkpoint every {checkpoint_every}")?;
        let doubt = examples.and_then(|examples| self.doubt(examples));
        doubt.into_iter().try_for_each(|doubt| writeln!(out, "       warning: {doubt}"))
    }

    /// How the weights are stepped, without the end of the line.
    pub(super) fn optimisation_words(&self, out: &mut String) -> fmt::Result {
        let Self { learning_rate, warmup_ratio, weight_decay, max_grad_norm, .. } = self;
        let schedule = match self.schedule {
            Schedule::Cosine => "cosine",
            Schedule::Linear => "linear",
            Schedule::Constant => "constant",
        };
        write!(out, "       learning rate {learning_rate:e} {schedule} after warm-up ")?;
        write!(out, "{warmup_ratio}, weight decay {weight_decay}")?;
        write!(out, ", gradient norm up to {max_grad_norm}")?;
        if self.activation_checkpointing {
            write!(out, ", activation checkpointing")?;
        }
        let Self { early_stop, spike_factor, max_skips, keep_checkpoints, checkpoints_gib, .. } =
            *self;
        let optional = [
            early_stop.map(|count| format!("early stop after {count} validations")),
            spike_factor.map(|factor| format!("a spike is {factor} times the median loss")),
            (max_skips > 0).then(|| format!("up to {max_skips} bad batches are skipped")),
            (keep_checkpoints > 1).then(|| format!("{keep_checkpoints} checkpoints are kept")),
            checkpoints_gib.map(|gib| format!("checkpoints take up to {gib} GiB")),
        ];
        optional.into_iter().flatten().try_for_each(|words| write!(out, ", {words}"))
    }
}

fn epochs_in_words(epochs: f64) -> String {
    if epochs == 1.0 { "1 epoch".to_owned() } else { format!("{epochs} epochs") }
}

pub(super) fn largest_divisor(whole: usize, most: usize) -> usize {
    (1..=most.min(whole)).rev().find(|divisor| whole.is_multiple_of(*divisor)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_micro_batch_not_given_divides_its_batch() {
        let micro_batch = |batch_size| {
            let table = TrainingTable { batch_size: Some(batch_size), ..Default::default() };
            Training::resolve(&table, Training::sft()).micro_batch_size
        };
        assert_eq!([4, 24, 64, 17].map(micro_batch), [4, 12, 16, 1]);
    }
}
