//! How long a training is, in steps or in passes over the data.

use serde::{Deserialize, Serialize};

use super::training::Training;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    Steps(usize),
    Epochs(f64),
}

/// Fewer optimiser steps than this hardly teach anything.
const FEW_STEPS: usize = 10;

impl Training {
    /// Optimiser steps for `examples` training examples; at least one. A last, smaller batch of an
    /// epoch counts.
    pub fn steps(&self, examples: usize) -> usize {
        match self.length {
            Length::Steps(steps) => steps,
            Length::Epochs(epochs) => {
                ((examples.div_ceil(self.batch_size) as f64 * epochs).round() as usize).max(1)
            }
        }
    }

    /// What is doubtful about training on so many examples, if anything is. Steps that were asked
    /// for as such are taken at their word.
    pub fn doubt(&self, examples: usize) -> Option<String> {
        let (steps, batch_size) = (self.steps(examples), self.batch_size);
        let is_large = batch_size > examples;
        let Length::Epochs(epochs) = self.length else {
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
        let training = Training { length: Length::Epochs(2.0), batch_size: 16, ..Training::sft() };
        assert_eq!([1, 16, 17, 100].map(|examples| training.steps(examples)), [2, 2, 4, 14]);
        assert_eq!(Training { length: Length::Steps(5), ..training }.steps(100), 5);
    }

    #[test]
    fn few_steps_and_batches_larger_than_the_data_are_doubtful() {
        let doubt =
            |training: &Training, examples: usize| training.doubt(examples).unwrap_or_default();
        let defaults = doubt(&Training::dpo(), 36);
        let expected = "only 1 optimiser step (1 × 36 examples in batches of 256, more than there \
                        are), in which";
        assert!(defaults.starts_with(expected), "{defaults}");
        let few = doubt(&Training { batch_size: 4, ..Training::dpo() }, 36);
        let expected = "only 9 optimiser steps (1 × 36 examples in batches of 4), in which";
        assert!(few.starts_with(expected), "{few}");
        assert_eq!(doubt(&Training { batch_size: 4, ..Training::dpo() }, 37), "");
        let asked = Training { length: Length::Steps(1), ..Training::dpo() };
        assert_eq!(doubt(&asked, 256), "", "one step was asked for");
        let large = "`batch_size` is 256, and there are only 255 examples";
        assert!(doubt(&asked, 255).contains(large));
    }
}
