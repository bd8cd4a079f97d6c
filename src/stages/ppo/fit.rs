//! The loop of one PPO training: rollouts, rewards, updates; journals, metrics, validation, checkpoints.

use std::rc::Rc;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value as Json, json};
use tch::Tensor;
use tracing::{info, warn};

use super::cell::Cell;
use super::records::{RolloutLine, Seconds, StepLine, ValidationLine, entries, open_at};
use super::rollouts::{Batch, Sampler};
use crate::artifacts::{Journal, atomic, interrupt};
use crate::error::{Error, Result};
use crate::losses::adapt_kl_coefficient;
use crate::models::device::training_kind;
use crate::models::open_with_tokenizer;
use crate::monitor::{Monitor, PeakMemory, Progress, RunMonitor, glossary};
use crate::recipe::{PpoTable, Training, ValueSource};
use crate::report::distinct;
use crate::sampling::Stream;
use crate::score::GoldReward;
use crate::search::Finish;
use crate::stages::context::Context;
use crate::stages::placements::Placement;
use crate::stages::prompt_room::Prompts;
use crate::stages::run::write_json;
use crate::stages::tuning::Trainable;
use crate::text::{self, Split};
use crate::train::{AdamW, AdamWSettings, Metrics, Position, Ppo, PpoSettings, Start, Value, learning_rate};

/// `training.json` of a finished training.
#[derive(Serialize)]
struct Report {
    steps: usize,
    rollouts: usize,
    seconds: Seconds,
    rollouts_per_second: f64,
    /// Whether any weight of the policy is other than at the start.
    changed: bool,
    /// The first and the last one.
    validation: Vec<ValidationLine>,
}

