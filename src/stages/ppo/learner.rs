//! The steps of one PPO training: rollouts, rewards, updates; journals, metrics, validation. The
//! losses are in `losses`, the update in `train/tasks/ppo.rs`.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value as Json, json};
use tch::Tensor;

use super::cell::PpoCell;
use super::journals::Journals;
use super::records::{RolloutLine, Seconds, StepLine, ValidationLine};
use super::rollouts::{Batch, Sampler};
use crate::error::{Error, Result};
use crate::losses::adapt_kl_coefficient;
use crate::monitor::glossary;
use crate::monitor::number::fixed;
use crate::prompt::Prompt;
use crate::report::distinct;
use crate::sampling::Stream;
use crate::score::{Judge, ToJudge};
use crate::search::Finish;
use crate::train::tasks::Ppo;
use crate::train::{BadStep, Metrics, Stepped, Stride, Trainee, Validation};

/// A policy that learns from its own rollouts.
pub struct Learner<'a> {
    pub cell: &'a PpoCell<'a>,
    pub ppo: Ppo<'a>,
    pub sampler: Sampler<'a>,
    pub train: Vec<Prompt>,
    pub validation: Vec<Prompt>,
    /// What judges the answers to the validation prompts.
    pub gold: Option<Judge>,
    pub journals: Journals,
}

impl Trainee for Learner<'_> {
    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.ppo.parameters()
    }

    fn learning_rate_factor(&self, name: &str) -> f64 {
        let PpoCell { table, training, .. } = self.cell;
        if name.starts_with("value_head.") {
            table.head_learning_rate / training.learning_rate
        } else {
            1.0
        }
    }

    /// The policy, without the value beside it.
    fn is_result(&self, name: &str) -> bool {
        !name.starts_with("value_")
    }

    fn begin(&mut self, done: usize) -> Result<()> {
        self.journals.cut(done)
    }

    fn step(&mut self, Stride { step, rate, optimizer, position }: Stride) -> Result<Stepped> {
        let PpoCell { task, table, seed, .. } = self.cell;
        // 1. A response to each prompt of the step, and what its tokens earn.
        let asked = of_step(self.cell, &self.train, step);
        let batch = self.sampler.sample("ppo", step + 1, &asked)?;
        if let Some((line, rewards)) = unusable(&batch) {
            return Ok(refused(
                format!("the response to prompt `{}` earns {rewards:?}", line.id),
                &batch,
            ));
        }
        // 2. Updates of policy and value.
        let coefficient = position.kl_coef.unwrap_or(table.kl.coef);
        let order = |epoch: usize| {
            Stream::new(*seed, task, &format!("order-{step}-{epoch}")).permutation(asked.len())
        };
        let started = Instant::now();
        let mut metrics =
            match self.ppo.update(optimizer, &batch.rollouts, coefficient, rate, &order) {
                Err(Error::Failed(complaint)) => return Ok(refused(complaint, &batch)),
                updated => updated?,
            };
        let seconds = Seconds { update: started.elapsed().as_secs_f64(), ..batch.seconds };
        // 3. What a nat of divergence costs in the next step.
        let line = self.journals.step(&batch, &metrics, step + 1, seconds)?;
        if let Some(target) = table.kl.target {
            position.kl_coef = Some(adapt_kl_coefficient(
                coefficient,
                line.kl,
                target,
                table.kl.horizon(),
                asked.len(),
            ));
        }
        // 4. Metrics.
        metrics.set(glossary::PPO_KL_COEF, coefficient);
        metrics.set(glossary::LEARNING_RATE, rate);
        add_step(&mut metrics, &batch, &line);
        Ok(Stepped {
            metrics,
            note: format!("score {}, kl {}", fixed(line.score, 3), fixed(line.kl, 2)),
            bad: None,
        })
    }

    /// The policy on the validation prompts, from the same streams each time.
    fn validate(&mut self, done: usize) -> Result<Option<Validation>> {
        if self.validation.is_empty() {
            return Ok(None);
        }
        let batch = self.sampler.sample(
            "ppo/validation",
            0,
            &self.validation.iter().collect::<Vec<_>>(),
        )?;
        let line = validation_line(&batch, self.gold.as_ref(), done)?;
        self.journals.validation(&line)?;
        let mut metrics = Metrics::default();
        metrics.set(glossary::SCORE, line.score);
        line.gold_reward.iter().for_each(|reward| metrics.set(glossary::GOLD_REWARD, *reward));
        metrics.set(glossary::RESPONSE_TOKENS, line.tokens);
        metrics.set(glossary::COMPLETE, line.complete_fraction);
        metrics.set(glossary::DISTINCT_1, line.distinct_1);
        metrics.set(glossary::DISTINCT_2, line.distinct_2);
        let sample = batch.lines.first().map(|line| format!("{}{}", line.prompt, line.response));
        Ok(Some(Validation { metrics, sample }))
    }

    fn is_validated_untrained(&self) -> bool {
        true
    }

    fn minimises(&self) -> Option<&'static str> {
        None
    }

    fn refusal(&self, complaint: &str, step: usize, file: &Path) -> String {
        format!(
            "`{}`: {complaint} at step {step}; the batch is in {}, checkpoints are as they were\n\n\
             hint: look at the guides where the rewards are not finite; else lower `learning_rate` \
             in `ppo.training`",
            self.cell.task,
            file.display()
        )
    }
}

