//! What one stage minimises and how, with every default filled in.

use serde::{Deserialize, Serialize};

use super::Lora;
use super::tuning_tables::{Direct, Dpo, Schedule, TrainingTable, default_beta};
use crate::losses::DpoObjective;

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

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    Steps(usize),
    Epochs(f64),
}

/// Fewer optimiser steps than this hardly teach anything.
const FEW_STEPS: usize = 10;

impl Training {
    /// What is doubtful about training on so many examples, if anything is. Steps that were asked
    /// for as such are taken at their word.
    pub fn doubt(&self, examples: usize) -> Option<String> {
        let (steps, batch_size) = (self.steps(examples), self.batch_size);
        let is_large = batch_size > examples;
        let Length::Epochs(epochs) = self.length else {
            return is_large.then(|| {
                format!(
                    "`batch_size` is {batch_size}, and there are only {examples} \
                                  examples: every step takes all of them"
                )
            });
        };
        let plural = if steps == 1 { "" } else { "s" };
        let than = if is_large { ", more than there are" } else { "" };
        (steps < FEW_STEPS || is_large).then(|| {
            format!(
                "only {steps} optimiser step{plural} ({epochs} × {examples} examples in batches of \
                 {batch_size}{than}), in which little is \
                 learned: lower `batch_size`, raise `epochs` or set `steps`"
            )
        })
    }

    /// Optimiser steps for `examples` training examples; at least one. A last, smaller batch of an
    /// epoch counts.
    pub fn steps(&self, examples: usize) -> usize {
        match self.length {
            Length::Steps(steps) => steps,
            Length::Epochs(epochs) => {
                ((examples.div_ceil(self.batch_size) as f64 * epochs).round() as usize).max(1)
            }
        }
    }

    /// `table` over `default`; naming `steps` or `epochs` replaces the default length, and a
    /// micro-batch not given is the largest divisor of the batch up to the default one.
    pub fn resolve(table: &TrainingTable, default: Self) -> Self {
        let batch_size = table.batch_size.unwrap_or(default.batch_size);
        Self {
            length: match (table.steps, table.epochs) {
                (Some(steps), _) => Length::Steps(steps),
                (None, Some(epochs)) => Length::Epochs(epochs),
                (None, None) => default.length,
            },
            batch_size,
            micro_batch_size: table
                .micro_batch_size
                .unwrap_or_else(|| largest_divisor(batch_size, default.micro_batch_size)),
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
        Self {
            length: Length::Epochs(1.0),
            batch_size: 64,
            learning_rate: 2e-5,
            weight_decay: 0.0,
            ..Self::pretrain()
        }
    }

    /// Paper B.1.4: cosine, one epoch. The rate is the body's; the head has its own.
    pub fn reward_model() -> Self {
        Self {
            length: Length::Epochs(1.0),
            batch_size: 64,
            learning_rate: 2e-5,
            weight_decay: 0.0,
            ..Self::pretrain()
        }
    }

    /// Paper B.1: batch 256, lr 1e-6, cosine, one epoch.
    pub fn dpo() -> Self {
        Self {
            length: Length::Epochs(1.0),
            batch_size: 256,
            learning_rate: 1e-6,
            weight_decay: 0.0,
            ..Self::pretrain()
        }
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
}

impl Dpo {
    pub fn objective(&self) -> DpoObjective {
        let Self { loss, beta, label_smoothing, training: _, lora: _ } = *self;
        DpoObjective { loss, beta, label_smoothing }
    }
}

impl Direct {
    /// That of `[dpo]` but for what is said here. Its label smoothing goes only with its loss.
    pub fn objective(&self, dpo: Option<&Dpo>) -> DpoObjective {
        let Self { models: _, loss, beta, label_smoothing, sft: _, dpo: _, lora: _ } = self;
        let inherited = dpo.map(Dpo::objective);
        let loss = loss.or(inherited.map(|dpo| dpo.loss)).unwrap_or_default();
        let smoothing = inherited.filter(|dpo| dpo.loss == loss).map(|dpo| dpo.label_smoothing);
        DpoObjective {
            loss,
            beta: beta.or(inherited.map(|dpo| dpo.beta)).unwrap_or_else(default_beta),
            label_smoothing: label_smoothing.or(smoothing).unwrap_or_default(),
        }
    }
}

pub(super) fn largest_divisor(whole: usize, most: usize) -> usize {
    (1..=most.min(whole)).rev().find(|divisor| whole.is_multiple_of(*divisor)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_micro_batch_not_given_divides_its_batch() {
        let resolved = |batch_size| {
            Training::resolve(
                &TrainingTable { batch_size: Some(batch_size), ..Default::default() },
                Training::sft(),
            )
        };
        assert_eq!([4, 24, 64, 17].map(|batch| resolved(batch).micro_batch_size), [4, 12, 16, 1]);
    }

    #[test]
    fn steps_count_the_last_smaller_batch() {
        let training = Training { length: Length::Epochs(2.0), batch_size: 16, ..Training::sft() };
        assert_eq!([1, 16, 17, 100].map(|examples| training.steps(examples)), [2, 2, 4, 14]);
        assert_eq!(Training { length: Length::Steps(5), ..training }.steps(100), 5);
    }

    #[test]
    fn few_steps_and_batches_larger_than_the_data_are_doubtful() {
        let doubt =
            |training: &Training, examples: usize| training.doubt(examples).unwrap_or_default();
        let defaults = doubt(&Training::dpo(), 36);
        assert!(
            defaults.starts_with(
                "only 1 optimiser step (1 × 36 examples in batches of 256, more \
                                  than there are), in which"
            ),
            "{defaults}"
        );
        let few = doubt(&Training { batch_size: 4, ..Training::dpo() }, 36);
        assert!(
            few.starts_with(
                "only 9 optimiser steps (1 × 36 examples in batches of 4), in \
                                 which"
            ),
            "{few}"
        );
        assert_eq!(doubt(&Training { batch_size: 4, ..Training::dpo() }, 37), "");
        let asked = Training { length: Length::Steps(1), ..Training::dpo() };
        assert_eq!(doubt(&asked, 256), "", "one step was asked for");
        assert!(
            doubt(&asked, 255).contains("`batch_size` is 256, and there are only 255 examples")
        );
    }
}
