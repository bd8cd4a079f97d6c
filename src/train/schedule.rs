//! The learning rate of a step.

use std::f64::consts::PI;

use crate::recipe::{Schedule, Training};

/// Linear warm-up over `warmup_ratio` of the steps (rounded up), then cosine or linear decay to 0,
/// or constant: the rate used for optimiser step `step` (from 0) of `steps`.
///
/// After the warm-up this is what transformers' schedulers give. The warm-up itself is counted from
/// 1, where theirs is from 0: with theirs the first step has rate 0 and changes nothing, which is
/// all there is of a training of one step.
pub fn learning_rate(training: &Training, step: usize, steps: usize) -> f64 {
    let warmup = (training.warmup_ratio * steps as f64).ceil() as usize;
    if step < warmup {
        return training.learning_rate * (step + 1) as f64 / warmup as f64;
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
        let mut training =
            Training { learning_rate: 8.0, warmup_ratio: 0.2, ..Training::pretrain() };
        let rates =
            |training: &Training| [0, 1, 2, 6, 9].map(|step| learning_rate(training, step, 10));
        let cosine = rates(&training);
        assert_eq!(cosine[..3], [4.0, 8.0, 8.0]);
        assert!(
            (cosine[3] - 4.0).abs() < 1e-12
                && (cosine[4] - 4.0 * (1.0 + (PI * 7.0 / 8.0).cos())).abs() < 1e-12,
            "{cosine:?}"
        );
        training.schedule = Schedule::Linear;
        assert_eq!(rates(&training), [4.0, 8.0, 8.0, 4.0, 1.0]);
        training.schedule = Schedule::Constant;
        assert_eq!(rates(&training), [4.0, 8.0, 8.0, 8.0, 8.0]);
    }
    #[test]
    fn no_step_has_rate_zero() {
        for schedule in [Schedule::Cosine, Schedule::Linear, Schedule::Constant] {
            for warmup_ratio in [0.0, 0.05, 0.5, 1.0] {
                let training = Training { schedule, warmup_ratio, ..Training::dpo() };
                for steps in 1..40 {
                    let rates: Vec<f64> =
                        (0..steps).map(|step| learning_rate(&training, step, steps)).collect();
                    assert!(
                        rates.iter().all(|rate| *rate > 0.0),
                        "{schedule:?}, warm-up {warmup_ratio}, {steps} steps: {rates:?}"
                    );
                    assert!(
                        rates.contains(&training.learning_rate),
                        "{schedule:?}, warm-up {warmup_ratio}, {steps} steps: {rates:?}"
                    );
                }
            }
        }
    }
}
