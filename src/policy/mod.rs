//! What continues text: the frozen models that search steers, here or served by others. What a
//! response is worth is left to `score`, which of them go on to `search`.

mod draw;
mod ending;
mod growing;
mod local;
mod mixture;
pub mod remote;

pub use local::LocalPolicy;
pub use mixture::Member;
