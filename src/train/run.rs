//! The loop of every training: from its checkpoint through the steps of its schedule, with metrics,
//! validation, the best weights, and checkpoints that a killed run continues from. What a step is
//! and how it is judged, a [`Trainee`] says.

use std::path::Path;

use serde_json::{Map, Value, json};
use tch::Tensor;
use tracing::{info, warn};

use super::adamw::{AdamW, AdamWSettings};
use super::checkpoint::{Checkpoint, Position};
use super::metrics::Metrics;
use super::schedule::learning_rate;
use super::unchanged::Start;
use crate::artifacts::{atomic, interrupt};
use crate::error::{Error, Result};
use crate::machine::PeakMemory;
use crate::monitor::{Monitor, Progress, RunMonitor, glossary};
use crate::recipe::Training;

/// Something that is trained step by step.
pub trait Trainee {
    /// Everything that learns, by name.
    fn parameters(&self) -> Vec<(String, Tensor)>;
    /// What the step's learning rate is multiplied by for the parameter `name`.
    fn learning_rate_factor(&self, _name: &str) -> f64 {
        1.0
    }
    /// Whether the parameter `name` is part of what the training is for, and not only of the way
    /// there.
    fn is_result(&self, _name: &str) -> bool {
        true
    }
    /// Called once, after `done` steps of an earlier attempt.
    fn begin(&mut self, _done: usize) -> Result<()> {
        Ok(())
    }
    /// One step: gradients, and updates by the optimiser, unless something is wrong.
    fn step(&mut self, stride: Stride) -> Result<Stepped>;
    /// Measures it on held-out data after `done` steps; `None` where there is none.
    fn validate(&mut self, done: usize) -> Result<Option<Validation>>;
    /// Whether it is measured before the first step too.
    fn is_validated_untrained(&self) -> bool {
        false
    }
    /// The metric of the validation of which the kept weights have the least; with `None` the last
    /// weights are kept.
    fn minimises(&self) -> Option<&'static str>;
    /// What is said where `complaint` ends the training at step `step` (from 1) and the batch was
    /// written to `file`.
    fn refusal(&self, complaint: &str, step: usize, file: &Path) -> String;
}

/// What a step is given.
pub struct Stride<'a> {
    /// From 0.
    pub step: usize,
    pub rate: f64,
    pub optimizer: &'a mut AdamW,
    /// Its count of steps is the loop's.
    pub position: &'a mut Position,
}

/// What a step gave.
pub struct Stepped {
    pub metrics: Metrics,
    /// For the progress bar.
    pub note: String,
    /// Where something is wrong with it: the weights are as they were.
    pub bad: Option<BadStep>,
}

/// A step that was not taken.
pub struct BadStep {
    pub complaint: String,
    /// What its batch is called, and what it holds as a person would want to see it.
    pub batch: (&'static str, Vec<Value>),
}

/// What held-out data say.
#[derive(Default)]
pub struct Validation {
    pub metrics: Metrics,
    /// A text of the model as it stands.
    pub sample: Option<String>,
}

/// One training of one stage.
pub struct Run<'a> {
    /// Name in metrics and TensorBoard, for example `sft` or `pretrain/base`.
    pub stage: &'a str,
    pub training: &'a Training,
    pub run_dir: &'a Path,
    pub checkpoint: &'a Checkpoint,
    /// How many steps the schedule has.
    pub steps: usize,
}

/// What a training came to.
pub struct Trained {
    pub position: Position,
    /// Whether any weight of the result is other than at the start.
    pub changed: bool,
    /// The result's weights in f32, by name.
    pub weights: Vec<(String, Tensor)>,
}

/// All that moves while it runs.
struct RunState {
    optimizer: AdamW,
    position: Position,
    /// The best weights so far.
    best: Option<Vec<Tensor>>,
    monitor: RunMonitor,
    memory: PeakMemory,
}

