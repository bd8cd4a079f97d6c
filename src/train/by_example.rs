//! The steps of a task that learns from examples: batches in a seeded order, micro-batches
//! accumulated with their true weights. The loop around them is `run.rs`, what comes of it
//! `fit.rs`.

use std::path::Path;
use std::time::Instant;

use tch::Tensor;
use tracing::{info, warn};

use super::run::{BadStep, Stepped, Stride, Trainee, Validation};
use super::task::{StepLoss, Task, accumulate};
use crate::error::Result;
use crate::monitor::glossary;
use crate::monitor::number::fixed;
use crate::recipe::Training;
use crate::sampling::Stream;

/// A task whose steps are batches of its examples.
pub(super) struct ByExample<'a> {
    pub stage: &'a str,
    pub training: &'a Training,
    pub seed: u64,
    pub task: &'a mut dyn Task,
    pub steps: usize,
}

impl Trainee for ByExample<'_> {
    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.task.parameters()
    }

    fn learning_rate_factor(&self, name: &str) -> f64 {
        self.task.learning_rate_factor(name)
    }

    fn begin(&mut self, _done: usize) -> Result<()> {
        let Self { stage, training, steps, .. } = self;
        let examples = self.task.examples();
        info!(
            "{stage}: {steps} optimiser steps, {examples} examples in batches of {}",
            training.batch_size
        );
        if let Some(doubt) = training.doubt(examples) {
            warn!("{stage}: {doubt}");
        }
        Ok(())
    }

    fn step(&mut self, Stride { step, rate, optimizer, position }: Stride) -> Result<Stepped> {
        let (training, started) = (self.training, Instant::now());
        let batch = batch(self.seed, self.stage, self.task.examples(), training.batch_size, step);
        let StepLoss { mut metrics, tokens } =
            accumulate(self.task, optimizer, &batch, training.micro_batch_size)?;
        let (loss, weight) = metrics.sum(glossary::LOSS);
        let norm = optimizer.finish_gradients(weight, training.max_grad_norm)?;
        let complaint = position.watchdog.complaint(loss / weight, norm, training.spike_factor);
        if complaint.is_none() {
            optimizer.step(rate)?;
        }
        metrics.set(glossary::GRAD_NORM, norm);
        metrics.set(glossary::LEARNING_RATE, rate);
        metrics.set(glossary::TOKENS_PER_SECOND, tokens as f64 / started.elapsed().as_secs_f64());
        let examples = || batch.iter().map(|&example| self.task.describe(example)).collect();
        let bad = complaint.map(|complaint| BadStep { complaint, batch: ("examples", examples()) });
        Ok(Stepped { metrics, note: format!("loss {}", fixed(loss / weight, 4)), bad })
    }

    fn validate(&mut self, _done: usize) -> Result<Option<Validation>> {
        Ok(Some(Validation { metrics: self.task.validate()?, sample: self.task.sample()? }))
    }

    fn minimises(&self) -> Option<&'static str> {
        Some(glossary::LOSS)
    }

    fn refusal(&self, complaint: &str, step: usize, file: &Path) -> String {
        let Self { stage, training: Training { max_skips, spike_factor, .. }, .. } = self;
        format!(
            "stage `{stage}`: {complaint} at step {step}; the last checkpoint is intact, the batch \
             is in {}\n\n\
             hint: in the stage's `training` lower `learning_rate`, raise `warmup_ratio`, or let \
             more batches pass: `max_skips` is {max_skips}{}. With more `max_skips` it goes on \
             from its checkpoint, with another of these it starts anew",
            file.display(),
            spike_factor.map_or_else(String::new, |factor| format!(", `spike_factor` {factor}"))
        )
    }
}

/// The examples of optimiser step `step`: each epoch is a fresh permutation from (seed, stage,
/// epoch); its last batch may be smaller.
pub(super) fn batch(
    seed: u64,
    stage: &str,
    examples: usize,
    batch_size: usize,
    step: usize,
) -> Vec<usize> {
    let per_epoch = examples.div_ceil(batch_size);
    let (epoch, within) = (step / per_epoch, step % per_epoch);
    let order = Stream::new(seed, stage, &format!("epoch-{epoch}")).permutation(examples);
    order[within * batch_size..examples.min((within + 1) * batch_size)].to_vec()
}
