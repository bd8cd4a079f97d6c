//! Notices the step that would ruin a run: a loss or gradient that is no number, or a loss far
//! above those before it.

use serde::{Deserialize, Serialize};

/// Losses that a spike is measured against.
const RECENT: usize = 32;
/// Fewer losses than this say nothing about what is usual.
const LEAST: usize = 8;

/// What it remembers; part of the checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Watchdog {
    recent: Vec<f64>,
    /// Steps whose batch was skipped.
    pub skipped: usize,
}

impl Watchdog {
    /// What is wrong with a step of this loss (mean) and gradient norm, if anything is: a loss
    /// above `spike_factor` times the median of the last 32 is, where a factor is given. A good
    /// loss is remembered.
    pub fn complaint(&mut self, loss: f64, norm: f64, spike_factor: Option<f64>) -> Option<String> {
        if let Some(complaint) = not_finite(loss, norm) {
            return Some(complaint);
        }
        if let Some((factor, usual)) =
            spike_factor.zip(self.usual()).filter(|(factor, usual)| loss > factor * usual)
        {
            return Some(format!(
                "loss {loss:.4}, more than {factor} times the median {usual:.4} of the last {}",
                self.recent.len()
            ));
        }
        if self.recent.len() == RECENT {
            self.recent.remove(0);
        }
        self.recent.push(loss);
        None
    }

    fn usual(&self) -> Option<f64> {
        let mut sorted = self.recent.clone();
        sorted.sort_by(f64::total_cmp);
        (sorted.len() >= LEAST).then(|| sorted[sorted.len() / 2])
    }
}

/// What is wrong with a loss and a gradient norm of which one is not finite.
pub fn not_finite(loss: f64, norm: f64) -> Option<String> {
    (!(loss.is_finite() && norm.is_finite()))
        .then(|| format!("loss {loss} and gradient norm {norm}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_none_and_spikes_are_told_apart_from_noise() {
        let mut watchdog = Watchdog::default();
        assert!(watchdog.complaint(f64::NAN, 1.0, None).unwrap().contains("NaN"));
        assert!(watchdog.complaint(1.0, f64::INFINITY, None).is_some());
        // Too few losses to judge by.
        assert_eq!(watchdog.complaint(50.0, 1.0, Some(3.0)), None);
        for step in 0..40 {
            assert_eq!(watchdog.complaint(1.0 + 0.1 * f64::from(step % 5), 1.0, Some(3.0)), None);
        }
        assert_eq!(watchdog.complaint(3.5, 1.0, Some(3.0)), None, "3 times the median 1.2 is 3.6");
        let spike = watchdog.complaint(3.7, 1.0, Some(3.0)).unwrap();
        assert!(
            spike.contains("3.7000") && spike.contains("3 times the median 1.2000 of the last 32"),
            "{spike}"
        );
        assert_eq!(watchdog.complaint(1e9, 1.0, None), None, "without a factor nothing is a spike");
    }
}
