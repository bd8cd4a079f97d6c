//! What a recipe may say: one file a table, which holds all that there is to know of its keys: what
//! they mean and may be, their defaults, the rules between them, what `w2s check` says of them,
//! what a result depends on, and for a stage the memory that it takes.
//!
//! A key is documented once, by the comment on its field. Its first sentence is what `w2s check`,
//! `--help` and errors say of it; the page `docs/keys.md` has all of it. Types, defaults, ranges
//! and names that other programs have for a key stand on the field as well (`schemars`), and
//! [`super::keys`] reads them. Rules that concern one key alone are its range; those between keys
//! are `rules` of the table. Unknown keys are errors.
//!
//! # What a result depends on
//!
//! What a task has done stays done as long as its `outcome` is asked for: the values there, the
//! contents of the files it reads and the outcomes of the tasks that it builds on. Each table is
//! taken apart without `..` for it, so that a new key does not compile until it is said on which
//! side it stands. A key that is taken as `_` changes nothing that is learned or said, and so may
//! change at any time. It says
//!
//! - where things lie (`source`, `id`, …): contents count in its place, and so do the outcomes of
//!   what it names;
//! - how a step is computed (`device`, `threads`, `micro_batch_size`, `activation_checkpointing`,
//!   `prompts_in_flight`): results differ by rounding, as they do from one processor to another.
//!   The precision of weights is no such key: bf16 is not f32;
//! - what is kept, and how often (`checkpoint_every`, `keep_checkpoints`, `checkpoints_gib`; PPO's
//!   `eval_every`);
//! - how far a task goes that can go on (`steer.prompts`, `steer.validation_prompts`,
//!   `steer.trace`, `run.seeds`): what is missing is done, what is more stays;
//! - when to give up (`max_skips`).

mod alpaca_eval;
mod answering;
mod api;
mod chunk_len;
mod data;
mod data_rules;
mod device;
mod direct;
mod dpo;
mod dpo_settings;
mod dpo_sweep;
mod evaluate;
mod exemplars;
mod gold;
mod gold_reward_model;
mod guide;
mod judge;
mod judge_source;
mod kl;
mod length;
mod likelihood_memory;
mod lora;
mod lora_rules;
mod method;
mod method_rules;
mod method_schema;
mod method_spelling;
mod method_sweep;
mod model;
mod model_prompt;
mod pair_columns;
mod pair_source;
mod policies;
mod ppo;
mod ppo_memory;
mod ppo_rules;
mod preferences;
mod preferences_rules;
mod pretrain;
mod reward_model;
mod run;
mod sampling;
mod scratch;
mod served_guides;
mod sft;
mod splits;
mod steer;
mod steer_memory;
mod steer_validation;
mod sweep;
mod training;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use alpaca_eval::AlpacaEvalTable;
pub(in crate::recipe) use api::served_models;
pub use api::{Api, ApiBudget, ApiLimits, DialectName, Unsupported};
pub use chunk_len::ChunkLens;
pub use data::{Columns, Data, LongPrompts, PromptRule, RowOrder};
pub(in crate::recipe) use data_rules::without_data;
pub use device::DeviceName;
pub use direct::Direct;
pub use dpo::Dpo;
pub use evaluate::Evaluate;
pub use exemplars::{ANSWER, Exemplar, Exemplars, behind_hole};
pub use gold::{Gold, GoldScratch};
pub use gold_reward_model::GoldRewardModel;
pub use guide::GuideTable;
pub use judge::{Judge, JudgeTable, ModelId, ModelRole};
pub use judge_source::{JudgeSource, ProgramWords, RewardServer, RewardShape};
pub use kl::KlTable;
pub use length::Length;
pub use lora::{Lora, LoraSave, LoraTable};
pub use method::{Method, Proposal, served_guides_only_score, two_vocabularies};
pub use method_spelling::{EFT, MethodRow, MethodTable, base_kinds, takes_tilt};
pub use model::{Chat, Model};
pub use model_prompt::{HOLE, ModelPrompt};
pub use pair_columns::PairColumns;
pub use pair_source::PairSource;
pub use policies::Policies;
pub use ppo::{PpoTable, ValueSource};
pub use preferences::{Pairing, PreferenceLabel, Preferences};
pub use pretrain::Pretrain;
pub use reward_model::{RewardModelTable, RewardStart};
pub use run::{Dtype, Run};
pub use sampling::{Answering, SamplingTable};
pub use scratch::{Architecture, Scratch, ScratchTokenizer};
pub(in crate::recipe) use served_guides::served_guides;
pub use sft::{LossOn, Sft};
pub use splits::{DataSplits, PairSplits, SplitNames};
pub use steer::Steer;
pub use steer_validation::MeasuredPair;
pub use training::{Schedule, Training, TrainingTable};

pub use crate::search::ChunkLen;

/// The name of the judge that `[gold]` is.
pub const GOLD: &str = "gold";

/// Folders below `evaluate/` that are no judge's: what models say of responses, and figures.
pub const LIKELIHOOD: &str = "likelihood";
pub const FIGURES: &str = "figures";

/// All that a recipe says. A stage runs if its table is there; `[pretrain]` runs if there is a
/// model to make from scratch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    pub run: Run,
    pub data: Option<Data>,
    /// The models, each by a name of one's own.
    #[serde(default)]
    pub models: BTreeMap<String, Model>,
    pub pretrain: Option<Pretrain>,
    pub gold: Option<Gold>,
    /// Judges beside `[gold]`, which evaluation alone asks, each by a name of one's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub judges: BTreeMap<String, JudgeTable>,
    pub preferences: Option<Preferences>,
    pub sft: Option<Sft>,
    pub reward_model: Option<RewardModelTable>,
    pub dpo: Option<Dpo>,
    pub direct: Option<Direct>,
    pub ppo: Option<PpoTable>,
    pub steer: Option<Steer>,
    pub evaluate: Option<Evaluate>,
}

/// Hands the list of stages to a macro: the variants of [`Stage`] and the fields of [`Recipe`] that
/// hold their tables, in the order in which stages run.
macro_rules! for_stages {
    ($macro:ident) => {
        $macro! {
            Pretrain(pretrain),
            Gold(gold),
            Preferences(preferences),
            Sft(sft),
            RewardModel(reward_model),
            Dpo(dpo),
            Direct(direct),
            Ppo(ppo),
            Steer(steer),
            Evaluate(evaluate),
        }
    };
}
pub(in crate::recipe) use for_stages;

macro_rules! stage_names {
    ($($variant:ident($field:ident),)*) => {
        /// The stages in the order in which they run.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(rename_all = "snake_case")]
        pub enum Stage {
            $($variant),*
        }

        impl Stage {
            pub const ALL: [Self; [$(stringify!($field)),*].len()] = [$(Self::$variant),*];

            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($field)),*
                }
            }
        }
    };
}
for_stages!(stage_names);

impl Stage {
    /// The names of all stages, for messages.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
