//! How long a training is, in steps or in passes over the data.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    Steps(usize),
    Epochs(f64),
}

/// Fewer optimiser steps than this hardly teach anything.
const FEW_STEPS: usize = 10;

impl Length {
    /// Optimiser steps for `examples` training examples; at least one. A last, smaller batch of an
    /// epoch counts.
    pub(super) fn steps(self, batch_size: usize, examples: usize) -> usize {
        match self {
            Length::Steps(steps) => steps,
            Length::Epochs(epochs) => {
                ((examples.div_ceil(batch_size) as f64 * epochs).round() as usize).max(1)
            }
        }
    }

    /// What is doubtful about training on so many examples, if anything is. Steps that were asked
    /// for as such are taken at their word.
    pub(super) fn doubt(self, batch_size: usize, examples: usize) -> Option<String> {
        let steps = self.steps(batch_size, examples);
        let is_large = batch_size > examples;
        let Length::Epochs(epochs) = self else {
            return is_large.then(|| {
                format!(
                    "`batch_size` is {batch_size}, and there are only {examples} examples: every \
                     step takes all of them"
                )
            });
        };
        let plural = if steps == 1 { "" } else { "s" };
        let than = if is_large { ", more than there are" } else { "" };
        (steps < FEW_STEPS || is_large).then(|| {
            format!(
                "only {steps} optimiser step{plural} ({epochs} × {examples} examples in batches of \
                 {batch_size}{than}), in which little is learned: lower `batch_size`, raise \
                 `epochs` or set `steps`"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_count_the_last_smaller_batch() {
        let steps = |examples| Length::Epochs(2.0).steps(16, examples);
        assert_eq!([1, 16, 17, 100].map(steps), [2, 2, 4, 14]);
        assert_eq!(Length::Steps(5).steps(16, 100), 5);
    }

    #[test]
    fn few_steps_and_batches_larger_than_the_data_are_doubtful() {
        let doubt = |batch_size, examples| {
            Length::Epochs(1.0).doubt(batch_size, examples).unwrap_or_default()
        };
        let large = doubt(256, 36);
        let expected = "only 1 optimiser step (1 × 36 examples in batches of 256, more than there \
                        are), in which";
        assert!(large.starts_with(expected), "{large}");
        let few = doubt(4, 36);
        let expected = "only 9 optimiser steps (1 × 36 examples in batches of 4), in which";
        assert!(few.starts_with(expected), "{few}");
        assert_eq!(doubt(4, 37), "");
        let asked = |examples| Length::Steps(1).doubt(256, examples).unwrap_or_default();
        assert_eq!(asked(256), "", "one step was asked for");
        assert!(asked(255).contains("`batch_size` is 256, and there are only 255 examples"));
    }
}
