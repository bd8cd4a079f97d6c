//! The stages of a recipe: a table each, which says what the stage needs, does and takes, so that
//! nothing else lists stages.

use std::fmt;

use super::{Plan, Recipe, Stage, StageMemory};

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

    /// What `w2s check` says of it, to the end of a line; further lines are indented by five.
    fn words(&self, plan: &Plan, out: &mut String) -> fmt::Result;

    /// What it takes of memory at its peak; `None` where it holds no model.
    fn memory(&self, _plan: &Plan) -> Option<StageMemory> {
        None
    }
}

/// Makes `Stage` of its variants and the fields of [`Recipe`] that hold their tables, in the order
/// in which stages run.
macro_rules! stages {
    ($($variant:ident($field:ident)),* $(,)?) => {
        /// In the order in which they run.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

            /// Its table, where the recipe has it.
            pub(super) fn table(self, recipe: &Recipe) -> Option<&dyn StageTable> {
                match self {
                    $(Self::$variant => recipe.$field.as_ref().map(|table| table as &dyn StageTable)),*
                }
            }
        }
    };
}
pub(super) use stages;

impl Stage {
    /// Whether `recipe` asks for it.
    pub(super) fn is_in(self, recipe: &Recipe) -> bool {
        self.table(recipe).is_some_and(|table| table.is_asked(recipe))
    }

    /// The names of all stages, for messages.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