pub fn train(context: &Context, cell: &Cell) -> Result<()> {
    let Cell { task, table, training, .. } = cell;
    let folder = context.models.folder(&table.policy)?;
    let model = Trainable::open(context, &table.policy, &folder, task, training.lora.as_ref())?;
    let mut sampler = Sampler::open(context, cell, &model)?;
    let (train, validation) = prompts(context, cell)?;
    let Placement { device, kind } = context.models.placement(&table.policy)?;
    let (reference, _) = open_with_tokenizer(&folder, device, training_kind(kind))?;
    let value = match table.value {
        ValueSource::Head => Value::head(&model.lm),
        ValueSource::Model => Value::model(Trainable::open(context, &table.policy, &folder, task, None)?.lm),
    };
    let settings = settings(table, training);
    let ppo = Ppo { settings: &settings, policy: model.lm.clone(), reference: Rc::new(reference), value };
    let head_factor = table.head_learning_rate / training.learning_rate;
    let mut optimizer = AdamW::new(ppo.parameters(), AdamWSettings::with_decay(training.weight_decay))
        .with_learning_rate_factors(|name| if name.starts_with("value_head.") { head_factor } else { 1.0 });
    let start = Start::of(&policy_weights(&optimizer));
    let checkpoint = context.run.checkpoint(task);
    let mut position = checkpoint.load(&mut optimizer)?.map(|(position, _)| position).unwrap_or_default();
    let steps = training.steps(train.len());
    let resumed = (position.step > 0).then_some(position.step as u64);
    if let Some(step) = resumed {
        info!("{task}: continues after step {step} of {steps}");
    }
    let gold = match context.recipe().gold {
        Some(_) if !validation.is_empty() => Some(context.models.open_gold()?),
        _ => None,
    };
    let mut journals = Journals::open(context, cell, position.step)?;
    let mut monitor = RunMonitor::open(context.run.dir(), task, resumed)?;
    let mut progress = Progress::start(task, steps as u64, position.step as u64);
    let mut memory = PeakMemory::default();
    if position.step == 0 {
        validate(&mut sampler, gold.as_ref(), &validation, 0, &mut journals, &mut monitor)?;
    }
    while position.step < steps {
        let step = position.step;
        let asked = of_step(cell, &train, step);
        let batch = sampler.sample("ppo", step + 1, &asked)?;
        let dump = |complaint: String| -> Error { dump(context, cell, step + 1, &complaint, &batch) };
        if let Some((line, rollout)) = unusable(&batch) {
            return Err(dump(format!("the response to prompt `{}` earns {:?}", line.id, rollout)));
        }
        let coefficient = position.kl_coef.unwrap_or(table.kl.coef);
        let rate = learning_rate(training, step, steps);
        let order = |epoch: usize| Stream::new(cell.seed, task, &format!("order-{step}-{epoch}")).permutation(asked.len());
        let started = Instant::now();
        let metrics = ppo.update(&mut optimizer, &batch.rollouts, coefficient, rate, &order).map_err(|error| match error {
            Error::Failed(complaint) => dump(complaint),
            other => other,
        })?;
        let seconds = Seconds { update: started.elapsed().as_secs_f64(), ..batch.seconds };
        position = Position { step: step + 1, optimizer_step: optimizer.state().0, ..position };
        if let Some(target) = table.kl.target {
            let kl = metric(&metrics, glossary::PPO_KL);
            position.kl_coef = Some(adapt_kl_coefficient(coefficient, kl, target, table.kl.horizon(), asked.len()));
        }
        let line = journals.step(&batch, &metrics, position.step, seconds)?;
        let mut values = metrics;
        values.extend([
            (glossary::PPO_KL_COEF, coefficient),
            (glossary::LEARNING_RATE, rate),
            (glossary::PPO_NUM_EOS, batch.lines.iter().filter(|line| line.finish == Finish::Eos).count() as f64),
            (glossary::RESPONSE_TOKENS, line.tokens),
            (glossary::SECONDS_ROLLOUT, seconds.rollout),
            (glossary::SECONDS_REWARD, seconds.reward),
            (glossary::SECONDS_UPDATE, seconds.update),
            (glossary::ROLLOUTS_PER_SECOND, asked.len() as f64 / seconds.all()),
        ]);
        values.extend(memory.bytes().map(|bytes| (glossary::PEAK_RSS_BYTES, bytes as f64)));
        monitor.scalars(position.step as u64, &values)?;
        progress.note(format!("score {:.3}, kl {:.2}", line.score, line.kl));
        progress.advance(1);
        let last = position.step == steps;
        if position.step % training.eval_every == 0 || last {
            validate(&mut sampler, gold.as_ref(), &validation, position.step, &mut journals, &mut monitor)?;
        }
        let stopping = interrupt::requested();
        if position.step % training.checkpoint_every == 0 || last || stopping {
            let bytes = training.checkpoints_gib.map(|gib| (gib * (1u64 << 30) as f64) as u64);
            checkpoint.save(&position, &optimizer, None, training.keep_checkpoints, bytes)?;
            monitor.flush()?;
        }
        if stopping && !last {
            return Err(Error::Interrupted);
        }
    }
    progress.finish();
    let folder = context.run.path(task);
    let policy = policy_weights(&optimizer);
    let changed = start.has_changed(task, &policy, &position, training.learning_rate);
    model.save(&folder, &policy, training.lora.as_ref())?;
    let report = journals.report(changed)?;
    let Seconds { rollout, reward, update } = report.seconds.shares();
    info!(
        "{task}: {} rollouts, {:.1} a second: {rollout:.0} % of the time in rollouts, {reward:.0} % in rewards, {update:.0} % in updates",
        report.rollouts, report.rollouts_per_second
    );
    write_json(&folder.join("training.json"), &report)
}

/// What the policy is made of, without the value beside it.
fn policy_weights(optimizer: &AdamW) -> Vec<(String, Tensor)> {
    optimizer.weights().into_iter().filter(|(name, _)| !name.starts_with("value_")).collect()
}

