//! `[steer]` of a recipe: what is steered, by which guides, with which methods.

use serde::{Deserialize, Serialize};

use super::{ChunkLens, SamplingTable};
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

/// One guide pair: two models of the recipe, or the results of `[dpo]` and `[sft]` where neither is named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuideTable {
    pub tuned: Option<String>,
    pub untuned: Option<String>,
    /// Of the pair's score; below 0 steers away from what the pair was tuned for.
    #[serde(default = "one")]
    pub weight: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum MethodTable {
    /// Plain sampling of the base.
    Base {
        name: Option<String>,
    },
    BestOfN {
        name: Option<String>,
        n: usize,
    },
    Cbs {
        name: Option<String>,
        beam_width: usize,
        successors: usize,
        chunk_len: usize,
    },
    /// Emulated fine-tuning: samples log π_base + weight · (log π* − log π_ref), once for each weight.
    Eft {
        name: Option<String>,
        weights: Vec<f64>,
    },
    /// Token-level beam search of the base alone.
    Beam {
        name: Option<String>,
        beam_width: usize,
        #[serde(default = "one")]
        length_penalty: f64,
        #[serde(default)]
        early_stopping: bool,
    },
    /// The guides sampled alone.
    Tuned {
        name: Option<String>,
    },
    Untuned {
        name: Option<String>,
    },
    /// Plain sampling of what `[direct]` made of the base.
    Direct {
        name: Option<String>,
    },
    /// Plain sampling of what `[ppo]` made of its policy, once for each of these chunk lengths; seed by seed.
    Ppo {
        name: Option<String>,
        #[serde(default)]
        chunk_len: ChunkLens,
    },
}

impl MethodTable {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Base { .. } => "base",
            Self::BestOfN { .. } => "best_of_n",
            Self::Cbs { .. } => "cbs",
            Self::Eft { .. } => "eft",
            Self::Beam { .. } => "beam",
            Self::Tuned { .. } => "tuned",
            Self::Untuned { .. } => "untuned",
            Self::Direct { .. } => "direct",
            Self::Ppo { .. } => "ppo",
        }
    }

    /// Continuations that one step samples for one prompt.
    pub fn samples(&self) -> usize {
        match self {
            Self::BestOfN { n, .. } => *n,
            Self::Cbs { beam_width, successors, .. } => beam_width.saturating_mul(*successors),
            _ => 1,
        }
    }

    /// Tokens of a response that its guides read at once, at most.
    pub fn chunk(&self, max_new_tokens: usize) -> usize {
        match self {
            Self::Cbs { chunk_len, .. } => (*chunk_len).min(max_new_tokens),
            _ => max_new_tokens,
        }
    }

    /// Rows of the base's cache that one prompt takes.
    pub fn rows(&self) -> usize {
        match self {
            Self::Beam { beam_width, .. } => *beam_width,
            _ => self.samples(),
        }
    }

    fn name(&self) -> &str {
        let (Self::Base { name }
        | Self::BestOfN { name, .. }
        | Self::Cbs { name, .. }
        | Self::Eft { name, .. }
        | Self::Beam { name, .. }
        | Self::Tuned { name }
        | Self::Untuned { name }
        | Self::Direct { name }
        | Self::Ppo { name, .. }) = self;
        name.as_deref().unwrap_or(self.kind())
    }

    /// The names of its folders below `steer/<base>/`: `name` or the kind, with the weight or the chunk length behind it in a sweep.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Eft { weights, .. } if weights.len() > 1 => weights.iter().map(|weight| format!("{}-{weight}", self.name())).collect(),
            Self::Ppo { chunk_len: ChunkLens(lengths), .. } if lengths.len() > 1 => {
                lengths.iter().map(|length| format!("{}-{length}", self.name())).collect()
            }
            _ => vec![self.name().to_owned()],
        }
    }
}

fn eight() -> usize {
    8
}
fn one() -> f64 {
    1.0
}
