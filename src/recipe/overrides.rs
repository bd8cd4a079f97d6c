//! A recipe file as a tree of values that remember where they came from, and `--set key=value` on
//! top of it.
//!
//! Keys go down by dots, list items by index (`steer.method.0.n=8`; one past the end appends). A
//! value is TOML, or else plain text. Whether the keys exist is the strict reader's business.

use std::collections::BTreeMap;
use std::path::Path;

use toml::{Table, Value};

/// Deeper than any key of the schema.
const DEEPEST: usize = 16;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Origin {
    Line(usize),
    /// The words after `--set`.
    Set(String),
}

pub(super) struct Document {
    pub root: Value,
    origins: BTreeMap<Vec<String>, Origin>,
}

impl Document {
    pub fn new(values: Table, lines: BTreeMap<Vec<String>, usize>) -> Self {
        let origins = lines.into_iter().map(|(path, line)| (path, Origin::Line(line))).collect();
        Self { root: Value::Table(values), origins }
    }

    /// The origin of the value at `path`, or of the innermost table around it that is written
    /// somewhere.
    pub fn origin(&self, path: &[String]) -> Option<&Origin> {
        (0..=path.len()).rev().find_map(|length| self.origins.get(&path[..length]))
    }

    /// Applies one `key=value`; returns what else had to give way, to be told to the user.
    pub fn set(&mut self, argument: &str) -> Result<Option<String>, String> {
        let (key, text) = argument.split_once('=').ok_or_else(|| {
            format!(
                "--set {argument}: not of the form key=value\n\nhint: for example --set \
                 run.name=trial"
            )
        })?;
        let path: Vec<String> = key.trim().split('.').map(|part| part.trim().to_owned()).collect();
        if path.len() > DEEPEST || path.iter().any(String::is_empty) {
            return Err(format!(
                "--set {argument}: `{key}` is no key of a recipe\n\nhint: for example \
                 steer.method.0.n"
            ));
        }
        let value = relative_to_here(&path, parse_value(text.trim()));
        let origin = Origin::Set(argument.to_owned());
        let mut here = &mut self.root;
        for (depth, part) in path.iter().enumerate() {
            let known = path[..depth].join(".");
            let last = depth + 1 == path.len();
            here = match here {
                Value::Table(table) => {
                    if !table.contains_key(part) {
                        table.insert(part.clone(), Value::Table(Table::new()));
                        self.origins.insert(path[..=depth].to_vec(), origin.clone());
                    }
                    &mut table[part]
                }
                Value::Array(items) => {
                    let count = items.len();
                    let index = part.parse::<usize>().ok().filter(|index| *index <= count);
                    let index = index.ok_or_else(|| {
                        format!(
                            "--set {argument}: `{known}` is a list of {count}, so `{part}` is no \
                             index into it\n\nhint: {}",
                            indices(count)
                        )
                    })?;
                    if index == count {
                        items.push(Value::Table(Table::new()));
                        self.origins.insert(path[..=depth].to_vec(), origin.clone());
                    }
                    &mut items[index]
                }
                _ => {
                    return Err(format!(
                        "--set {argument}: `{known}` is a single value, not a table"
                    ));
                }
            };
            if last {
                *here = value;
                break;
            }
        }
        self.origins.retain(|known, _| !(known.len() > path.len() && known.starts_with(&path)));
        self.origins.insert(path.clone(), origin);
        Ok(self
            .replace_alternative(&path, argument)
            .or_else(|| self.replace_swept(&path, argument)))
    }

    /// A key stands in the sweep of its table or beside it: setting one by hand removes the other.
    fn replace_swept(&mut self, path: &[String], argument: &str) -> Option<String> {
        let (table, rest) = sweeping_table(path)?;
        let below = |names: &[&str], key: &str| -> Vec<String> {
            let names = names.iter().copied().chain([key]).map(str::to_owned);
            table.iter().cloned().chain(names).collect()
        };
        // The sweep of `[dpo]` has the keys of its `training`, too.
        let beside = |key: &str| [below(&[], key), below(&["training"], key)];
        let removed: Vec<Vec<String>> = match rest[..] {
            ["sweep"] => {
                let given = super::deserialize::get(&self.root, path)?;
                let rows =
                    given.as_array().map_or_else(|| vec![given], |rows| rows.iter().collect());
                let keys = rows.into_iter().filter_map(Value::as_table).flat_map(Table::keys);
                keys.flat_map(|key| beside(key)).collect()
            }
            ["sweep", key] => beside(key).to_vec(),
            [key] | ["training", key] => vec![below(&["sweep"], key)],
            _ => return None,
        };
        let removed: Vec<String> =
            removed.iter().filter_map(|path| self.remove_written(path)).collect();
        let swept = below(&[], "sweep");
        let is_empty = super::deserialize::get(&self.root, &swept)
            .and_then(Value::as_table)
            .is_some_and(Table::is_empty);
        if is_empty && !removed.is_empty() {
            self.remove_written(&swept);
        }
        (!removed.is_empty()).then(|| {
            format!("--set {argument} takes the place of `{}` in the recipe", removed.join("`, `"))
        })
    }

