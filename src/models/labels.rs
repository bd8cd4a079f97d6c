//! The labels of a classifier: their names by index, and which of them means positive.

use std::collections::BTreeMap;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Labels(pub BTreeMap<i64, String>);

impl Default for Labels {
    /// What transformers gives a classifier whose labels have no names.
    fn default() -> Self {
        Self(BTreeMap::from([(0, "LABEL_0".to_owned()), (1, "LABEL_1".to_owned())]))
    }
}

impl Labels {
    /// NEGATIVE and POSITIVE.
    pub fn sentiment() -> Self {
        Self(BTreeMap::from([(0, "NEGATIVE".to_owned()), (1, "POSITIVE".to_owned())]))
    }

    pub fn count(&self) -> i64 {
        self.0.len() as i64
    }

    pub(super) fn problem(&self) -> Option<String> {
        if !self.0.keys().copied().eq(0..self.count()) || self.0.is_empty() {
            return Some(format!("`id2label` must name the labels 0, 1, …, not {:?}", self.0));
        }
        self.positive().err()
    }

    /// The label called POSITIVE, else the one whose name contains it, else LABEL_1; upper and
    /// lower case are the same.
    pub fn positive(&self) -> Result<i64, String> {
        let rules: [fn(&str) -> bool; 3] =
            [|name| name == "POSITIVE", |name| name.contains("POSITIVE"), |name| name == "LABEL_1"];
        for rule in rules {
            let found: Vec<i64> = self
                .0
                .iter()
                .filter(|(_, name)| rule(&name.to_uppercase()))
                .map(|(id, _)| *id)
                .collect();
            match found[..] {
                [] => {}
                [label] => return Ok(label),
                _ => break,
            }
        }
        let names = self.0.values().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        Err(format!(
            "`id2label` does not say which label is the positive one: {names}\n\nhint: call \
             exactly one label `POSITIVE` in config.json"
        ))
    }
}

/// JSON keys are text, and serde does not turn them into numbers beside a flattened field.
impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let by_text = BTreeMap::<String, String>::deserialize(deserializer)?;
        let by_number = by_text.into_iter().map(|(id, name)| match id.parse() {
            Ok(id) => Ok((id, name)),
            Err(_) => Err(D::Error::custom(format!(
                "`id2label` has the key `{id}`, which is not a number"
            ))),
        });
        by_number.collect::<Result<_, _>>().map(Self)
    }
}
