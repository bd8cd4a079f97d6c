//! `sweep` of a `[[steer.method]]`: one table for several methods that differ in some keys. A table
//! of lists stands for all combinations of their values, in the order of its keys; a list of tables
//! for its rows as they are. What the keys themselves mean is left to `method_spelling.rs`.

use std::fmt::Display;

use serde::de;
use toml::{Table, Value};

use super::super::deserialize::{Problem, What, describe, unexpected};
use super::super::words::listed;

/// The keys of every kind of method.
pub(super) const COMMON: [&str; 3] = ["name", "bases", "sweep"];

/// A sweep and the rows that it stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    /// As it was read.
    pub given: Value,
    pub rows: Vec<SweptRow>,
}

/// The values of the swept keys for one method.
#[derive(Debug, Clone, PartialEq)]
pub struct SweptRow {
    /// What follows the name: `-1-16`.
    pub suffix: String,
    pub keys: Table,
}

impl Sweep {
    /// A sweep over some of `own`, the keys of methods of this kind; `beside` are those that the
    /// table gives beside it.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn read(
        given: Value,
        kind: &str,
        own: &[&'static str],
        beside: &Table,
    ) -> Result<Self, String> {
        let rows = match &given {
            Value::Table(lists) => product(lists)?,
            Value::Array(tables) => as_given(tables)?,
            other => {
                let found = describe(&unexpected(other));
                return Err(format!(
                    "`sweep` is {found}, expected a table of lists or a list of tables"
                ));
            }
        };
        let first = rows.first().filter(|row| !row.is_empty());
        let first = first.ok_or("`sweep` is empty, expected one key or more with its values")?;
        for key in first.keys() {
            may_sweep(key, kind, own, beside)?;
        }
        for (index, row) in rows.iter().enumerate() {
            if row.len() != first.len() || !row.keys().all(|key| first.contains_key(key)) {
                let has = listed(first.keys().map(String::as_str));
                let number = index + 1;
                return Err(format!(
                    "row {number} of `sweep` has other keys than the first, which has {has}"
                ));
            }
        }
        let order: Vec<String> = first.keys().cloned().collect();
        let rows = rows.into_iter().map(|row| SweptRow::new(row, &order));
        let rows = rows.collect::<Result<_, String>>()?;
        Ok(Self { given, rows })
    }

    pub fn sweeps(&self, key: &str) -> bool {
        self.rows.first().is_some_and(|row| row.keys.contains_key(key))
    }

    /// A problem of a row: a value of the sweep is told by it.
    pub fn told<E: de::Error>(&self, problem: Problem) -> E {
        match (problem.path.last(), &problem.what) {
            (Some(key), What::Wrong { found, expected }) if self.sweeps(key) => {
                E::custom(format!("`sweep.{key}` holds {found}, expected {expected}"))
            }
            _ => problem.told(),
        }
    }
}

impl SweptRow {
    fn new(row: Table, order: &[String]) -> Result<Self, String> {
        let mut suffix = String::new();
        for key in order {
            let value = &row[key.as_str()];
            let word = word(value).ok_or_else(|| {
                let found = describe(&unexpected(value));
                format!("`sweep.{key}` holds {found}, expected single values")
            })?;
            suffix.push('-');
            suffix.push_str(&word);
        }
        Ok(Self { suffix, keys: row })
    }
}

/// All combinations of the lists' values: the last key changes fastest.
fn product(lists: &Table) -> Result<Vec<Table>, String> {
    let mut rows = vec![Table::new()];
    for (key, values) in lists {
        let Value::Array(values) = values else {
            let found = describe(&unexpected(values));
            return Err(format!("`sweep.{key}` is {found}, expected a list"));
        };
        if values.is_empty() {
            return Err(format!("`sweep.{key}` is empty, expected one value or more"));
        }
        let with = |row: &Table, value: &Value| {
            let more = [(key.clone(), value.clone())];
            row.clone().into_iter().chain(more).collect::<Table>()
        };
        rows = rows
            .iter()
            .flat_map(|row| values.iter().map(|value| with(row, value)))
            .collect::<Vec<_>>();
    }
    Ok(rows)
}

fn as_given(tables: &[Value]) -> Result<Vec<Table>, String> {
    let table = |item: &Value| match item {
        Value::Table(table) => Ok(table.clone()),
        other => {
            let found = describe(&unexpected(other));
            Err(format!("`sweep` holds {found}, expected tables of keys and values"))
        }
    };
    tables.iter().map(table).collect()
}

/// Whether a method of this kind has the key, and it stands in the sweep alone.
fn may_sweep(key: &str, kind: &str, own: &[&'static str], beside: &Table) -> Result<(), String> {
    if beside.contains_key(key) {
        return Err(format!(
            "`{key}` is given beside the `sweep` over it\n\nhint: leave one of the two out"
        ));
    }
    if own.contains(&key) {
        return Ok(());
    }
    let what = match COMMON.contains(&key) || key == "kind" {
        true => format!("`{key}` cannot be swept"),
        false => format!("`sweep` has `{key}`, which is no key of a method `{kind}`"),
    };
    let hint = match own {
        [] => format!("a method `{kind}` has no key to sweep over"),
        own => format!("a method `{kind}` can sweep over {}", listed(own.iter().copied())),
    };
    Err(format!("{what}\n\nhint: {hint}"))
}

/// A value as names have it.
fn word(value: &Value) -> Option<String> {
    let shown: &dyn Display = match value {
        Value::String(text) => text,
        Value::Integer(number) => number,
        Value::Float(number) => number,
        Value::Boolean(value) => value,
        _ => return None,
    };
    Some(shown.to_string())
}
