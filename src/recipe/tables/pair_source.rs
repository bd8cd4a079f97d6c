//! Where a table finds pairs that are there already. Reading them is left to `text`.

use std::fmt::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::super::rules::Rules;
use super::super::words::grouped;
use super::pair_columns::PairColumns;
use super::preferences::Preferences;
use super::splits::{self, PairSplits};
use super::{GoldRewardModel, Recipe};
use crate::artifacts::stand_in;

/// A `source` of pairs and what is taken of it, whichever table of the recipe names it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairSource<'a> {
    /// The table, as keys and messages name it: `preferences`.
    pub table: &'static str,
    /// A file, or a folder with such files.
    pub source: &'a str,
    pub splits: &'a PairSplits,
    pub columns: &'a PairColumns,
    /// Pairs to train on; 0 takes all there are.
    pub train_pairs: usize,
    /// Pairs to validate on; 0 takes all that a folder has for it.
    pub validation_pairs: usize,
}

impl<'a> PairSource<'a> {
    pub fn path(&self) -> &'a Path {
        Path::new(self.source)
    }

    /// A key of the table.
    pub fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.table)
    }

    /// The values that its pairs depend on, beside the contents of the files.
    pub fn outcome(&self) -> Value {
        let Self { table: _, source: _, splits, columns, train_pairs, validation_pairs } = self;
        json!({
            "splits": splits,
            "columns": columns,
            "train_pairs": train_pairs,
            "validation_pairs": validation_pairs,
        })
    }

    pub(in crate::recipe) fn rules(&self, rules: &mut Rules) {
        let (table, source) = (self.table, self.source);
        let path = rules.folder.join(source);
        if let Err(stands_in) = stand_in::refuse(&path) {
            rules.problem(format!("`{table}.source`: {stands_in}"));
        } else if source.is_empty() || !path.exists() {
            rules.problem_hint(
                format!("`{table}.source` is `{source}`, but `{}` does not exist", path.display()),
                "a file of pairs, or a folder with train and validation (or test) files; a path is \
                 relative to the recipe's folder",
            );
        } else if path.is_file() && self.validation_pairs == 0 {
            rules.problem_hint(
                format!("`{table}.validation_pairs` is 0, but one file is split by size"),
                "give the number of pairs to hold out for validation",
            );
        }
        splits::rules(rules, (table, source), path.is_dir(), &self.splits.named());
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
        write!(out, "pairs of {}, columns `{prompt}`, `{chosen}`, `{rejected}`; ", self.source)?;
        writeln!(out, "chosen is {label}")?;
        splits::words(out, "     ", &self.splits.named())?;
        let [train, validation] = [self.train_pairs, self.validation_pairs].map(count);
        writeln!(out, "     pairs: train {train}, validation {validation}")
    }
}

impl Recipe {
    /// The pairs that the gold is trained on, and those of `[preferences]`, where they are there
    /// already.
    pub fn pair_sources(&self) -> Vec<PairSource<'_>> {
        let gold = self.gold_reward_model().map(GoldRewardModel::pair_source);
        let preferences = self.preferences.as_ref().and_then(Preferences::pair_source);
        gold.into_iter().chain(preferences).collect()
    }
}
