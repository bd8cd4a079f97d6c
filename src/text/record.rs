//! One row of a data file, and its columns by their names. The files are read by `records.rs`.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// One row: its line or number (from 1) and its fields.
pub struct Record {
    pub line: usize,
    pub fields: Map<String, Value>,
}

impl Record {
    /// The value in `column`; `key` is the recipe's key that names it.
    ///
    /// # Errors
    /// Where there is no such column: names the file, the line and the columns that are there.
    pub fn column(&self, path: &Path, column: &str, key: &str) -> Result<&Value> {
        self.fields.get(column).ok_or_else(|| {
            let found =
                self.fields.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            Error::data(
                path,
                Some(self.line),
                format!("no column `{column}`; found {found}\n\nhint: set `{key}`"),
            )
        })
    }

    /// The text in `column`, as [`Self::column`].
    pub fn text(&self, path: &Path, column: &str, key: &str) -> Result<&str> {
        let value = self.column(path, column, key)?;
        value.as_str().ok_or_else(|| {
            Error::data(
                path,
                Some(self.line),
                format!("`{column}` must be a string, not `{}`", shorten(&value.to_string())),
            )
        })
    }
}

pub fn shorten(text: &str) -> String {
    if text.chars().count() <= 60 {
        text.to_owned()
    } else {
        text.chars().take(57).chain("…".chars()).collect()
    }
}
