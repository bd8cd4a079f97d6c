//! Pure functions of tensors, each with its equation: what training minimises. Where the tensors
//! come from, and what is done with gradients, is left to `train`.

mod bradley_terry;
mod classification;
mod dpo;
mod gae;
mod kl;
mod language;
mod ppo;

pub use bradley_terry::{BradleyTerryOutput, bradley_terry};
pub use classification::{ClassificationOutput, classification};
pub use dpo::{DpoObjective, DpoOutput, PreferenceLoss, dpo};
pub use gae::{gae, pay_by_chunk, whiten};
pub use kl::{divergence, kl};
pub use language::{sum_by_row, token_logps};
pub use ppo::{ClippedLoss, KlEstimator, adapt_kl_coefficient, approx_kl, ppo_policy, ppo_value};
