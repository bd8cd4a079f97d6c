//! What the program finds out about the machine it runs on: devices and their precision, free
//! memory and who bounds it, threads, the fastest that products and copies can be, and the most
//! memory that the process has had.
//!
//! Nothing here knows a model. Which loops and products a processor gets is the choice of
//! `kernels`; whether a plan fits the memory is judged by `engine` and `stages`.

pub mod control_group;
pub mod device;
pub mod memory;
pub mod rates;
pub mod threads;

mod peak_memory;

pub use peak_memory::{PeakMemory, peak_rss_bytes};
