//! A TOML value into the schema's types with errors that keep their parts: the path, the key, what
//! was expected.
//!
//! One call reports the first problem only; `load` mends the value and calls again to find the
//! others.

use std::fmt;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, Visitor,
};
use toml::Value;

/// What is wrong, and the keys that lead there.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Problem {
    pub path: Vec<String>,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum What {
    UnknownKey { key: String, expected: &'static [&'static str] },
    MissingKey(&'static str),
    UnknownChoice { found: String, choices: &'static [&'static str] },
    Wrong { found: String, expected: String },
    Other(String),
}

/// The value as a `T`, or the first problem with its path.
pub(super) fn read<T: DeserializeOwned>(root: &Value) -> Result<T, Problem> {
    T::deserialize(Node(root)).map_err(|mut problem| {
        problem.path.reverse();
        problem.locate(root);
        problem
    })
}

impl Problem {
    fn new(what: What) -> Self {
        Self { path: Vec::new(), what }
    }

    pub(super) fn below(mut self, key: &str) -> Self {
        // Innermost first; `read` turns it round once.
        self.path.push(key.to_owned());
        self
    }

    /// The same for a reader that has its own errors, without the path.
    pub(super) fn told<E: de::Error>(self) -> E {
        match self.what {
            What::UnknownKey { key, expected } => E::unknown_field(&key, expected),
            What::MissingKey(key) => E::missing_field(key),
            What::UnknownChoice { found, choices } => E::unknown_variant(&found, choices),
            What::Wrong { found, expected } => {
                E::invalid_type(Unexpected::Other(&found), &expected.as_str())
            }
            What::Other(message) => E::custom(message),
        }
    }

    /// The tables of tagged enums and of methods are buffered, which loses the last key; it is
    /// found again by what was found there.
    fn locate(&mut self, root: &Value) {
        let Some(Value::Table(table)) = get(root, &self.path) else { return };
        let key = match &self.what {
            What::UnknownChoice { found, .. } => table
                .iter()
                .find(|(key, value)| *key == "kind" && value.as_str() == Some(found))
                .map(|(key, _)| key),
            What::Wrong { found, .. } => {
                let mut matching = table
                    .iter()
                    .filter(|(_, value)| describe(&unexpected(value)) == *found)
                    .map(|(key, _)| key);
                matching.next().filter(|_| matching.next().is_none())
            }
            _ => None,
        };
        self.path.extend(key.cloned());
    }
}

/// The value at `path`; list items go by their index.
pub(super) fn get<'a>(root: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(root, |value, key| match value {
        Value::Table(table) => table.get(key),
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        _ => None,
    })
}

pub(super) fn get_mut<'a>(root: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    path.iter().try_fold(root, |value, key| match value {
        Value::Table(table) => table.get_mut(key),
        Value::Array(items) => items.get_mut(key.parse::<usize>().ok()?),
        _ => None,
    })
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.path.join("."), self.what)
    }
}

impl std::error::Error for Problem {}

impl de::Error for Problem {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(What::Other(message.to_string()))
    }

    fn invalid_type(found: Unexpected, expected: &dyn Expected) -> Self {
        Self::new(What::Wrong {
            found: describe(&found),
            expected: in_words(&expected.to_string()),
        })
    }

    fn invalid_value(found: Unexpected, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(found: &str, choices: &'static [&'static str]) -> Self {
        Self::new(What::UnknownChoice { found: found.to_owned(), choices })
    }

    fn unknown_field(key: &str, expected: &'static [&'static str]) -> Self {
        Self::new(What::UnknownKey { key: key.to_owned(), expected })
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(What::MissingKey(key))
    }
}

fn in_words(expected: &str) -> String {
    match expected {
        "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "i64" => "a whole number".to_owned(),
        "f64" => "a number".to_owned(),
        "a boolean" => "`true` or `false`".to_owned(),
        "a string" => "text".to_owned(),
        "a sequence" => "a list".to_owned(),
        other if other == "a map" || other.contains("struct") || other.contains("enum") => {
            "a table".to_owned()
        }
        other => other.to_owned(),
    }
}

/// What was found, in words.
pub(super) fn describe(found: &Unexpected) -> String {
    match found {
        Unexpected::Str(text) => format!("the text `{text}`"),
        Unexpected::Signed(number) => format!("`{number}`"),
        Unexpected::Unsigned(number) => format!("`{number}`"),
        Unexpected::Float(number) => format!("`{number:?}`"),
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

/// A value in the words of serde.
pub(super) fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::String(text) => Unexpected::Str(text),
        Value::Integer(number) => Unexpected::Signed(*number),
        Value::Float(number) => Unexpected::Float(*number),
        Value::Boolean(value) => Unexpected::Bool(*value),
        Value::Datetime(_) => Unexpected::Other("a date"),
        Value::Array(_) => Unexpected::Seq,
        Value::Table(_) => Unexpected::Map,
    }
}

/// A value as it is read.
pub(super) struct Node<'a>(pub &'a Value);

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.0 {
            Value::String(text) => visitor.visit_str(text),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Table(table) => {
                visitor.visit_map(Entries { entries: table.iter(), value: None })
            }
            // Serde would read a list as the fields of a tagged table in their order.
            Value::Array(items)
                if in_words(&(&visitor as &dyn Expected).to_string()) != "a table" =>
            {
                visitor.visit_seq(Items(items.iter().enumerate()))
            }
            other => Err(de::Error::invalid_type(unexpected(other), &visitor)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(Items(items.iter().enumerate())),
            other => Err(de::Error::invalid_type(unexpected(other), &visitor)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &str,
        _: &[&str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        match self.0 {
            Value::String(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            other => Err(de::Error::invalid_type(unexpected(other), &"a string")),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct newtype_struct
        tuple tuple_struct map struct identifier ignored_any
    }
}

struct Entries<'a> {
    entries: toml::map::Iter<'a, String, Value>,
    value: Option<(&'a str, &'a Value)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Problem> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some((key, value));
        seed.deserialize(key.as_str().into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Problem> {
        let (key, value) = self.value.take().ok_or_else(|| {
            <Problem as de::Error>::custom("a value was asked for before its key")
        })?;
        seed.deserialize(Node(value)).map_err(|problem| problem.below(key))
    }
}

struct Items<'a>(std::iter::Enumerate<std::slice::Iter<'a, Value>>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Problem;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Problem> {
        let Some((index, value)) = self.0.next() else { return Ok(None) };
        seed.deserialize(Node(value)).map(Some).map_err(|problem| problem.below(&index.to_string()))
    }
}