/// Prompts of the training and of the validation split.
fn prompts(context: &Context, cell: &Cell) -> Result<(Prompts, Prompts)> {
    let PpoTable { prompts, validation_prompts, .. } = *cell.table;
    let of = |split: Split, asked: usize| -> Result<Prompts> {
        let text::Prompts { prompts, seen } = context.prompts(split, asked)?;
        let (found, seen) = (prompts.len(), seen.len());
        if found < asked {
            warn!("{}: only {found} {split} texts make a prompt, and {seen} one of training texts; {asked} were asked for", cell.task);
        } else if seen > 0 {
            info!("{}: {seen} {split} texts are passed over, for training texts make the same prompts", cell.task);
        }
        Ok(prompts)
    };
    let (train, validation) = (of(Split::Train, prompts)?, of(Split::Validation, validation_prompts)?);
    let batch = cell.training.batch_size;
    if train.len() < batch {
        return Err(Error::failed(format!(
            "`{}`: {} training prompts do not fill a batch of {batch} rollouts\n\nhint: lower `ppo.training.batch_size`, or give more texts",
            cell.task,
            train.len()
        )));
    }
    Ok((train, validation))
}

/// The prompts of a step (from 0): each pass over all of them is a fresh permutation, of which a rest that fills no batch is left out.
fn of_step<'a>(cell: &Cell, prompts: &'a Prompts, step: usize) -> Vec<&'a (String, String)> {
    let batch = cell.training.batch_size;
    let per_pass = prompts.len() / batch;
    // The same for every chunk length.
    let order = Stream::new(cell.seed, "ppo/prompts", &format!("{}", step / per_pass)).permutation(prompts.len());
    order[step % per_pass * batch..][..batch].iter().map(|&i| &prompts[i]).collect()
}

