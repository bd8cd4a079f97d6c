//! `sweep` of a `[[steer.method]]`: one table for several methods that differ in some keys. How
//! sweeps are written says `sweep.rs`; what the keys mean is left to `method_spelling.rs`.

use serde::de;
use toml::{Table, Value};

use super::super::deserialize::{Problem, What};
use super::super::words::listed;
use super::sweep::{rows_of, word};

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
        let rows = rows_of(&given, |key| may_sweep(key, kind, own, beside))?;
        let rows = rows.into_iter().map(SweptRow::new).collect();
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
    fn new(keys: Table) -> Self {
        let suffix = keys.values().filter_map(word).map(|word| format!("-{word}")).collect();
        Self { suffix, keys }
    }
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
