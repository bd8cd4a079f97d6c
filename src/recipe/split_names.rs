//! `splits` of `[data]` and `[preferences]`: which files of a folder are which split, where their
//! names leave a choice.

use std::fmt;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

/// Of a folder of labelled texts; what is left out is told by the names of the files.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataSplits {
    pub train: Option<SplitNames>,
    pub validation: Option<SplitNames>,
    pub test: Option<SplitNames>,
}

/// Of a folder of preference pairs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PairSplits {
    pub train: Option<SplitNames>,
    pub validation: Option<SplitNames>,
}

/// One name, or a list of names whose files are read as one split: `train_prefs` for
/// `train_prefs-00000-of-00001.parquet`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SplitNames(pub Vec<String>);

impl DataSplits {
    /// With the key of each.
    pub fn named(&self) -> Vec<(&'static str, &SplitNames)> {
        let all = [("train", &self.train), ("validation", &self.validation), ("test", &self.test)];
        all.into_iter().filter_map(|(key, names)| Some((key, names.as_ref()?))).collect()
    }
}

impl PairSplits {
    /// With the key of each.
    pub fn named(&self) -> Vec<(&'static str, &SplitNames)> {
        [("train", &self.train), ("validation", &self.validation)]
            .into_iter()
            .filter_map(|(key, names)| Some((key, names.as_ref()?)))
            .collect()
    }
}

impl fmt::Display for SplitNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" + "))
    }
}

impl<'de> Deserialize<'de> for SplitNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrMore)
    }
}

struct OneOrMore;

impl<'de> Visitor<'de> for OneOrMore {
    type Value = SplitNames;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a split, or a list of names")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<SplitNames, E> {
        Ok(SplitNames(vec![name.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<SplitNames, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = items.next_element()? {
            names.push(name);
        }
        Ok(SplitNames(names))
    }
}
