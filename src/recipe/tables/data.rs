//! `[data]`: the labelled texts, their splits, and the prompts made of them. Reading them is left
//! to `text`.

use std::fmt::{self, Write};
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::hub_id::{HubId, hub_dataset};
use super::super::rules::Rules;
use super::super::words::{grouped, listed, nearest};
use super::splits::{self, DataSplits};
use crate::artifacts::stand_in;

const BUILTIN: &str = "builtin:reviews";

/// The texts. What is held out was not seen in training: where the program splits, rows of equal
/// text stay together, and a prompt that a training text makes too is none of the other splits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// `builtin:reviews`, a file (`.jsonl[.gz]`, `.json`, `.csv`, `.parquet`), a folder with such
    /// files for each split, or a hub data set `owner/name[@revision]`.
    #[schemars(extend("x-also" = ["dataset_name", "dataset", "path"]))]
    #[schemars(example = &"builtin:reviews")]
    pub source: String,
    /// A folder below `source`, where that holds several data sets.
    #[schemars(extend("x-also" = ["dataset_config", "config_name"]))]
    #[schemars(example = &"plain_text")]
    pub subset: Option<String>,
    #[serde(default)]
    pub splits: DataSplits,
    #[serde(default)]
    pub columns: Columns,
    #[serde(default)]
    pub prompt: PromptRule,
    /// Rows to train on; 0 takes all there are (not of `builtin:`).
    #[schemars(example = 2000)]
    pub train: usize,
    /// Rows to validate on; 0 takes all there are (not of `builtin:`, nor of a single file).
    #[schemars(example = 200)]
    pub validation: usize,
    /// Rows whose prompts are steered; 0 takes all there are (not of `builtin:`, nor of a single
    /// file).
    #[schemars(example = 500)]
    pub test: usize,
}

/// The columns of the data files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Columns {
    /// The column that holds the text.
    #[schemars(extend("x-also" = ["dataset_text_field"]))]
    pub text: String,
    /// The column that holds the label, 1 for positive.
    pub label: String,
}

/// A prompt is the first words of a text; how many is drawn between the two bounds from the seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PromptRule {
    /// Words of the shortest prompt.
    #[schemars(range(min = 1))]
    pub min_words: usize,
    /// Words of the longest prompt.
    pub max_words: usize,
}

impl Default for Columns {
    fn default() -> Self {
        Self { text: "text".into(), label: "label".into() }
    }
}

impl Default for PromptRule {
    fn default() -> Self {
        Self { min_words: 4, max_words: 8 }
    }
}

impl Data {
    /// The values that the texts to train and to validate on depend on, beside the contents of the
    /// files. `is_one_file`: its rows are dealt out, test first.
    pub fn texts_outcome(&self, is_one_file: bool) -> Value {
        let Self { source: _, subset: _, splits, columns, prompt: _, train, validation, test } =
            self;
        json!({
            "splits": splits,
            "columns": columns.outcome(),
            "train": train,
            "validation": validation,
            "test": is_one_file.then_some(test),
        })
    }

    /// The same for the test texts: more of them begin with the same. Which of their prompts come
    /// first depends on those of the other splits.
    pub fn test_outcome(&self) -> Value {
        let Self { source: _, subset: _, splits, columns, prompt: _, train, validation, test: _ } =
            self;
        json!({
            "splits": splits,
            "columns": columns.outcome(),
            "train": train,
            "validation": validation,
        })
    }

    pub(in crate::recipe) fn rules(&self, rules: &mut Rules) {
        self.source_rules(rules);
        self.subset_rules(rules);
        let is_folder = hub_dataset(rules.folder, &self.source).is_some()
            || rules.folder.join(&self.source).is_dir();
        splits::rules(rules, ("data", &self.source), is_folder, &self.splits.named());
        let Columns { text, label } = &self.columns;
        for (key, column) in [("data.columns.text", text), ("data.columns.label", label)] {
            if column.is_empty() {
                rules.problem(format!("`{key}` is empty"));
            }
        }
        if text == label {
            rules
                .problem(format!("`data.columns.text` and `data.columns.label` are both `{text}`"));
        }
        let PromptRule { min_words, max_words } = self.prompt;
        if min_words > max_words {
            rules.problem(format!(
                "`data.prompt.min_words` = {min_words} is more than `data.prompt.max_words` = \
                 {max_words}"
            ));
        }
    }