fn settings(table: &PpoTable, training: &Training) -> PpoSettings {
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

/// The first rollout whose rewards are not all numbers.
fn unusable(batch: &Batch) -> Option<(&RolloutLine, &[f64])> {
    let rewards = batch.rollouts.iter().map(|rollout| rollout.rewards.as_slice());
    batch.lines.iter().zip(rewards).find(|(_, rewards)| rewards.iter().any(|reward| !reward.is_finite()))
}

/// Writes the batch down; the error says where.
fn dump(context: &Context, cell: &Cell, step: usize, complaint: &str, batch: &Batch) -> Error {
    let file = context.run.path(&format!("state/{}.bad-step-{step}.json", cell.task.replace('/', "-")));
    let of_rollout = |(line, rewards): (&RolloutLine, &Vec<f64>)| -> Json {
        // JSON has no word for NaN.
        let rewards: Vec<String> = rewards.iter().map(f64::to_string).collect();
        json!({ "id": line.id, "prompt": line.prompt, "response": line.response, "finish": line.finish, "rewards": rewards })
    };
    let rollouts: Vec<Json> = batch.lines.iter().zip(batch.rollouts.iter().map(|rollout| &rollout.rewards)).map(of_rollout).collect();
    let content = json!({ "stage": cell.task, "step": step, "complaint": complaint, "rollouts": rollouts });
    match atomic::write(&file, format!("{content:#}\n").as_bytes()) {
        Err(error) => error,
        Ok(()) => Error::failed(format!(
            "`{}`: {complaint} at step {step}; the batch is in {}, checkpoints are as they were\n\n\
             hint: look at the guides where the rewards are no numbers; else lower `learning_rate` in `ppo.training`",
            cell.task,
            file.display()
        )),
    }
}

fn metric(metrics: &Metrics, name: &str) -> f64 {
    metrics.iter().find(|(known, _)| *known == name).map_or(f64::NAN, |(_, value)| *value)
}

/// Measures the policy on the validation prompts, from the same streams each time.
fn validate(
    sampler: &mut Sampler,
    gold: Option<&GoldReward>,
    prompts: &Prompts,
    step: usize,
    journals: &mut Journals,
    monitor: &mut RunMonitor,
) -> Result<()> {
    if prompts.is_empty() {
        return Ok(());
    }
    let batch = sampler.sample("ppo/validation", 0, &prompts.iter().collect::<Vec<_>>())?;
    let answers: Vec<(&str, &str)> = batch.lines.iter().map(|line| (line.prompt.as_str(), line.response.as_str())).collect();
    let mean = |of: &dyn Fn(&RolloutLine) -> f64| batch.lines.iter().map(of).sum::<f64>() / batch.lines.len() as f64;
    let gold_reward = gold.map(|gold| gold.rewards(&answers)).transpose()?;
    let line = ValidationLine {
        step,
        score: mean(&|line| line.score),
        gold_reward: gold_reward.map(|rewards| rewards.iter().sum::<f64>() / rewards.len() as f64),
        tokens: mean(&|line| line.tokens as f64),
        complete_fraction: mean(&|line| f64::from(line.finish == Finish::Eos)),
        distinct_1: distinct(1, answers.iter().map(|(_, response)| *response)),
        distinct_2: distinct(2, answers.iter().map(|(_, response)| *response)),
    };
    journals.validation.append(&line)?;
    let mut values = vec![(glossary::VALIDATION_SCORE, line.score)];
    values.extend(line.gold_reward.map(|reward| (glossary::VALIDATION_GOLD_REWARD, reward)));
    values.extend([
        (glossary::VALIDATION_RESPONSE_TOKENS, line.tokens),
        (glossary::VALIDATION_COMPLETE, line.complete_fraction),
        (glossary::VALIDATION_DISTINCT_1, line.distinct_1),
        (glossary::VALIDATION_DISTINCT_2, line.distinct_2),
    ]);
    monitor.scalars(step as u64, &values)?;
    let (prompt, response) = answers[0];
    monitor.text(step as u64, "sample", &format!("{prompt}{response}"))
}

struct Journals {
    rollouts: Journal<RolloutLine>,
    steps: Journal<StepLine>,
    validation: Journal<ValidationLine>,
    folder: std::path::PathBuf,
}

impl Journals {
    /// As they were when `done` steps had been made.
    fn open(context: &Context, cell: &Cell, done: usize) -> Result<Self> {
        let folder = context.run.path(&cell.task);
        Ok(Self {
            rollouts: open_at(&folder.join("rollouts.jsonl"), done)?,
            steps: open_at(&folder.join("steps.jsonl"), done)?,
            validation: open_at(&folder.join("validation.jsonl"), done)?,
            folder,
        })
    }

    fn step(&mut self, batch: &Batch, metrics: &Metrics, step: usize, seconds: Seconds) -> Result<StepLine> {
        self.rollouts.append_all(&batch.lines)?;
        let line = StepLine {
            step,
            score: metric(metrics, glossary::PPO_SCORES),
            kl: metric(metrics, glossary::PPO_KL),
            entropy: metric(metrics, glossary::PPO_ENTROPY),
            tokens: batch.lines.iter().map(|line| line.tokens as f64).sum::<f64>() / batch.lines.len() as f64,
            rollouts: batch.lines.len(),
            seconds,
        };
        self.steps.append(&line)?;
        Ok(line)
    }

    fn report(&self, changed: bool) -> Result<Report> {
        let steps: Vec<StepLine> = entries(&self.folder.join("steps.jsonl"))?;
        let validation: Vec<ValidationLine> = entries(&self.folder.join("validation.jsonl"))?;
        let seconds = steps.iter().fold(Seconds::default(), |sum, line| sum.plus(line.seconds));
        let rollouts = steps.iter().map(|line| line.rollouts).sum();
        Ok(Report {
            steps: steps.len(),
            rollouts,
            seconds,
            rollouts_per_second: rollouts as f64 / seconds.all(),
            changed,
            validation: validation.first().into_iter().chain(validation.last()).cloned().collect(),
        })
    }
}
