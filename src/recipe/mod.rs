//! The recipe: what is asked for, in words; knows no tensors.

mod schema;
mod training;

pub use schema::*;
pub use training::{Length, Training};
