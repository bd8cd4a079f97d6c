//! `[steer]` of a recipe: what is steered, by which guides, with which methods.

use serde::{Deserialize, Serialize};

use super::{MethodTable, SamplingTable};
use crate::search::Semantics;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steer {
    /// Models of the recipe to steer.
    pub bases: Vec<String>,
    /// Models of the recipe to guide with; the results of `[dpo]` and `[sft]` by default.
    pub tuned: Option<String>,
    pub untuned: Option<String>,
    /// Several guide pairs with weights, instead of `tuned` and `untuned`.
    #[serde(default)]
    pub guide: Vec<GuideTable>,
    /// Prompts from the test split.
    pub prompts: usize,
    pub max_new_tokens: usize,
    #[serde(default)]
    pub sampling: SamplingTable,
    /// A response ends before the first of these.
    #[serde(default)]
    pub stop: Vec<String>,
    #[serde(default)]
    pub semantics: Semantics,
    /// Prompts searched at once: more are faster and take more memory.
    #[serde(default = "eight")]
    pub prompts_in_flight: usize,
    /// Write the search tree and the per-token rewards too.
    #[serde(default)]
    pub trace: bool,
    pub method: Vec<MethodTable>,
}

/// One guide pair: two models of the recipe, or the results of `[dpo]` and `[sft]` where neither is
/// named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuideTable {
    pub tuned: Option<String>,
    pub untuned: Option<String>,
    /// Of the pair's score; below 0 steers away from what the pair was tuned for.
    #[serde(default = "one")]
    pub weight: f64,
}

fn eight() -> usize {
    8
}
fn one() -> f64 {
    1.0
}
