//! Training by example to the weights of the least held-out loss, and a report of it. The single
//! step is in `by_example.rs`, the loop in `run.rs`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::Tensor;
use tracing::{info, warn};

use super::by_example::ByExample;
use super::checkpoint::Checkpoint;
use super::run::{Run, Trained};
use super::task::Task;
use crate::error::{Error, Result};
use crate::monitor::glossary;
use crate::monitor::number::fixed;
use crate::recipe::Training;

/// One training run of one stage.
pub struct Fit<'a> {
    /// Name in metrics and TensorBoard, for example `sft` or `pretrain/base`.
    pub stage: &'a str,
    pub training: &'a Training,
    pub seed: u64,
    pub run_dir: &'a Path,
    pub checkpoint: &'a Checkpoint,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FitReport {
    /// Steps done: fewer than planned where training stopped early.
    pub steps: usize,
    /// Those among the steps whose batch was skipped.
    #[serde(default)]
    pub skipped: usize,
    pub examples: usize,
    pub best_step: usize,
    /// Whether any weight is other than at the start.
    pub changed: bool,
    /// [`Task::loss_at_start`].
    pub loss_at_start: Option<f64>,
    /// Validation values of the kept weights, by name.
    pub validation: Vec<(String, f64)>,
}

impl Fit<'_> {
    /// Trains `task` from its checkpoint, if there is one, to the end, and leaves the best weights
    /// in it; gives them in f32 too, by name.
    pub fn run(&self, task: &mut dyn Task) -> Result<(FitReport, Vec<(String, Tensor)>)> {
        let examples = task.examples();
        if examples == 0 {
            return Err(Error::failed(format!(
                "stage `{}` has no training examples\n\nhint: the warnings above say what was left \
                 out; raise `max_length`, or give more or shorter texts",
                self.stage
            )));
        }
        let Self { stage, training, seed, run_dir, checkpoint } = *self;
        let steps = training.steps(examples);
        let run = Run { stage, training, run_dir, checkpoint, steps };
        let Trained { position, changed, weights } =
            run.run(&mut ByExample { stage, training, seed, task, steps })?;
        let (steps, skipped) = (position.step, position.watchdog.skipped);
        let (best_step, validation) = position.best.unwrap_or((steps, Vec::new()));
        let report = FitReport {
            steps,
            skipped,
            examples,
            best_step,
            changed,
            loss_at_start: task.loss_at_start(),
            validation,
        };
        self.tell(&report);
        Ok((report, weights))
    }

    /// How well the kept weights do on held-out data, and whether that is better than before the
    /// training.
    fn tell(&self, report: &FitReport) {
        let shown = report
            .validation
            .iter()
            .filter(|(name, _)| name.ends_with("loss") || name.contains("accurac"));
        let shown: Vec<String> =
            shown.map(|(name, value)| format!("{name} {}", fixed(*value, 4))).collect();
        if !shown.is_empty() {
            info!(
                "{}: kept the weights of step {}: {}",
                self.stage,
                report.best_step,
                shown.join(", ")
            );
        }
        if let (true, Some(start), Some(loss)) =
            (report.changed, report.loss_at_start, report.held_out(glossary::LOSS))
            && loss >= start
        {
            warn!(
                "{}: the held-out loss {loss:.4} is no lower than {start:.4}, what it is before \
                 training: nothing was learned that holds there",
                self.stage
            );
        }
    }
}

