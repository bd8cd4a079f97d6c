//! Where a table finds pairs that are there already. Reading them is left to `text`.

use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::hub_id::{HubId, hub_dataset};
use super::super::rules::Rules;
use super::super::words::grouped;
use super::pair_columns::PairColumns;
use super::splits::{self, PairSplits};
use crate::artifacts::stand_in;

/// Tokens of prompt and response that are trained on by default where the pairs come from a file.
pub(super) const PAIR_FILE_TOKENS: usize = 512;

/// A `source` of pairs and what is taken of it, whichever table of the recipe names it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairSource<'a> {
    /// The table, as keys and messages name it: `preferences`.
    pub table: &'static str,
    /// A file, a folder with such files, or a data set of the hub.
    pub source: &'a str,
    /// The folder below `source` where the files lie.
    pub subset: Option<&'a str>,
    pub splits: &'a PairSplits,
    pub columns: &'a PairColumns,
    /// Pairs to train on; 0 takes all there are.
    pub train_pairs: usize,
    /// Pairs to validate on; 0 takes all that a folder has for it.
    pub validation_pairs: usize,
}

impl PairSource<'_> {
    /// Where the files lie.
    pub fn path(&self) -> PathBuf {
        let source = Path::new(self.source);
        self.subset.map_or_else(|| source.to_owned(), |subset| source.join(subset))
    }

    /// A key of the table.
    pub fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.table)
    }

    /// The values that its pairs depend on, beside the contents of the files.
    pub fn outcome(&self) -> Value {
        let Self {
            table: _,
            source: _,
            subset: _,
            splits,
            columns,
            train_pairs: train,
            validation_pairs: validation,
        } = self;
        json!({
            "splits": splits,
            "columns": columns,
            "train_pairs": train,
            "validation_pairs": validation,
        })
    }

    pub(in crate::recipe) fn rules(&self, rules: &mut Rules) {
        let (table, source) = (self.table, self.source);
        let path = rules.folder.join(source);
        let is_hub = hub_dataset(rules.folder, source).is_some();
        if is_hub {
            // Only the hub knows what it has.
        } else if let Err(stands_in) = stand_in::refuse(&path) {
            rules.problem(format!("`{table}.source`: {stands_in}"));
        } else if source.is_empty() || !path.exists() {
            rules.problem_hint(
                format!("`{table}.source` is `{source}`, but `{}` does not exist", path.display()),
                "a file of pairs, a folder with train and validation (or test) files, or a hub data \
                 set `owner/name`; a path is relative to the recipe's folder",
            );
        } else if path.is_file() && self.validation_pairs == 0 {
            rules.problem_hint(
                format!("`{table}.validation_pairs` is 0, but one file is split by size"),
                "give the number of pairs to hold out for validation",
            );
        }
        splits::subset_rules(rules, (table, source), self.subset);
        splits::rules(rules, (table, source), path.is_dir() || is_hub, &self.splits.named());
        self.column_rules(rules);
    }

    fn column_rules(&self, rules: &mut Rules) {
        let table = self.table;
        let PairColumns { prompt, chosen, rejected } = self.columns;
        for (key, column) in [("prompt", prompt), ("chosen", chosen), ("rejected", rejected)] {
            if column.is_empty() {
                rules.problem(format!("`{table}.columns.{key}` is empty"));
            }
        }
        if prompt == chosen || prompt == rejected || chosen == rejected {
            rules.problem(format!(
                "`{table}.columns` names a column twice: `{prompt}`, `{chosen}`, `{rejected}`"
            ));
        }
    }

    /// Lines on which pairs there are, for `w2s check`; `label` says who chooses.
    pub(in crate::recipe) fn words(&self, label: &str, out: &mut String) -> fmt::Result {
        let count = |pairs: usize| match pairs {
            0 => "all".to_owned(),
            pairs => grouped(pairs as u64),
        };
        let PairColumns { prompt, chosen, rejected } = self.columns;
        let subset = self.subset.map(|subset| format!(", subset {subset}")).unwrap_or_default();
        // A local path is absolute in a plan, so what still reads like an id is one.
        let hub = match HubId::parse(self.source) {
            Some(_) => " (a hub data set; a run fetches it first)",
            None => "",
        };
        write!(out, "pairs of {}{subset}{hub}, ", self.source)?;
        write!(out, "columns `{prompt}`, `{chosen}`, `{rejected}`; ")?;
        writeln!(out, "chosen is {label}")?;
        splits::words(out, "     ", &self.splits.named())?;
        let [train, validation] = [self.train_pairs, self.validation_pairs].map(count);
        writeln!(out, "     pairs: train {train}, validation {validation}")
    }
}