impl Run<'_> {
    /// Trains from the checkpoint, if there is one, to the end, and leaves the kept weights in the
    /// trainee.
    ///
    /// # Errors
    /// [`Error::Interrupted`] once a checkpoint is written, where that was asked for; whatever the
    /// trainee finds.
    pub fn run(&self, trainee: &mut dyn Trainee) -> Result<Trained> {
        let optimizer =
            AdamW::new(trainee.parameters(), AdamWSettings::with_decay(self.training.weight_decay))
                .with_learning_rate_factors(|name| trainee.learning_rate_factor(name));
        let start = Start::of(&result(trainee, &optimizer));
        let mut state = self.resume(trainee, optimizer)?;
        let mut progress =
            Progress::start(self.stage, self.steps as u64, state.position.step as u64);
        if state.position.step == 0 && trainee.is_validated_untrained() {
            validate(trainee, &mut state)?;
        }
        while state.position.step < self.steps && !self.stops_early(&state.position) {
            progress.note(self.step(trainee, &mut state)?);
            progress.advance(1);
            let step = state.position.step;
            if step.is_multiple_of(self.training.eval_every) || step == self.steps {
                validate(trainee, &mut state)?;
            }
            let is_last = step == self.steps || self.stops_early(&state.position);
            if is_last && step < self.steps {
                let since_best = state.position.since_best;
                info!(
                    "{}: stopped early at step {step} of {}, {since_best} validations without a \
                     new best",
                    self.stage, self.steps
                );
            }
            let stopping = interrupt::requested();
            if step.is_multiple_of(self.training.checkpoint_every) || is_last || stopping {
                self.save(&mut state)?;
            }
            if stopping && !is_last {
                return Err(Error::Interrupted);
            }
        }
        progress.finish();
        let RunState { mut optimizer, position, best, .. } = state;
        best.iter().for_each(|best| optimizer.set_weights(best));
        let weights = result(trainee, &optimizer);
        let changed =
            start.has_changed(self.stage, &weights, &position, self.training.learning_rate);
        Ok(Trained { position, changed, weights })
    }

    /// Where the checkpoint left it; metrics that were recorded after that are gone.
    fn resume(&self, trainee: &mut dyn Trainee, mut optimizer: AdamW) -> Result<RunState> {
        let (position, best) = self.checkpoint.load(&mut optimizer)?.unwrap_or_default();
        trainee.begin(position.step)?;
        let resumed = (position.step > 0).then_some(position.step as u64);
        if let Some(step) = resumed {
            info!("{}: continues after step {step} of {}", self.stage, self.steps);
        }
        let monitor = RunMonitor::open(self.run_dir, self.stage, resumed)?;
        Ok(RunState { optimizer, position, best, monitor, memory: PeakMemory::default() })
    }

    fn stops_early(&self, position: &Position) -> bool {
        self.training.early_stop.is_some_and(|most| position.since_best >= most)
    }

    /// One step of the schedule and its metrics; gives the note on it.
    fn step(
        &self,
        trainee: &mut dyn Trainee,
        RunState { optimizer, position, monitor, memory, .. }: &mut RunState,
    ) -> Result<String> {
        let step = position.step;
        let rate = learning_rate(self.training, step, self.steps);
        let Stepped { metrics, note, bad } =
            trainee.step(Stride { step, rate, optimizer, position })?;
        (position.step, position.optimizer_step) = (step + 1, optimizer.updates());
        bad.map_or(Ok(()), |bad| self.bad_step(trainee, bad, position))?;
        let memory = memory.bytes().map(|bytes| (glossary::PEAK_RSS_BYTES, bytes as f64));
        monitor
            .scalars(position.step as u64, &metrics.means().chain(memory).collect::<Vec<_>>())?;
        Ok(note)
    }

    /// Writes the batch down and lets the step pass without an update, or stops where too many
    /// have.
    fn bad_step(
        &self,
        trainee: &dyn Trainee,
        BadStep { complaint, batch }: BadStep,
        position: &mut Position,
    ) -> Result<()> {
        let (stage, step) = (self.stage, position.step);
        let file =
            self.run_dir.join(format!("state/{}.bad-step-{step}.json", stage.replace('/', "-")));
        let mut dump = Map::new();
        dump.extend(
            [("stage", json!(stage)), ("step", json!(step)), ("complaint", json!(complaint))]
                .map(named),
        );
        dump.extend([(batch.0, json!(batch.1))].map(named));
        atomic::write(&file, format!("{:#}\n", Value::Object(dump)).as_bytes())?;
        if position.watchdog.skipped < self.training.max_skips {
            position.watchdog.skipped += 1;
            let (skipped, most) = (position.watchdog.skipped, self.training.max_skips);
            warn!(
                "{stage}: {complaint} at step {step}: skipped ({skipped} of {most}), batch in {}",
                file.display()
            );
            return Ok(());
        }
        Err(Error::failed(trainee.refusal(&complaint, step, &file)))
    }

    fn save(
        &self,
        RunState { optimizer, position, best, monitor, .. }: &mut RunState,
    ) -> Result<()> {
        let bytes = self.training.checkpoints_gib.map(|gib| (gib * (1u64 << 30) as f64) as u64);
        self.checkpoint.save(
            position,
            optimizer,
            best.as_deref(),
            self.training.keep_checkpoints,
            bytes,
        )?;
        monitor.flush()
    }
}

fn named((name, value): (&str, Value)) -> (String, Value) {
    (name.to_owned(), value)
}

/// The f32 weights that the training is for, by name.
fn result(trainee: &dyn Trainee, optimizer: &AdamW) -> Vec<(String, Tensor)> {
    optimizer.weights().into_iter().filter(|(name, _)| trainee.is_result(name)).collect()
}

/// Records what held-out data say, and keeps the weights if they are the best so far.
fn validate(
    trainee: &mut dyn Trainee,
    RunState { optimizer, position, best, monitor, .. }: &mut RunState,
) -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    let Some(Validation { metrics, sample }) = trainee.validate(position.step)? else {
        return Ok(());
    };
    let values: Vec<(String, f64)> =
        metrics.means().map(|(name, mean)| (glossary::held_out(name), mean)).collect();
    monitor.scalars(
        position.step as u64,
        &values.iter().map(|(name, value)| (name.as_str(), *value)).collect::<Vec<_>>(),
    )?;
    if let Some(text) = sample {
        monitor.text(position.step as u64, "sample", &text)?;
    }
    let Some((name, value)) =
        trainee.minimises().and_then(|name| Some((name, metrics.mean(name)?)))
    else {
        return Ok(());
    };
    position.since_best += 1;
    let is_better = position.best_value(&glossary::held_out(name)).is_none_or(|best| value < best);
    if is_better {
        position.since_best = 0;
        position.best = Some((position.step, values));
        *best = Some(optimizer.weights().iter().map(|(_, weight)| weight.copy()).collect());
    }
    Ok(())
}
