//! The two ways to write a `sweep`: a table of lists stands for all combinations of their values,
//! in the order of its keys; a list of tables for its rows as they are. What may be swept is left
//! to whoever has one.

use std::fmt::Display;

use toml::{Table, Value};

use super::super::deserialize::{describe, unexpected};
use super::super::words::listed;

/// The rows that a sweep stands for: one or more, with the same keys in the same order, each with a
/// single value. `may_sweep` says what is wrong with a key.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn rows_of(
    given: &Value,
    may_sweep: impl Fn(&str) -> Result<(), String>,
) -> Result<Vec<Table>, String> {
    let rows = match given {
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
    let order: Vec<String> = first.keys().cloned().collect();
    order.iter().try_for_each(|key| may_sweep(key))?;
    let ordered = rows.iter().enumerate().map(|(index, row)| {
        if row.len() != order.len() || !order.iter().all(|key| row.contains_key(key)) {
            let has = listed(order.iter().map(String::as_str));
            let number = index + 1;
            return Err(format!(
                "row {number} of `sweep` has other keys than the first, which has {has}"
            ));
        }
        order.iter().map(|key| single(key, &row[key])).collect()
    });
    ordered.collect()
}

fn single(key: &str, value: &Value) -> Result<(String, Value), String> {
    match word(value) {
        Some(_) => Ok((key.to_owned(), value.clone())),
        None => {
            let found = describe(&unexpected(value));
            Err(format!("`sweep.{key}` holds {found}, expected single values"))
        }
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

/// A single value as names have it.
pub(super) fn word(value: &Value) -> Option<String> {
    let shown: &dyn Display = match value {
        Value::String(text) => text,
        Value::Integer(number) => number,
        Value::Float(number) => number,
        Value::Boolean(value) => value,
        _ => return None,
    };
    Some(shown.to_string())
}
