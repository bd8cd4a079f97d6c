//! The recipe: what is asked for, in words; knows no tensors.
//!
//! [`tables`] holds all that there is to know of a key, table by table. [`load`] reads a file
//! strictly and applies `--set`, [`Rules`] takes what is wrong between keys, [`Plan`] is the
//! settled result with every default filled in and the sizes derived from it. What the words do is
//! left to the stages.

pub mod tables;

mod adapter_folder;
mod describe;
mod deserialize;
mod explain;
mod guide_pairs;
mod hub_cache;
mod hub_id;
mod keys;
mod keys_page;
mod load;
mod lora_starts;
mod memory;
mod mend;
mod overrides;
mod pair_sources;
mod plan;
mod planning;
mod prompt_bound;
mod ranges;
mod reading;
mod rules;
mod sizes;
mod stage;
mod tokenizer_folder;
mod words;

pub use adapter_folder::{BASE_FROM_HERE, base_folder, config_folder, hub_base, tokenizer_folder};
pub use guide_pairs::{GuidePairSource, GuideSet, GuideSource};
pub use hub_cache::{hub_cache, hub_home};
pub use hub_id::{HubId, hub_dataset, hub_model};
pub use keys::{default_value, schema, sentence};
pub use keys_page::keys_page;
pub use load::load;
pub use memory::{MemoryPart, StageMemory};
pub use plan::{Counts, DirectTraining, GuideTraining, Plan, StageTraining};
pub use planning::{steer_problems, validate, with_joined_paths};
pub use reading::{ReaderSizes, Reading, SAMPLED_ROWS, guide_tokens};
pub use rules::Rules;
pub use sizes::{ClassifierSizes, LinearSize, LmSizes};
pub use stage::{StageTable, Texts};
pub use tables::*;
pub use tokenizer_folder::{chat_template, conversion_hint};
pub use words::bytes_in_words;