    /// Removes what the file gave at `path`; where something was, its name.
    fn remove_written(&mut self, path: &[String]) -> Option<String> {
        let (last, table) = path.split_last()?;
        if !matches!(self.origins.get(path), Some(Origin::Line(_))) {
            return None;
        }
        super::deserialize::get_mut(&mut self.root, table)?.as_table_mut()?.remove(last)?;
        self.origins.retain(|known, _| !known.starts_with(path));
        Some(path.join("."))
    }

    /// `id`, `scratch` and what else a model or a judge may come from are alternatives: setting one
    /// by hand removes the one that the file gave.
    fn replace_alternative(&mut self, path: &[String], argument: &str) -> Option<String> {
        const ALTERNATIVES: [&str; 5] = ["id", "scratch", "reward_model", "command", "url"];
        let (last, table) = path.split_last()?;
        let holds_models = matches!(table, [only] if only == "gold")
            || matches!(table, [first, _] if first == "models" || first == "judges");
        if !holds_models || !ALTERNATIVES.contains(&last.as_str()) {
            return None;
        }
        let others = ALTERNATIVES.into_iter().filter(|other| other != last);
        let mut others = others.map(|other| [table, &[other.to_owned()]].concat());
        let removed = others.find_map(|other| self.remove_written(&other))?;
        Some(format!("--set {argument} takes the place of `{removed}` in the recipe"))
    }

    /// A misspelt key goes on under its right name, so that its value is checked too.
    pub fn rename(&mut self, table: &[String], from: &str, to: &str) {
        let Some(Value::Table(values)) = super::deserialize::get_mut(&mut self.root, table) else {
            return;
        };
        let Some(value) = values.remove(from) else { return };
        values.insert(to.to_owned(), value);
        let old = [table, &[from.to_owned()]].concat();
        let moved: Vec<_> = self
            .origins
            .iter()
            .filter(|(known, _)| known.starts_with(&old))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        for (mut known, origin) in moved {
            self.origins.remove(&known);
            known[table.len()] = to.to_owned();
            self.origins.insert(known, origin);
        }
    }
}

fn indices(count: usize) -> String {
    match count {
        0 => "0 adds the first item".to_owned(),
        1 => "0 is its only item, 1 adds another".to_owned(),
        _ => format!("0 to {} are there, {count} adds another", count - 1),
    }
}

fn parse_value(text: &str) -> Value {
    text.parse().unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// The table at the head of `path` that may have a sweep, and the keys that follow.
fn sweeping_table(path: &[String]) -> Option<(&[String], Vec<&str>)> {
    let names: Vec<&str> = path.iter().map(String::as_str).collect();
    let length = match names[..] {
        ["steer", "method", _, _, ..] => 3,
        ["dpo", _, ..] => 1,
        _ => return None,
    };
    Some((&path[..length], names[length..].to_vec()))
}

/// A path typed on the command line means the working directory first; one that is not there is
/// left relative to the recipe.
fn relative_to_here(path: &[String], value: Value) -> Value {
    let keys: Vec<&str> = path.iter().map(String::as_str).collect();
    if !matches!(
        keys[..],
        ["data" | "preferences", "source"]
            | ["models" | "judges", _, "id"]
            | ["models", _, "prompt" | "exemplars", "file"]
            | ["gold", "id"]
            | ["gold", "reward_model", "source"]
    ) {
        return value;
    }
    let found = value.as_str().map(Path::new).filter(|file| file.is_relative() && file.exists());
    match found
        .and_then(|file| std::path::absolute(file).ok())
        .and_then(|file| file.into_os_string().into_string().ok())
    {
        Some(file) => Value::String(file),
        None => value,
    }
}
