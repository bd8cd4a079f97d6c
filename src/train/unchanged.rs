//! Notices a training that left every weight as it was: a run would go on with it and show no
//! effect, without a word.

use tch::{Kind, Tensor};
use tracing::warn;

use super::checkpoint::Position;

/// The weights that a training starts from, remembered by one sum for each tensor.
pub struct Start(Vec<i64>);

impl Start {
    /// `weights` are f32.
    pub fn of(weights: &[(String, Tensor)]) -> Self {
        Self(weights.iter().map(|(_, weight)| sum_of_bits(weight)).collect())
    }

    /// Whether `weights`, the same ones later, differ from these in any bit; where they do not,
    /// says so and why.
    pub fn has_changed(
        &self,
        stage: &str,
        weights: &[(String, Tensor)],
        position: &Position,
        peak_rate: f64,
    ) -> bool {
        if self.0 != Self::of(weights).0 {
            return true;
        }
        let reason = match (position.optimizer_step, position.watchdog.skipped) {
            (0, skipped) if skipped > 0 => format!("all {skipped} steps were skipped"),
            (0, _) => "no step was made".to_owned(),
            (steps, _) => format!(
                "{steps} optimiser steps at rates up to {peak_rate:e} were too small to move one \
                 weight"
            ),
        };
        let hint = "hint: raise `learning_rate` or the number of steps, or see in metrics.jsonl \
                    whether `grad_norm` is 0";
        warn!(
            "{stage}: nothing was learned, the result is bit for bit what training started from: \
             {reason}\n\n{hint}"
        );
        false
    }
}

/// The bits of an f32 tensor, summed as whole numbers: an update of some weights gives another sum.
fn sum_of_bits(weight: &Tensor) -> i64 {
    let _no_grad = tch::no_grad_guard();
    weight.detach().contiguous().view_dtype(Kind::Int).sum(Kind::Int64).int64_value(&[])
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn one_bit_of_one_weight_is_a_change() {
        let weights = |first: f32, second: f32| {
            let tensor = Tensor::ones([3, 5], (Kind::Float, Device::Cpu));
            let _ = tensor.get(2).get(4).fill_(f64::from(first));
            [("a".to_owned(), tensor), ("b".to_owned(), Tensor::from_slice(&[second]))]
        };
        let start = Start::of(&weights(1.0, 0.5));
        let changed = |first, second| {
            start.has_changed("sft", &weights(first, second), &Position::default(), 1e-6)
        };
        assert!(!changed(1.0, 0.5));
        assert!(changed(f32::from_bits(1f32.to_bits() + 1), 0.5));
        assert!(changed(1.0, -0.5));
    }
}
