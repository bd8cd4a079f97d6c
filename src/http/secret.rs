//! A key that opens a server, which nothing shows: no log, no error, no `{:?}`.

use std::fmt;

use crate::error::{Error, Result};

/// What stands where the key was.
const HIDDEN: &str = "***";

#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    value: String,
    from: String,
}

impl Secret {
    /// `from` says in messages where the key can be changed.
    pub fn new(value: impl Into<String>, from: impl Into<String>) -> Self {
        Self { value: value.into(), from: from.into() }
    }

    /// The value of the environment variable `name`. Fails where it is not set, empty, or no text
    /// that a header can carry.
    pub fn of_variable(name: &str) -> Result<Self> {
        let value = std::env::var(name).unwrap_or_default().trim().to_owned();
        if value.is_empty() {
            return Err(Error::failed(format!(
                "the environment variable `{name}` that is to hold a key is not set\n\nhint: \
                 `export {name}=…` in the shell that starts the program; recipes and flags \
                 name the variable, never the key"
            )));
        }
        if !value.chars().all(|character| character.is_ascii_graphic()) {
            return Err(Error::failed(format!(
                "the environment variable `{name}` holds spaces or other characters that no key \
                 has\n\nhint: set it to the key alone"
            )));
        }
        Ok(Self::new(value, format!("the environment variable `{name}`")))
    }

    /// Where it is from, for messages.
    pub fn from(&self) -> &str {
        &self.from
    }

    /// The key itself, for the environment of a program that is to have it.
    pub fn reveal(&self) -> &str {
        &self.value
    }

    /// The value of the header `Authorization`.
    pub(super) fn bearer(&self) -> String {
        format!("Bearer {}", self.value)
    }

    /// `text` without the key.
    pub fn hide(&self, text: &str) -> String {
        text.replace(&self.value, HIDDEN)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({HIDDEN}, {})", self.from)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}
