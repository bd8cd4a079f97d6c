//! What continues text: the frozen models that search steers.

mod local;

pub use local::LocalPolicy;
