//! What each stage's table says of its stage, so that nothing else lists stages. What a stage does
//! is left to `stages`.

use std::fmt;

use super::memory::StageMemory;
use super::plan::Plan;
use super::rules::Rules;
use super::tables::{Recipe, Stage, for_stages};

/// Texts of `[data]`, or the prompts that they make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Texts {
    None,
    /// Those to train and to validate on.
    Training,
    Test,
}

/// The table of a stage.
pub trait StageTable {
    /// Whether `recipe`, which has it, leaves the stage anything to do.
    fn is_asked(&self, _recipe: &Recipe) -> bool {
        true
    }

    /// The stages whose tables must be there too.
    fn needs(&self) -> Vec<Stage> {
        Vec::new()
    }

    /// What `needed`, whose table is missing, is for, to follow its name; and a way out where
    /// there is more than to add it.
    fn without(&self, _needed: Stage, _: &Recipe) -> Option<(&'static str, &'static str)> {
        None
    }

    /// Which texts of `[data]` the stage reads.
    fn texts(&self, _recipe: &Recipe) -> Texts {
        Texts::None
    }

    /// Tells `rules` what is wrong between the table's keys and others; a range that one key alone
    /// must keep stands on its field.
    fn rules(&self, rules: &mut Rules);

    /// Writes what `w2s check` says of it, to the end of a line; further lines are indented by
    /// five.
    ///
    /// # Errors
    /// Those of `out`.
    fn words(&self, plan: &Plan, out: &mut String) -> fmt::Result;

    /// What is worth a second look, though a run does it: one line each, with the key.
    fn warnings(&self, _plan: &Plan) -> Vec<String> {
        Vec::new()
    }

    /// What it takes of memory at its peak; `None` where it holds no model.
    fn memory(&self, _plan: &Plan) -> Option<StageMemory> {
        None
    }
}

macro_rules! stage_tables {
    ($($variant:ident($field:ident),)*) => {
        impl Stage {
            /// Its table, where the recipe has it.
            pub(super) fn table(self, recipe: &Recipe) -> Option<&dyn StageTable> {
                match self {
                    $(Self::$variant => {
                        recipe.$field.as_ref().map(|table| table as &dyn StageTable)
                    })*
                }
            }
        }
    };
}
for_stages!(stage_tables);

impl Stage {
    /// Whether `recipe` asks for it.
    pub(super) fn is_in(self, recipe: &Recipe) -> bool {
        self.table(recipe).is_some_and(|table| table.is_asked(recipe))
    }
}
