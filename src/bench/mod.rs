//! Speed on this machine, beside what the machine could do: of the engine that steers, and of
//! training.

mod steer;
mod training;

pub use steer::{BenchModels, BenchReport, BenchSettings, steer};
pub use training::{TrainingBenchReport, TrainingBenchSettings, train};

use crate::error::{Error, Result};
use crate::models::Lm;

/// Refuses random texts that a model cannot read whole: their speed would be that of something
/// else.
fn refuse_long(lm: &Lm, prompt_tokens: usize, new_tokens: usize) -> Result<()> {
    let context = lm.model.info().context as usize;
    if prompt_tokens.saturating_add(new_tokens) <= context {
        return Ok(());
    }
    Err(Error::recipe(format!(
        "--prompt-tokens {prompt_tokens} and --new-tokens {new_tokens} do not fit a model's \
         context of {context}\n\nhint: lower one of them"
    )))
}
