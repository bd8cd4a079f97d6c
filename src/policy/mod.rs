//! What continues text: the frozen models that search steers.

mod draw;
mod local;

pub use local::LocalPolicy;
