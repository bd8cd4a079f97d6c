//! `prompt` of `[models.<name>]`: a template, or the file that holds one. The file is read by
//! `text`, which puts its contents in its place.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

const FILE: &str = "file";

/// Where the raw prompt stands in a template.
pub const HOLE: &str = "{prompt}";

/// A template, or the file that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelPrompt {
    Text(String),
    File(String),
}

impl ModelPrompt {
    /// The template; `None` as long as its file is not read.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::File(_) => None,
        }
    }

    pub fn file(&self) -> Option<&str> {
        match self {
            Self::Text(_) => None,
            Self::File(file) => Some(file),
        }
    }
}

impl Default for ModelPrompt {
    fn default() -> Self {
        Self::Text(HOLE.to_owned())
    }
}

impl Serialize for ModelPrompt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::File(file) => {
                let mut table = serializer.serialize_map(Some(1))?;
                table.serialize_entry(FILE, file)?;
                table.end()
            }
        }
    }
}

impl JsonSchema for ModelPrompt {
    fn schema_name() -> Cow<'static, str> {
        "ModelPrompt".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "object"] })
    }
}

impl<'de> Deserialize<'de> for ModelPrompt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrFile)
    }
}

struct TextOrFile;

impl<'de> Visitor<'de> for TextOrFile {
    type Value = ModelPrompt;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text that holds {prompt}, or the file of one as { file = \"…\" }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<ModelPrompt, E> {
        Ok(ModelPrompt::Text(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<ModelPrompt, A::Error> {
        let mut file = None;
        while let Some(key) = table.next_key::<String>()? {
            match key.as_str() {
                FILE => file = Some(table.next_value()?),
                other => return Err(de::Error::unknown_field(other, &[FILE])),
            }
        }
        file.map(ModelPrompt::File).ok_or_else(|| de::Error::missing_field(FILE))
    }
}
