//! One row of a data file, and its columns by their names. The files are read by `records.rs`.

use std::path::Path;
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// One row: its line or number (from 1) and its fields.
pub struct Record {
    pub line: usize,
    pub fields: Map<String, Value>,
    /// Columns that the file has beside them and that no row holds, the same for all its rows.
    pub unread: Rc<[Unread]>,
}

/// A column that was left out, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    pub column: String,
    pub holds: &'static str,
}

impl Record {
    /// The value in `column`; `key` is the recipe's key that names it.
    ///
    /// # Errors
    /// Where there is no such column: names the file, the line and the columns that are there; and
    /// where it holds what is not read.
    pub fn column(&self, path: &Path, column: &str, key: &str) -> Result<&Value> {
        self.fields.get(column).ok_or_else(|| {
            if let Some(unread) = self.unread.iter().find(|unread| unread.column == column) {
                let hint = "write it as text, or as lists and structs of text";
                let holds = unread.holds;
                let problem = format!("the column `{column}` holds {holds}\n\nhint: {hint}");
                return Error::data(path, None, problem);
            }
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
