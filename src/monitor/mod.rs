//! How a run is watched: metrics (TensorBoard and `metrics.jsonl`, same names), sample texts,
//! progress bars and log lines.
//!
//! Loops know the [`Monitor`] trait and the names in [`glossary`]; what stands behind them is
//! settled here.

pub mod color;
pub mod glossary;
pub mod logging;
pub mod number;
pub mod progress;
mod records;
mod run;
mod tensorboard;

pub use progress::Progress;
pub use run::RunMonitor;

use crate::error::Result;

pub trait Monitor {
    /// Records named values (see [`glossary`]) at an optimiser step, or another count that only
    /// grows.
    fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()>;

    /// Records a text for people to read, such as a sample of the model.
    fn text(&mut self, step: u64, tag: &str, text: &str) -> Result<()>;

    /// On disk when this returns; called with every checkpoint, so that a resumed run has all
    /// metrics up to its step.
    fn flush(&mut self) -> Result<()>;
}
