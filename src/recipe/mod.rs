//! The recipe: what is asked for, in words; knows no tensors.
//!
//! [`load`] reads a file strictly and applies `--set`, [`validate`] holds the rules between keys,
//! [`Plan`] is the settled result with every default filled in and the sizes derived from it. What
//! the words do is left to the stages.

mod describe;
mod deserialize;
mod estimate;
mod hub_id;
mod judges;
mod load;
mod lora;
mod method;
mod method_table;
mod outcome;
mod overrides;
mod plan;
mod ppo;
mod preference_tables;
mod reading;
mod reward_model;
mod schema;
mod sizes;
mod split_names;
mod stage;
mod stage_tables;
mod stage_training;
mod steering;
mod tokenizer_folder;
mod training;
mod tuning_tables;
mod validate;
mod warnings;

pub use estimate::{MemoryPart, StageMemory, memory_estimate};
pub use hub_id::{HubId, hub_dataset, hub_model};
pub use judges::{GOLD, Judge, JudgeTable, ModelId};
pub use load::load;
pub use lora::{BASE_FROM_HERE, Lora, base_folder, config_folder};
pub use method::{Method, Proposal, two_vocabularies};
pub use method_table::{EFT, MethodTable, base_kinds, takes_tilt};
pub use plan::{Counts, GuidePairSource, GuideSource, Plan, with_joined_paths};
pub use ppo::{ChunkLen, ChunkLens, KlTable, PpoTable, ValueSource};
pub use preference_tables::{PairColumns, Pairing, PreferenceLabel, Preferences};
pub use reading::{ReaderSizes, Reading, SAMPLED_ROWS, bytes_in_words, guide_tokens};
pub use reward_model::{RewardModelTable, RewardStart};
pub use schema::*;
pub use sizes::{ClassifierSizes, LinearSize, LmSizes};
pub use split_names::{DataSplits, PairSplits, SplitNames};
pub use stage::StageTable;
pub use stage_training::{DirectTraining, StageTraining};
pub use steering::{GuideTable, Steer};
pub use tokenizer_folder::{chat_template, conversion_hint};
pub use training::{Length, Training};
pub use tuning_tables::{
    Direct, Dpo, LoraSave, LoraTable, LossOn, Pretrain, Schedule, Sft, TrainingTable,
};
pub use validate::{prompt_bound, steer_problems, validate};

/// The candidate most like `word`, if any is like it at all.
fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const ALIKE: f64 = 0.8;
    let likeness = |candidate: &str| {
        strsim::jaro_winkler(word, candidate)
            .max(strsim::normalized_damerau_levenshtein(word, candidate))
    };
    candidates
        .into_iter()
        .map(|candidate| (likeness(candidate), candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// `` `a`, `b` `` for messages.
fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
