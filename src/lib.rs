//! Weak-to-strong search (arXiv 2405.19262): tune a small guide pair, steer larger frozen models
//! with it at test time.
//!
//! Imports go down only (checked by `tests/it/architecture.rs`): `cli → pipeline → {stages, bench}
//! → engine → {policy, score, train, report} → models → {text, hub, machine} →
//! {http, recipe, monitor} → {search, artifacts} → {kernels, losses, prompt, sampling} → error`.

pub mod artifacts;
pub mod bench;
pub mod cli;
pub mod engine;
pub mod error;
pub mod http;
pub mod hub;
pub mod kernels;
pub mod losses;
pub mod machine;
pub mod models;
pub mod monitor;
pub mod pipeline;
pub mod policy;
pub mod prompt;
pub mod recipe;
pub mod report;
pub mod sampling;
pub mod score;
pub mod search;
pub mod stages;
pub mod text;
pub mod train;

/// The guides' examples, which `cargo test --doc` compiles and runs.
#[cfg(doctest)]
mod guides {
    #[doc = include_str!("../docs/add-a-base.md")]
    struct Base;
    #[doc = include_str!("../docs/add-a-family.md")]
    struct Family;
    #[doc = include_str!("../docs/add-a-judge.md")]
    struct Judge;
    #[doc = include_str!("../docs/add-a-method.md")]
    struct Method;
    #[doc = include_str!("../docs/add-a-stage.md")]
    struct Stage;
}
