//! `chunk_len` of trainings: one chunk length, or a list of such lengths.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, IntoDeserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::search::ChunkLen;

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

impl<'de> Deserialize<'de> for ChunkLens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ManyChunkLens)
    }
}

struct ManyChunkLens;

impl<'de> Visitor<'de> for ManyChunkLens {
    type Value = ChunkLens;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of tokens, \"inf\", or a list of these")
    }

    fn visit_u64<E: de::Error>(self, tokens: u64) -> Result<ChunkLens, E> {
        one(tokens.into_deserializer())
    }

    fn visit_i64<E: de::Error>(self, tokens: i64) -> Result<ChunkLens, E> {
        one(tokens.into_deserializer())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<ChunkLens, E> {
        one(number.into_deserializer())
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<ChunkLens, E> {
        one(word.into_deserializer())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<ChunkLens, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(ChunkLens(all))
    }
}

/// The list of one length.
fn one<'de, D: Deserializer<'de>>(length: D) -> Result<ChunkLens, D::Error> {
    ChunkLen::deserialize(length).map(|one| ChunkLens(vec![one]))
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