impl FitReport {
    /// What the kept weights gave under the metric `name` on held-out data.
    pub fn held_out(&self, name: &str) -> Option<f64> {
        let name = glossary::held_out(name);
        self.validation.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tch::{Device, Kind};

    use super::super::by_example::batch;
    use super::super::metrics::Metrics;
    use super::super::task::StepLoss;
    use super::*;

    /// Fits y = x·w by least squares, with weights per example as token counts would be.
    struct Line {
        weight: Tensor,
    }

    impl Line {
        fn new() -> Self {
            Self {
                weight: Tensor::zeros([2, 2], (Kind::Float, Device::Cpu)).set_requires_grad(true),
            }
        }
    }

    impl Task for Line {
        fn examples(&self) -> usize {
            10
        }
        fn parameters(&self) -> Vec<(String, Tensor)> {
            vec![("weight".into(), self.weight.shallow_clone())]
        }
        fn describe(&self, example: usize) -> Value {
            json!({ "x": example })
        }
        fn accumulate(&mut self, examples: &[usize]) -> Result<StepLoss> {
            let (loss, weight) = self.loss(examples);
            loss.backward();
            Ok(StepLoss {
                metrics: of_loss(loss.double_value(&[]), weight),
                tokens: examples.len(),
            })
        }
        fn validate(&mut self) -> Result<Metrics> {
            let (loss, weight) = self.loss(&(0..10).collect::<Vec<_>>());
            Ok(of_loss(loss.double_value(&[]), weight))
        }
    }

    fn of_loss(sum: f64, count: f64) -> Metrics {
        let mut metrics = Metrics::default();
        metrics.add(glossary::LOSS, sum, count);
        metrics
    }

    impl Line {
        /// The summed loss and what it weighs.
        fn loss(&self, examples: &[usize]) -> (Tensor, f64) {
            let rows: Vec<f32> =
                examples.iter().flat_map(|&i| [i as f32 / 10.0, 1.0 - i as f32 / 7.0]).collect();
            let x = Tensor::from_slice(&rows).view([-1, 2]);
            let weights = Tensor::from_slice(
                &examples.iter().map(|&i| (i % 3 + 1) as f32).collect::<Vec<_>>(),
            )
            .unsqueeze(-1);
            let loss = ((x.matmul(&self.weight) - 1.0).square() * &weights).sum(Kind::Float);
            (loss, weights.sum(Kind::Float).double_value(&[]))
        }
    }

    fn train(dir: &Path, training: &Training) -> (Vec<f32>, FitReport) {
        let mut task = Line::new();
        let checkpoint = Checkpoint::at(dir.join("checkpoint.safetensors"));
        let (report, _) =
            Fit { stage: "line", training, seed: 3, run_dir: dir, checkpoint: &checkpoint }
                .run(&mut task)
                .unwrap();
        (Vec::try_from(task.weight.detach().flatten(0, -1)).unwrap(), report)
    }

    fn training() -> Training {
        let length = crate::recipe::Length::Steps(23);
        Training {
            length,
            batch_size: 4,
            micro_batch_size: 4,
            learning_rate: 0.05,
            eval_every: 5,
            checkpoint_every: 4,
            ..Training::sft()
        }
    }

    #[test]
    fn micro_batches_equal_one_batch() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let (whole, report) = train(dirs[0].path(), &training());
        let (split, _) = train(dirs[1].path(), &Training { micro_batch_size: 1, ..training() });
        assert!(whole.iter().zip(&split).all(|(a, b)| (a - b).abs() < 1e-6), "{whole:?} {split:?}");
        assert!(whole.iter().any(|w| w.abs() > 0.1) && report.steps == 23, "{whole:?} {report:?}");
    }

    #[test]
    fn a_resumed_run_ends_bit_equal() {
        let whole_dir = tempfile::tempdir().unwrap();
        let whole = train(whole_dir.path(), &training());
        // The state as it was after 12 steps of 23: run to the end of a copy cut short is another
        // schedule, so stop the same run midway.
        let dir = tempfile::tempdir().unwrap();
        struct Stops(Line, usize);
        impl Task for Stops {
            fn examples(&self) -> usize {
                self.0.examples()
            }
            fn parameters(&self) -> Vec<(String, Tensor)> {
                self.0.parameters()
            }
            fn accumulate(&mut self, examples: &[usize]) -> Result<StepLoss> {
                self.1 += 1;
                if self.1 == 15 {
                    Err(Error::failed("killed"))
                } else {
                    self.0.accumulate(examples)
                }
            }
            fn validate(&mut self) -> Result<Metrics> {
                self.0.validate()
            }
            fn describe(&self, example: usize) -> Value {
                self.0.describe(example)
            }
        }
        let checkpoint = Checkpoint::at(dir.path().join("checkpoint.safetensors"));
        let settings = training();
        let fit = Fit {
            stage: "line",
            training: &settings,
            seed: 3,
            run_dir: dir.path(),
            checkpoint: &checkpoint,
        };
        assert!(fit.run(&mut Stops(Line::new(), 0)).is_err());
        let resumed = train(dir.path(), &training());
        assert_eq!(whole, resumed);
    }

