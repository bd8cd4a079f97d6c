//! What continues text: the frozen models that search steers. What a response is worth is left to
//! `score`, which of them go on to `search`.

mod draw;
mod growing;
mod local;
mod mixture;

pub use local::LocalPolicy;
pub use mixture::Member;
