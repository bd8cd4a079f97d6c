//! `chunk_len`: how many tokens make a chunk, `"inf"` for all of them, or a list of such lengths.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

const WHOLE: &str = "inf";

/// A number of tokens, or the whole response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkLen {
    Tokens(usize),
    Whole,
}

/// One chunk length, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ChunkLens(pub Vec<ChunkLen>);

impl ChunkLens {
    /// `5, inf`.
    pub(super) fn words(&self) -> String {
        self.0.iter().map(ChunkLen::to_string).collect::<Vec<_>>().join(", ")
    }
}

impl JsonSchema for ChunkLens {
    fn schema_name() -> Cow<'static, str> {
        "ChunkLens".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "string", "array"],
            "items": { "type": ["integer", "string"] },
        })
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

impl<'de> Deserialize<'de> for ChunkLens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ManyChunkLens)
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

struct ManyChunkLens;

impl<'de> Visitor<'de> for ManyChunkLens {
    type Value = ChunkLens;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number of tokens, \"{WHOLE}\", or a list of these")
    }

    fn visit_u64<E: de::Error>(self, tokens: u64) -> Result<ChunkLens, E> {
        OneChunkLen.visit_u64(tokens).map(|one| ChunkLens(vec![one]))
    }

    fn visit_i64<E: de::Error>(self, tokens: i64) -> Result<ChunkLens, E> {
        OneChunkLen.visit_i64(tokens).map(|one| ChunkLens(vec![one]))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<ChunkLens, E> {
        OneChunkLen.visit_f64(number).map(|one| ChunkLens(vec![one]))
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<ChunkLens, E> {
        OneChunkLen.visit_str(word).map(|one| ChunkLens(vec![one]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<ChunkLens, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(ChunkLens(all))
    }
}

impl Default for ChunkLens {
    /// The paper's search has chunks of five tokens.
    fn default() -> Self {
        Self(vec![ChunkLen::Tokens(5)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ChunkLens, String> {
        #[derive(Deserialize)]
        struct Table {
            chunk_len: ChunkLens,
        }
        toml::from_str::<Table>(text)
            .map(|table| table.chunk_len)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn chunk_lengths_are_one_or_many_and_written_as_read() {
        use ChunkLen::{Tokens, Whole};
        assert_eq!(read("chunk_len = 5").unwrap(), ChunkLens(vec![Tokens(5)]));
        assert_eq!(read("chunk_len = \"inf\"").unwrap(), ChunkLens(vec![Whole]));
        assert_eq!(read("chunk_len = inf").unwrap(), ChunkLens(vec![Whole]));
        let many = read("chunk_len = [1, 25, \"inf\"]").unwrap();
        assert_eq!(many, ChunkLens(vec![Tokens(1), Tokens(25), Whole]));
        assert_eq!(serde_json::to_string(&many).unwrap(), r#"[1,25,"inf"]"#);
        assert_eq!(serde_json::from_str::<ChunkLens>(r#"[1,25,"inf"]"#).unwrap(), many);
        assert_eq!(many.0.iter().map(ChunkLen::to_string).collect::<Vec<_>>(), ["1", "25", "inf"]);
        for wrong in ["-1", "2.5", "-inf", "\"long\"", "[1, \"x\"]", "true"] {
            assert!(
                read(&format!("chunk_len = {wrong}")).unwrap_err().contains("number of tokens"),
                "{wrong}"
            );
        }
    }
}