/// The prompts of a step (from 0): each pass over all of them is a fresh permutation, of which a
/// rest that fills no batch is left out.
fn of_step<'a>(cell: &PpoCell, prompts: &'a [Prompt], step: usize) -> Vec<&'a Prompt> {
    let batch = cell.training.batch_size;
    let per_pass = prompts.len() / batch;
    // The same for every chunk length.
    let order = Stream::new(cell.seed, "ppo/prompts", &format!("{}", step / per_pass))
        .permutation(prompts.len());
    order[step % per_pass * batch..][..batch].iter().map(|&i| &prompts[i]).collect()
}

/// The first rollout whose rewards are not all numbers.
fn unusable(batch: &Batch) -> Option<(&RolloutLine, &[f64])> {
    let rewards = batch.rollouts.iter().map(|rollout| rollout.rewards.as_slice());
    batch
        .lines
        .iter()
        .zip(rewards)
        .find(|(_, rewards)| rewards.iter().any(|reward| !reward.is_finite()))
}

/// A step that was not taken, with its rollouts.
fn refused(complaint: String, batch: &Batch) -> Stepped {
    let of_rollout = |(line, rewards): (&RolloutLine, &Vec<f64>)| -> Json {
        // JSON has no word for NaN.
        let rewards: Vec<String> = rewards.iter().map(f64::to_string).collect();
        json!({
            "id": line.id,
            "prompt": line.prompt,
            "response": line.response,
            "finish": line.finish,
            "rewards": rewards
        })
    };
    let rewards = batch.rollouts.iter().map(|rollout| &rollout.rewards);
    let rollouts = batch.lines.iter().zip(rewards).map(of_rollout).collect();
    Stepped {
        metrics: Metrics::default(),
        note: String::new(),
        bad: Some(BadStep { complaint, batch: ("rollouts", rollouts) }),
    }
}

/// Adds how long the responses of a step are and where its time went.
fn add_step(
    metrics: &mut Metrics,
    batch: &Batch,
    StepLine { tokens, seconds, rollouts, .. }: &StepLine,
) {
    metrics.set(
        glossary::PPO_NUM_EOS,
        batch.lines.iter().filter(|line| line.finish == Finish::Eos).count() as f64,
    );
    metrics.set(glossary::RESPONSE_TOKENS, *tokens);
    metrics.set(glossary::SECONDS_ROLLOUT, seconds.rollout);
    metrics.set(glossary::SECONDS_REWARD, seconds.reward);
    metrics.set(glossary::SECONDS_UPDATE, seconds.update);
    metrics.set(glossary::ROLLOUTS_PER_SECOND, *rollouts as f64 / seconds.all());
}

/// Means over the answers of a validation after `step` steps.
fn validation_line(batch: &Batch, gold: Option<&Judge>, step: usize) -> Result<ValidationLine> {
    let answers: Vec<ToJudge> = batch
        .lines
        .iter()
        .map(|line| ToJudge::new(&line.id, &line.prompt, &line.response))
        .collect();
    let mean = |of: &dyn Fn(&RolloutLine) -> f64| {
        batch.lines.iter().map(of).sum::<f64>() / batch.lines.len() as f64
    };
    let gold_reward = gold.map(|gold| gold.rewards(&answers)).transpose()?;
    Ok(ValidationLine {
        step,
        score: mean(&|line| line.score),
        guide_score: mean(&|line| line.guide_score),
        gold_reward: gold_reward.map(|rewards| rewards.iter().sum::<f64>() / rewards.len() as f64),
        tokens: mean(&|line| line.tokens as f64),
        complete_fraction: mean(&|line| f64::from(line.finish == Finish::Eos)),
        distinct_1: distinct(1, answers.iter().map(|answer| answer.response)),
        distinct_2: distinct(2, answers.iter().map(|answer| answer.response)),
    })
}