    fn source_rules(&self, rules: &mut Rules) {
        let sizes = [
            ("data.train", self.train),
            ("data.validation", self.validation),
            ("data.test", self.test),
        ];
        if let Some(name) = self.source.strip_prefix("builtin:") {
            if self.source != BUILTIN {
                rules.problem_hint(
                    format!(
                        "`data.source` is `{}`, but there is no built-in corpus `{name}`",
                        self.source
                    ),
                    format!("the built-in corpus is `{BUILTIN}`"),
                );
            }
            for (key, _) in sizes.iter().filter(|(_, size)| *size == 0) {
                rules.problem(format!(
                    "`{key}` is 0, but the built-in corpus has no end: give its size"
                ));
            }
        } else if hub_dataset(rules.folder, &self.source).is_none() {
            let path = rules.folder.join(&self.source);
            if let Err(stands_in) = stand_in::refuse(&path) {
                rules.problem(format!("`data.source`: {stands_in}"));
            } else if self.source.is_empty() || !path.exists() {
                let what = format!(
                    "`data.source` is `{}`, but `{}` does not exist",
                    self.source,
                    path.display()
                );
                rules.problem_hint(what, self.source_hint());
            } else if path.is_file() {
                for (key, _) in sizes[1..].iter().filter(|(_, size)| *size == 0) {
                    rules.problem(format!(
                        "`{key}` is 0, but one file is split by size: only `data.train` may be 0 \
                         and take the rest"
                    ));
                }
            }
        }
    }

    fn source_hint(&self) -> String {
        if self.source.starts_with('~') {
            "`~` is not expanded in a recipe: write the whole path".to_owned()
        } else if self.source.is_empty() {
            format!(
                "a file, a folder with train, validation and test files, a hub data set \
                 `owner/name`, or `{BUILTIN}`"
            )
        } else {
            "paths in a recipe are relative to the recipe's folder; --set data.source=PATH chooses \
             another, and a hub data set is `owner/name`"
                .to_owned()
        }
    }

    fn subset_rules(&self, rules: &mut Rules) {
        let (Some(subset), source) = (&self.subset, rules.folder.join(&self.source)) else {
            return;
        };
        if !source.is_dir() {
            if self.source.starts_with("builtin:") || source.exists() {
                rules.problem(
                    "`data.subset` names a folder below `data.source`, which is not a folder",
                );
            }
        } else if subset.is_empty() || !source.join(subset).is_dir() {
            let names = subfolders(&source);
            let hint = match nearest(subset, names.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None if names.is_empty() => {
                    "leave it out: there is no folder below `data.source`".to_owned()
                }
                None => format!("folders there: {}", listed(names.iter().map(String::as_str))),
            };
            rules.problem_hint(
                format!(
                    "`data.subset` is `{subset}`, but `{}` has no such folder",
                    source.display()
                ),
                hint,
            );
        }
    }

    pub(in crate::recipe) fn words(&self, out: &mut String) -> fmt::Result {
        let Self { source, subset, splits, columns, prompt, train, validation, test } = self;
        let rows = |rows: usize| if rows == 0 { "all".to_owned() } else { grouped(rows as u64) };
        // A local path is absolute in a plan, so what still reads like an id is one.
        let hub = match HubId::parse(source) {
            Some(_) => " (a hub data set; a run fetches it first)",
            None => "",
        };
        let subset = subset.iter().map(|subset| format!(", subset {subset}")).collect::<String>();
        writeln!(out, "\ndata {source}{subset}{hub}")?;
        splits::words(out, "  ", &splits.named())?;
        let [train, validation, test] = [*train, *validation, *test].map(rows);
        writeln!(out, "  rows: train {train}, validation {validation}, test {test}")?;
        let Columns { text, label } = columns;
        writeln!(out, "  columns: text `{text}`, label `{label}`")?;
        let PromptRule { min_words, max_words } = prompt;
        writeln!(out, "  prompt: the first {min_words} to {max_words} words of a text")
    }
}

impl Columns {
    fn outcome(&self) -> Value {
        let Self { text, label } = self;
        json!({ "text": text, "label": label })
    }
}

impl PromptRule {
    pub fn outcome(&self) -> Value {
        let Self { min_words, max_words } = self;
        json!({ "min_words": min_words, "max_words": max_words })
    }
}

/// Names of the folders below one, in order.
fn subfolders(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}
