//! The learning rate of a step.

use std::f64::consts::PI;

use crate::recipe::{Schedule, Training};

/// Linear warm-up over `warmup_ratio` of the steps (rounded up), then cosine or linear decay to 0, or constant, as transformers'
/// schedulers do: the rate used for optimiser step `step` (from 0) of `steps`.
pub fn learning_rate(training: &Training, step: usize, steps: usize) -> f64 {
    let warmup = (training.warmup_ratio * steps as f64).ceil() as usize;
    if step < warmup {
        return training.learning_rate * step as f64 / warmup as f64;
    }
    let progress = (step - warmup) as f64 / (steps - warmup).max(1) as f64;
    let factor = match training.schedule {
        Schedule::Cosine => 0.5 * (1.0 + (PI * progress).cos()),
        Schedule::Linear => 1.0 - progress,
        Schedule::Constant => 1.0,
    };
    training.learning_rate * factor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_by_hand() {
        let mut training = Training { learning_rate: 8.0, warmup_ratio: 0.2, ..Training::pretrain() };
        let rates = |training: &Training| [0, 1, 2, 6, 9].map(|step| learning_rate(training, step, 10));
        let cosine = rates(&training);
        assert_eq!(cosine[..3], [0.0, 4.0, 8.0]);
        assert!((cosine[3] - 4.0).abs() < 1e-12 && (cosine[4] - 4.0 * (1.0 + (PI * 7.0 / 8.0).cos())).abs() < 1e-12, "{cosine:?}");
        training.schedule = Schedule::Linear;
        assert_eq!(rates(&training), [0.0, 4.0, 8.0, 4.0, 1.0]);
        training.schedule = Schedule::Constant;
        assert_eq!(rates(&training), [0.0, 4.0, 8.0, 8.0, 8.0]);
    }
}