    #[test]
    fn every_epoch_visits_every_example_once_in_a_new_order() {
        let epoch = |e: usize| -> Vec<usize> {
            (0..3).flat_map(|i| batch(1, "s", 10, 4, e * 3 + i)).collect()
        };
        for e in 0..2 {
            let mut sorted = epoch(e);
            sorted.sort();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(epoch(0), epoch(1));
    }

    /// Gives a loss of 1000 times the true one, or NaN, where `spoiled` says so.
    struct Spoils<F: Fn(usize) -> f64> {
        line: Line,
        call: usize,
        spoiled: F,
    }

    impl<F: Fn(usize) -> f64> Task for Spoils<F> {
        fn examples(&self) -> usize {
            self.line.examples()
        }
        fn parameters(&self) -> Vec<(String, Tensor)> {
            self.line.parameters()
        }
        fn accumulate(&mut self, examples: &[usize]) -> Result<StepLoss> {
            self.call += 1;
            let StepLoss { metrics, tokens } = self.line.accumulate(examples)?;
            let (loss, weight) = metrics.sum(glossary::LOSS);
            Ok(StepLoss { metrics: of_loss(loss * (self.spoiled)(self.call), weight), tokens })
        }
        fn validate(&mut self) -> Result<Metrics> {
            Ok(of_loss(self.call as f64, 1.0))
        }
        fn describe(&self, example: usize) -> Value {
            self.line.describe(example)
        }
    }

    fn train_spoiled(
        dir: &Path,
        training: &Training,
        spoiled: impl Fn(usize) -> f64,
    ) -> Result<FitReport> {
        let checkpoint = Checkpoint::at(dir.join("state/line.safetensors"));
        let fit = Fit { stage: "line", training, seed: 3, run_dir: dir, checkpoint: &checkpoint };
        fit.run(&mut Spoils { line: Line::new(), call: 0, spoiled }).map(|(report, _)| report)
    }

    #[test]
    fn a_spoiled_batch_stops_training_or_is_skipped_and_written_down() {
        let spoiled = |call: usize| {
            [(12, f64::NAN), (15, 1000.0)]
                .iter()
                .find(|(at, _)| *at == call)
                .map_or(1.0, |(_, factor)| *factor)
        };
        let dir = tempfile::tempdir().unwrap();
        let error = train_spoiled(dir.path(), &training(), spoiled).unwrap_err().to_string();
        assert!(
            error.contains("loss NaN")
                && error.contains("at step 12")
                && error.contains("max_skips"),
            "{error}"
        );
        let dump: Value = serde_json::from_slice(
            &std::fs::read(dir.path().join("state/line.bad-step-12.json")).unwrap(),
        )
        .unwrap();
        let expected: Vec<Value> =
            batch(3, "line", 10, 4, 11).iter().map(|example| json!({ "x": example })).collect();
        assert_eq!(dump["examples"], json!(expected));
        assert!(
            dir.path().join("state/line.safetensors").exists(),
            "the checkpoint of step 8 stays"
        );

        let dir = tempfile::tempdir().unwrap();
        let lenient = Training { spike_factor: Some(50.0), max_skips: 2, ..training() };
        let report = train_spoiled(dir.path(), &lenient, spoiled).unwrap();
        assert_eq!((report.steps, report.skipped), (23, 2));
        let dir = tempfile::tempdir().unwrap();
        let error = train_spoiled(dir.path(), &Training { max_skips: 1, ..lenient }, spoiled)
            .unwrap_err()
            .to_string();
        assert!(error.contains("50 times the median") && error.contains("at step 15"), "{error}");
    }

    #[test]
    fn training_ends_early_where_validation_no_longer_improves() {
        let dir = tempfile::tempdir().unwrap();
        // Validated at 5, 10, 15, …, each time worse than at 5.
        let report =
            train_spoiled(dir.path(), &Training { early_stop: Some(2), ..training() }, |_| 1.0)
                .unwrap();
        assert_eq!((report.steps, report.best_step), (15, 5));
    }
}
