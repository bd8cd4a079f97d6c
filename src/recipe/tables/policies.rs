//! `ppo.policy`: the name of a model, or a list of names.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The models that PPO trains, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Spelled", into = "Spelled")]
pub struct Policies(pub Vec<String>);

/// As a recipe has it.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "the name of a model, or a list of names")]
enum Spelled {
    One(String),
    Several(Vec<String>),
}

impl Policies {
    /// `large, xl`.
    pub(super) fn words(&self) -> String {
        self.0.join(", ")
    }
}

impl From<Spelled> for Policies {
    fn from(spelled: Spelled) -> Self {
        match spelled {
            Spelled::One(name) => Self(vec![name]),
            Spelled::Several(names) => Self(names),
        }
    }
}

impl From<Policies> for Spelled {
    fn from(Policies(mut names): Policies) -> Self {
        match names.len() {
            1 => Self::One(names.remove(0)),
            _ => Self::Several(names),
        }
    }
}

impl JsonSchema for Policies {
    fn schema_name() -> Cow<'static, str> {
        "Policies".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "array"], "items": { "type": "string" } })
    }
}
