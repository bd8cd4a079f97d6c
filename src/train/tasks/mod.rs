//! What is trained: each task's examples, its loss and what is measured of it. Where examples come
//! from and where results go, the stages say.

mod classifier;
mod dpo;
mod language;
mod ppo;
mod reference;
mod reward;
mod rewards;
mod value;

pub use classifier::ClassifierTask;
pub use dpo::DpoTask;
pub use language::{LanguageTask, SampleText};
pub use ppo::{Ppo, PpoSettings, Rollout};
pub use reference::{PairSequences, fill_reference, reference_of};
pub use reward::{PairTexts, RewardTask};
pub use value::Value;
