//! `dpo.sweep`, as recipes write it. What its rows make of `[dpo]` is in `dpo_settings.rs`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};
use toml::{Table, Value};

use super::sweep::{rows_of, word};

/// Settings that are tried one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct DpoSweep {
    /// As it was read.
    given: Value,
    pub(super) rows: Vec<Table>,
}

impl<'de> Deserialize<'de> for DpoSweep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = Value::deserialize(deserializer)?;
        // A key that is none is told with its table, by a rule.
        let rows = rows_of(&given, |_| Ok(())).map_err(D::Error::custom)?;
        Ok(Self { given, rows })
    }
}

impl Serialize for DpoSweep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.given.serialize(serializer)
    }
}

impl JsonSchema for DpoSweep {
    fn schema_name() -> Cow<'static, str> {
        "DpoSweep".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["object", "array"] })
    }
}

/// What a row is called: `beta-0.05-learning_rate-0.0001`.
pub(super) fn name(row: &Table) -> String {
    let parts = row.iter().filter_map(|(key, value)| Some(format!("{key}-{}", word(value)?)));
    parts.collect::<Vec<_>>().join("-")
}
