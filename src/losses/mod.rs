//! Pure functions of tensors, each with its equation: what training minimises.

mod classification;
mod dpo;
mod language;

pub use classification::{ClassificationOutput, classification};
pub use dpo::{DpoOutput, dpo};
pub use language::{sum_by_row, token_logps};
