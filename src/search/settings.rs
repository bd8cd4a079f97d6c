//! What every search says of itself, so that recipes, `w2s check`, the shell and the reports need
//! no list of searches: its keys, rules, words and sizes, and how it is run.

use super::searcher::{Opened, Searcher};
use super::semantics::Semantics;

/// A kind of search, whatever the values of its settings are.
#[derive(Debug, PartialEq)]
pub struct Kind {
    /// As recipes and the shell spell it.
    pub name: &'static str,
    pub keys: &'static [Key],
    /// Whether it draws samples, so that the sampling settings count and other distributions than
    /// the base's may propose.
    pub draws: bool,
    /// Whether the guides' scores decide what is returned.
    pub compares: bool,
}

/// One setting of a search.
#[derive(Debug, PartialEq)]
pub struct Key {
    pub name: &'static str,
    /// Its name in tables, where they have a shorter one.
    pub symbol: Option<&'static str>,
    pub value: KeyValue,
    /// What the shell's help says of it.
    pub help: &'static str,
}

/// What a setting may be, and what the shell takes where nothing is said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum KeyValue {
    /// A number of things, at least 1.
    Count(u32),
    Number(f64),
    /// Off unless it is asked for.
    Switch,
}

/// What searches are asked, whatever their settings are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Asked {
    /// Token budget of a response.
    pub max_new_tokens: usize,
    pub semantics: Semantics,
    pub with_trace: bool,
}

/// The settings of one search.
pub trait SearchSettings {
    /// What is wrong with them; `key` is where they stand.
    fn problems(&self, key: &str) -> Vec<String>;

    /// The search of `proposal` with all its settings, as `w2s check` says it.
    fn words(&self, proposal: &str) -> String;

    /// Continuations that one step samples for one prompt, at most.
    fn samples(&self) -> usize {
        1
    }

    /// Rows of a model's cache that one prompt takes.
    fn rows(&self) -> usize {
        self.samples()
    }

    /// Tokens of a response that its guides read at once, at most.
    fn chunk(&self, max_new_tokens: usize) -> usize {
        max_new_tokens
    }

    /// The search for one prompt.
    fn begin(&self, asked: &Asked, opened: Opened) -> Box<dyn Searcher>;
}

/// The problems of those of these numbers that are 0.
pub(super) fn at_least_one(key: &str, counts: &[(&str, usize)]) -> Vec<String> {
    counts
        .iter()
        .filter(|(_, count)| *count == 0)
        .map(|(name, _)| {
            format!(
                "`{key}.{name}` is 0, \
                                                                            expected 1 or \
                                                                            more"
            )
        })
        .collect()
}

/// Makes [`super::Search`] of the searches' settings, each with a constant `KIND`; the list is in
/// `mod.rs`.
macro_rules! searches {
    ($($variant:ident($settings:ident)),* $(,)?) => {
        /// A search with its settings.
        #[derive(Debug, Clone, PartialEq, serde::Serialize)]
        #[serde(untagged)]
        pub enum Search {
            $($variant($settings)),*
        }

        impl Search {
            pub const KINDS: &'static [&'static Kind] = &[$(&$settings::KIND),*];

            /// The search of this kind with the settings that `keys` holds, if there is such a
            /// kind.
            ///
            /// # Errors
            /// Those of `D` where a key is unknown, missing, or not of its type.
            pub fn read<'de, D: serde::Deserializer<'de>>(kind: &str, keys: D) -> Option<Result<Self, D::Error>> {
                $(if kind == $settings::KIND.name {
                    return Some(serde::Deserialize::deserialize(keys).map(Self::$variant));
                })*
                None
            }

            /// The setting of this name, of whichever search has one.
            pub fn key(name: &str) -> Option<&'static Key> {
                Self::KINDS.iter().flat_map(|kind| kind.keys).find(|key| key.name == name)
            }

            pub fn kind(&self) -> &'static Kind {
                match self {
                    $(Self::$variant(_) => &$settings::KIND),*
                }
            }

            pub fn settings(&self) -> &dyn SearchSettings {
                match self {
                    $(Self::$variant(settings) => settings),*
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Map, Value, json};

    use super::super::Search;
    use super::*;

    fn usual(kind: &Kind) -> Map<String, Value> {
        let value = |value| match value {
            KeyValue::Count(count) => json!(count),
            KeyValue::Number(number) => json!(number),
            KeyValue::Switch => json!(false),
        };
        kind.keys.iter().map(|key| (key.name.to_owned(), value(key.value))).collect()
    }

    fn read(kind: &Kind, keys: Map<String, Value>) -> Result<Search, serde_json::Error> {
        Search::read(kind.name, Value::Object(keys)).unwrap()
    }

    #[test]
    fn the_keys_that_a_search_tells_are_those_it_reads() {
        let names: BTreeSet<&str> = Search::KINDS.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), Search::KINDS.len());
        for kind in Search::KINDS {
            let search = read(kind, usual(kind)).unwrap();
            assert_eq!(search.kind(), *kind);
            assert_eq!(json!(search), Value::Object(usual(kind)), "{}", kind.name);
            let more = usual(kind).into_iter().chain([("other".to_owned(), json!(1))]).collect();
            assert!(
                read(kind, more).unwrap_err().to_string().contains("unknown field `other`"),
                "{}",
                kind.name
            );
        }
        assert!(Search::read("other", Value::Null).is_none());
    }

    #[test]
    fn every_number_of_things_is_at_least_one_and_every_setting_is_said() {
        for kind in Search::KINDS {
            let plain = read(kind, usual(kind)).unwrap();
            assert!(plain.settings().problems("here").is_empty());
            for key in kind.keys {
                let other = match key.value {
                    KeyValue::Count(_) => json!(0),
                    KeyValue::Number(number) => json!(number + 0.5),
                    KeyValue::Switch => json!(true),
                };
                let changed =
                    usual(kind).into_iter().chain([(key.name.to_owned(), other)]).collect();
                let changed = read(kind, changed).unwrap();
                assert_ne!(
                    changed.settings().words("the base"),
                    plain.settings().words("the base"),
                    "{}: {}",
                    kind.name,
                    key.name
                );
                if matches!(key.value, KeyValue::Count(_)) {
                    assert_eq!(
                        changed.settings().problems("here"),
                        [format!(
                            "`here.{}` is 0, \
                                                                              expected 1 or \
                                                                              more",
                            key.name
                        )]
                    );
                }
            }
        }
    }
}
