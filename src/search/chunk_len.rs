//! How many tokens make a chunk: a number, or `"inf"` for the whole response.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

const WHOLE: &str = "inf";

/// A number of tokens, or the whole response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkLen {
    Tokens(usize),
    Whole,
}

impl JsonSchema for ChunkLen {
    fn schema_name() -> Cow<'static, str> {
        "ChunkLen".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"] })
    }
}

impl ChunkLen {
    /// `None` is the whole response.
    pub fn tokens(self) -> Option<usize> {
        match self {
            Self::Tokens(tokens) => Some(tokens),
            Self::Whole => None,
        }
    }
}

impl fmt::Display for ChunkLen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tokens(tokens) => write!(f, "{tokens}"),
            Self::Whole => write!(f, "{WHOLE}"),
        }
    }
}

impl Serialize for ChunkLen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Tokens(tokens) => serializer.serialize_u64(*tokens as u64),
            Self::Whole => serializer.serialize_str(WHOLE),
        }
    }
}

impl<'de> Deserialize<'de> for ChunkLen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneChunkLen)
    }
}

struct OneChunkLen;

impl Visitor<'_> for OneChunkLen {
    type Value = ChunkLen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number of tokens or \"{WHOLE}\"")
    }

    fn visit_u64<E: de::Error>(self, tokens: u64) -> Result<ChunkLen, E> {
        Ok(ChunkLen::Tokens(usize::try_from(tokens).unwrap_or(usize::MAX)))
    }

    fn visit_i64<E: de::Error>(self, tokens: i64) -> Result<ChunkLen, E> {
        let tokens = u64::try_from(tokens)
            .map_err(|_| E::invalid_value(de::Unexpected::Signed(tokens), &self))?;
        self.visit_u64(tokens)
    }

    /// TOML's own `inf`, without quotes.
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<ChunkLen, E> {
        if number == f64::INFINITY {
            Ok(ChunkLen::Whole)
        } else {
            Err(E::invalid_value(de::Unexpected::Float(number), &self))
        }
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<ChunkLen, E> {
        if word == WHOLE {
            Ok(ChunkLen::Whole)
        } else {
            Err(E::invalid_value(de::Unexpected::Str(word), &self))
        }
    }
}
