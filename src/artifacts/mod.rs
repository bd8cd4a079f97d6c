//! What a run leaves on disk: its directory and lock, atomic files, resume journals, and the
//! manifest of finished work.
//!
//! Knows bytes, hashes and paths; what the files mean is the stages' business.

pub mod atomic;
pub mod fingerprint;
pub mod hashes;
pub mod interrupt;
pub mod journal;
pub mod manifest;
pub mod run_dir;
pub mod shard;
pub mod stand_in;

pub use fingerprint::{fingerprint, hash_file};
pub use hashes::FileHashes;
pub use journal::Journal;
pub use manifest::{Manifest, Reach};
pub use run_dir::RunDir;
pub use shard::Shard;
