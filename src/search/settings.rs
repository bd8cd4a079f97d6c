//! What every search says of itself, so that recipes, `w2s check`, the shell and the reports need
//! no list of searches: its keys, rules, words and sizes, and how it is run.

use schemars::Schema;
use serde_json::Value;

use super::searcher::{Opened, Searcher};
use super::semantics::Semantics;

/// A kind of search, whatever the values of its settings are.
#[derive(Debug)]
pub struct Kind {
    /// As recipes and the shell spell it.
    pub name: &'static str,
    /// Whether it draws samples, so that the sampling settings count and other distributions than
    /// the base's may propose.
    pub draws: bool,
    /// Whether the guides' scores decide what is returned.
    pub compares: bool,
    /// Whether the guides must have the base's vocabulary.
    pub one_vocabulary: bool,
    /// Its settings, each said by the comment on its field: types, ranges and defaults. A setting
    /// without a default has an `x-usual` that the shell takes, and may have an `x-symbol`.
    pub schema: fn() -> Schema,
}

/// One setting of a search, read from the schema of its field.
#[derive(Debug, PartialEq)]
pub struct Key {
    pub name: String,
    /// Its name in tables, where they have a shorter one.
    pub symbol: Option<String>,
    pub value: KeyValue,
    /// What the shell's help says of it.
    pub help: String,
}

/// What a setting may be, and what the shell takes where nothing is said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum KeyValue {
    /// A number of things, at least 1.
    Count(u32),
    /// A number of things, or 0 for all.
    Limit(u32),
    /// A number of tokens, at least 1, or `inf`.
    Length(u32),
    Number(f64),
    /// Off unless it is asked for.
    Switch,
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Kind {
    /// Its settings in the order of their fields.
    pub fn keys(&self) -> Vec<Key> {
        let schema = (self.schema)();
        let properties = schema.get("properties").and_then(Value::as_object);
        properties.into_iter().flatten().map(|(name, field)| Key::of(name, field)).collect()
    }
}

impl Key {
    fn of(name: &str, field: &Value) -> Self {
        let usual = field.get("x-usual").or_else(|| field.get("default"));
        let count = || {
            let usual = usual.and_then(Value::as_u64);
            usual.and_then(|usual| usual.try_into().ok()).unwrap_or(1)
        };
        let may_be_none = field["minimum"] == 0;
        let value = match field["type"].as_str() {
            None => KeyValue::Length(count()),
            Some("integer") if may_be_none => KeyValue::Limit(count()),
            Some("integer") => KeyValue::Count(count()),
            Some("boolean") => KeyValue::Switch,
            _ => KeyValue::Number(usual.and_then(Value::as_f64).unwrap_or_default()),
        };
        let text = |key: &str| field[key].as_str().map(|text| text.replace('\n', " "));
        let help = text("description").unwrap_or_default().trim_end_matches('.').to_owned();
        Self { name: name.to_owned(), symbol: text("x-symbol"), value, help }
    }
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

    /// Whether it asks the guides what every next token is worth.
    fn weighs_next(&self) -> bool {
        false
    }

    /// The search for one prompt.
    fn begin(&self, asked: &Asked, opened: Opened) -> Box<dyn Searcher>;
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
            pub fn read<'de, D: serde::Deserializer<'de>>(
                kind: &str,
                keys: D,
            ) -> Option<Result<Self, D::Error>> {
                $(if kind == $settings::KIND.name {
                    return Some(serde::Deserialize::deserialize(keys).map(Self::$variant));
                })*
                None
            }

            /// All settings with the kinds of their searches.
            pub fn keys() -> &'static [(&'static str, Key)] {
                static KEYS: std::sync::LazyLock<Vec<(&'static str, Key)>> =
                    std::sync::LazyLock::new(|| {
                        let kinds = Search::KINDS.iter();
                        kinds
                            .flat_map(|kind| kind.keys().into_iter().map(|key| (kind.name, key)))
                            .collect()
                    });
                &KEYS
            }

            /// The setting of this name, of whichever search has one.
            pub fn key(name: &str) -> Option<&'static Key> {
                Self::keys().iter().map(|(_, key)| key).find(|key| key.name == name)
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
            KeyValue::Count(count) | KeyValue::Limit(count) | KeyValue::Length(count) => {
                json!(count)
            }
            KeyValue::Number(number) => json!(number),
            KeyValue::Switch => json!(false),
        };
        kind.keys().into_iter().map(|key| (key.name, value(key.value))).collect()
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
            let schema = (kind.schema)();
            for key in kind.keys() {
                assert!(!key.help.is_empty(), "{}: {}", kind.name, key.name);
                let other = match key.value {
                    KeyValue::Count(count) | KeyValue::Limit(count) => json!(count + 1),
                    KeyValue::Length(_) => json!("inf"),
                    KeyValue::Number(number) => json!(number + 0.5),
                    KeyValue::Switch => json!(true),
                };
                if matches!(key.value, KeyValue::Count(_) | KeyValue::Length(_)) {
                    let properties = schema.get("properties").unwrap();
                    assert_eq!(properties[&key.name]["minimum"], 1, "{}: {}", kind.name, key.name);
                }
                let changed = usual(kind).into_iter().chain([(key.name.clone(), other)]).collect();
                let changed = read(kind, changed).unwrap();
                let [changed, plain] =
                    [&changed, &plain].map(|search| search.settings().words("the base"));
                assert_ne!(changed, plain, "{}: {}", kind.name, key.name);
            }
        }
    }
}
