//! What every training shares (AdamW, schedule, accumulation, clipping, keep-best, checkpoints that
//! resume bit-equal, one loop), and the tasks that are trained.

mod adamw;
mod adamw_loop;
mod by_example;
mod checkpoint;
mod fit;
mod hidden_pass;
mod metrics;
mod run;
mod schedule;
mod sequence;
mod sequences;
mod task;
pub mod tasks;
mod token_logps;
mod unchanged;
mod watchdog;

pub use adamw::{AdamW, AdamWSettings};
pub use checkpoint::{Checkpoint, Position};
pub use fit::{Fit, FitReport};
pub use metrics::Metrics;
pub use run::{BadStep, Run, Stepped, Stride, Trained, Trainee, Validation};
pub use sequence::Sequence;
pub use sequences::{sequence_logps, sequence_logps_at};
pub use task::{StepLoss, Task, accumulate};
pub use token_logps::TokenLogps;
