//! What continues text: the frozen models that search steers.

mod draw;
mod growing;
mod local;
mod mixture;

pub use local::LocalPolicy;
pub use mixture::Member;
