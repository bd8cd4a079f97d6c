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
            let found = self.columns();
            let hint = self.separator().map_or(format!("set `{key}`"), |separator| {
                format!("the columns seem to be separated by {separator}: write them with commas")
            });
            let problem = format!("no column `{column}`; found {found}\n\nhint: {hint}");
            Error::data(path, Some(self.line), problem)
        })
    }

    /// The columns beside those that are `read`, in their order.
    pub fn others(&self, read: &[&str]) -> Vec<String> {
        let unread = self.unread.iter().map(|unread| &unread.column);
        let all = self.fields.keys().chain(unread);
        all.filter(|name| !read.contains(&name.as_str()) && !name.is_empty()).cloned().collect()
    }

    /// The names of the columns, for messages.
    pub fn columns(&self) -> String {
        self.fields.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    }

    /// What separates columns in their names, where a file was read by another separator.
    fn separator(&self) -> Option<&'static str> {
        let named = |mark| self.fields.keys().any(|name| name.contains(mark));
        [(';', "semicolons"), ('\t', "tabs"), ('|', "bars")]
            .into_iter()
            .find_map(|(mark, name)| named(mark).then_some(name))
    }

    /// Whether `column` says yes; `None` where there is no such column, or nothing in it.
    ///
    /// # Errors
    /// Where it is no truth value.
    pub fn truth(&self, path: &Path, column: &str) -> Result<Option<bool>> {
        match self.fields.get(column) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
            Some(value) => truth(value).map(Some).ok_or_else(|| {
                let what = shorten(&value.to_string());
                let problem = format!("`{column}` is `{what}`; expected 0, 1, true or false");
                Error::data(path, Some(self.line), problem)
            }),
        }
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

/// Yes or no, be it a truth value, a number, or text that says one of them: tables have `True` and
/// `1.0` where JSON has `true` and `1`.
pub fn truth(value: &Value) -> Option<bool> {
    let of_number = |number: f64| (number == 0.0 || number == 1.0).then_some(number == 1.0);
    match value {
        Value::Bool(truth) => Some(*truth),
        Value::Number(number) => of_number(number.as_f64()?),
        Value::String(text) => match text.trim().to_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            text => of_number(text.parse().ok()?),
        },
        _ => None,
    }
}

pub fn shorten(text: &str) -> String {
    if text.chars().count() <= 60 {
        text.to_owned()
    } else {
        text.chars().take(57).chain("…".chars()).collect()
    }
}
