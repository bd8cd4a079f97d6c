//! The training loop that every stage shares: AdamW, schedule, accumulation, clipping, keep-best, checkpoints that resume bit-equal.

mod adamw;
mod checkpoint;
mod fit;
mod schedule;
mod sequences;

pub use adamw::{AdamW, AdamWSettings};
pub use checkpoint::Checkpoint;
pub use fit::{Fit, FitReport, StepLoss, Task};
pub use schedule::learning_rate;
pub use sequences::{Sequence, length_batches, sequence_logps};
