//! `splits` of `[data]` and `[preferences]`: which files of a folder are which split, where their
//! names leave a choice. Finding the files is left to `text`.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::super::rules::Rules;
use super::super::words::{listed, nearest};

/// Which files of a folder of labelled texts are which split; what is left out is told by the names
/// of the files.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DataSplits {
    /// Names of the files to train on: one, or a list that is read as one split.
    #[schemars(example = &"train_sft")]
    pub train: Option<SplitNames>,
    /// Names of the files to validate on.
    #[schemars(example = &"valid")]
    pub validation: Option<SplitNames>,
    /// Names of the files whose prompts are steered.
    #[schemars(example = &["test_1", "test_2"])]
    pub test: Option<SplitNames>,
}

/// Which files of a folder of preference pairs are which split, as in `data.splits`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PairSplits {
    /// Names of the files with pairs to train on: one, or a list that is read as one split.
    #[schemars(example = &"train_sft")]
    pub train: Option<SplitNames>,
    /// Names of the files with pairs to validate on.
    #[schemars(example = &"valid")]
    pub validation: Option<SplitNames>,
}

/// One name, or a list of names whose files are read as one split: `train_prefs` for
/// `train_prefs-00000-of-00001.parquet`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SplitNames(pub Vec<String>);

impl DataSplits {
    /// Those that are named, with their keys.
    pub fn named(&self) -> Vec<(&'static str, &SplitNames)> {
        let Self { train, validation, test } = self;
        let all = [("train", train), ("validation", validation), ("test", test)];
        all.into_iter().filter_map(|(key, names)| Some((key, names.as_ref()?))).collect()
    }
}

impl PairSplits {
    /// Those that are named, with their keys.
    pub fn named(&self) -> Vec<(&'static str, &SplitNames)> {
        let Self { train, validation } = self;
        let all = [("train", train), ("validation", validation)];
        all.into_iter().filter_map(|(key, names)| Some((key, names.as_ref()?))).collect()
    }
}

/// Names of splits of `table`, each for one split alone, of a `source` that is a folder.
pub(super) fn rules(
    rules: &mut Rules,
    (table, source): (&str, &str),
    is_folder: bool,
    splits: &[(&str, &SplitNames)],
) {
    let is_file = source.starts_with("builtin:") || rules.folder.join(source).is_file();
    if !splits.is_empty() && !is_folder && is_file {
        rules.problem_hint(
            format!(
                "`{table}.splits` chooses files of a folder, but `{table}.source` is `{source}`"
            ),
            format!("leave it out, or name the folder as `{table}.source`"),
        );
    }
    let mut taken: Vec<(&str, &str)> = Vec::new();
    for (split, SplitNames(names)) in splits {
        let key = format!("{table}.splits.{split}");
        if names.is_empty() || names.iter().any(String::is_empty) {
            rules.problem_hint(
                format!("`{key}` has an empty name or none"),
                "the name of a split's files without number and ending: `train_prefs` for \
                 `train_prefs-00000-of-00001.parquet`",
            );
        }
        for name in names {
            match taken.iter().find(|(_, known)| known == name) {
                Some((other, _)) => rules.problem(format!(
                    "`{key}` is `{name}`, which `{table}.splits.{other}` names too"
                )),
                None => taken.push((split, name)),
            }
        }
    }
}

/// A `subset` of `table`, a folder below a `source` that is one; of the hub only the hub knows.
pub(super) fn subset_rules(rules: &mut Rules, (table, name): (&str, &str), subset: Option<&str>) {
    let (Some(subset), source) = (subset, rules.folder.join(name)) else { return };
    if !source.is_dir() {
        if name.starts_with("builtin:") || source.exists() {
            rules.problem(format!(
                "`{table}.subset` names a folder below `{table}.source`, which is not a folder"
            ));
        }
    } else if subset.is_empty() || !source.join(subset).is_dir() {
        let names = subfolders(&source);
        let hint = match nearest(subset, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None if names.is_empty() => {
                format!("leave it out: there is no folder below `{table}.source`")
            }
            None => format!("folders there: {}", listed(names.iter().map(String::as_str))),
        };
        rules.problem_hint(
            format!(
                "`{table}.subset` is `{subset}`, but `{}` has no such folder",
                source.display()
            ),
            hint,
        );
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

/// One line on the files that are chosen by name; nothing where they are told by their own.
pub(super) fn words(out: &mut String, indent: &str, splits: &[(&str, &SplitNames)]) -> fmt::Result {
    if splits.is_empty() {
        return Ok(());
    }
    let words: Vec<String> =
        splits.iter().map(|(split, names)| format!("{split} of {names}")).collect();
    writeln!(out, "{indent}splits: {}", words.join(", "))
}

impl fmt::Display for SplitNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" + "))
    }
}

impl JsonSchema for SplitNames {
    fn schema_name() -> Cow<'static, str> {
        "SplitNames".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "array"], "items": { "type": "string" } })
    }
}

impl<'de> Deserialize<'de> for SplitNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrMore)
    }
}

struct OneOrMore;

impl<'de> Visitor<'de> for OneOrMore {
    type Value = SplitNames;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a split, or a list of names")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<SplitNames, E> {
        Ok(SplitNames(vec![name.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<SplitNames, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = items.next_element()? {
            names.push(name);
        }
        Ok(SplitNames(names))
    }
}
