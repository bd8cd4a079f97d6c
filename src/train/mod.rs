//! The training loop that every stage shares: AdamW, schedule, accumulation, clipping, keep-best, checkpoints that resume bit-equal.

mod adamw;
mod adamw_loop;
mod checkpoint;
mod fit;
mod hidden_pass;
mod ppo;
mod schedule;
mod sequences;
mod task;
mod token_logps;
mod unchanged;
mod value;
mod watchdog;

pub use adamw::{AdamW, AdamWSettings};
pub use checkpoint::{Checkpoint, Position};
pub use fit::{Fit, FitReport};
pub use ppo::{Metrics, Ppo, PpoSettings, Rollout};
pub use schedule::learning_rate;
pub use sequences::{Sequence, length_batches, sequence_logps, sequence_logps_at};
pub use task::{StepLoss, Task, accumulate};
pub use token_logps::TokenLogps;
pub use unchanged::Start;
pub use value::Value;
