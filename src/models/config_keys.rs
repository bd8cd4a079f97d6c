//! What the configs of several families have in common: ids that may be many, default values, and
//! the sizes that no model has. The families' own keys are in their files.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Some configs name one end-of-sequence token, some a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TokenIds {
    One(i64),
    Many(Vec<i64>),
}

impl TokenIds {
    pub fn to_vec(&self) -> Vec<i64> {
        match self {
            Self::One(id) => vec![*id],
            Self::Many(ids) => ids.clone(),
        }
    }
}

/// `error` of the problems, if there are any.
pub(super) fn refuse(
    problems: Vec<String>,
    error: impl FnOnce(Vec<String>) -> Error,
) -> Result<()> {
    if problems.is_empty() { Ok(()) } else { Err(error(problems)) }
}

/// Sizes that are not positive, or beyond any model's; names and shapes of that many layers would
/// fill the memory.
pub(super) fn size_problems(layers: (&str, i64), sizes: &[(&str, i64)]) -> Vec<String> {
    const MOST_LAYERS: i64 = 1 << 12;
    const LARGEST: i64 = 1 << 24;
    let all = sizes.iter().map(|size| (*size, LARGEST)).chain([(layers, MOST_LAYERS)]);
    let problem = |((name, size), most): ((&str, i64), i64)| match size {
        ..1 => Some(format!("`{name}` must be positive, not {size}")),
        _ if size > most => Some(format!("`{name}` is {size}, more than any model has")),
        _ => None,
    };
    all.filter_map(problem).collect()
}

pub(super) fn default_range() -> f64 {
    0.02
}

pub(super) fn gelu() -> String {
    "gelu".to_owned()
}
