//! A recipe file to a [`Recipe`], with every misspelt, missing or ill-typed key reported at once.
//!
//! After each problem the tree of values is mended (a misspelt key renamed, a wrong value replaced
//! by one that fits) and read again; what is only wrong because of the mending is not reported. A
//! tree that needed no made-up values also goes through [`validate`].

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::deserialize::{self, Problem, What, get, get_mut};
use super::overrides::{Document, Origin};
use super::{Recipe, listed, nearest, validate};
use crate::error::{Error, Result};

/// More than a recipe has keys; bounds the mending.
const MOST_PROBLEMS: usize = 200;

/// Reads the TOML file at `path`, applies `overrides` (`a.b.c=value`) in their order and reads the
/// result strictly.
///
/// # Errors
/// [`Error::Recipe`] with every problem: file, line where known, what is wrong, and a hint where
/// there is a way out.
pub fn load(path: &Path, overrides: &[String]) -> Result<Recipe> {
    let text = read_text(path)?;
    let mut document = parse(path, &text)?;
    let mut problems = Vec::new();
    for argument in overrides {
        match document.set(argument) {
            Ok(None) => {}
            Ok(Some(note)) => tracing::info!("{note}"),
            Err(problem) => problems.push(problem),
        }
    }
    let (recipe, whole) = read_mending(path, &mut document, &mut problems);
    match recipe {
        Some(recipe) if problems.is_empty() => Ok(recipe),
        Some(recipe) if whole => {
            problems.extend(validate(&recipe, path));
            Err(Error::Recipe(problems))
        }
        _ => Err(Error::Recipe(problems)),
    }
}

fn read_text(path: &Path) -> Result<String> {
    let file = path.display();
    if path.is_dir() {
        return Err(Error::recipe(format!(
            "{file}: is a folder, not a recipe{}",
            recipes_hint(path, None)
        )));
    }
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let folder = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty())
                .unwrap_or(Path::new("."));
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            return Err(Error::recipe(format!(
                "{file}: no such recipe file{}",
                recipes_hint(folder, name.as_deref())
            )));
        }
        Err(error) => {
            return Err(Error::recipe(format!("{file}: cannot read the recipe: {error}")));
        }
    };
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = line_of(error.as_bytes(), good);
        Error::recipe(format!(
            "{file}:{line}: byte {good} of the file is not UTF-8\n\nhint: a \
                               recipe is TOML, a plain text file"
        ))
    })
}

/// The recipes that are in `folder`: the one most like `wanted`, or all.
fn recipes_hint(folder: &Path, wanted: Option<&str>) -> String {
    let Ok(entries) = std::fs::read_dir(folder) else { return String::new() };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".toml") && name != "Cargo.toml")
        .collect();
    names.sort();
    names.truncate(20);
    if let Some(name) = wanted.and_then(|wanted| nearest(wanted, names.iter().map(String::as_str)))
    {
        return format!("\n\nhint: did you mean `{}`?", folder.join(name).display());
    }
    if names.is_empty() {
        return String::new();
    }
    format!(
        "\n\nhint: recipes in `{}`: {}",
        folder.display(),
        listed(names.iter().map(String::as_str))
    )
}

fn parse(path: &Path, text: &str) -> Result<Document> {
    let (spanned, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let tell = |error: &toml::de::Error| {
            let line = error
                .span()
                .map(|span| format!(":{}", line_of(text.as_bytes(), span.start)))
                .unwrap_or_default();
            format!(
                "{}{line}: not TOML: {}",
                path.display(),
                error.message().trim().replace('\n', "; ")
            )
        };
        return Err(Error::Recipe(errors.iter().map(tell).collect()));
    }
    let values: Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error
            .span()
            .map(|span| format!(":{}", line_of(text.as_bytes(), span.start)))
            .unwrap_or_default();
        Error::recipe(format!("{}{line}: {}", path.display(), error.message().trim()))
    })?;
    let mut lines = BTreeMap::new();
    note_lines(text, spanned.get_ref(), &mut Vec::new(), &mut lines);
    Ok(Document::new(values, lines))
}

fn note_lines(
    text: &str,
    table: &DeTable,
    path: &mut Vec<String>,
    lines: &mut BTreeMap<Vec<String>, usize>,
) {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        lines.insert(path.clone(), line_of(text.as_bytes(), key.span().start));
        match value.get_ref() {
            DeValue::Table(table) => note_lines(text, table, path, lines),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push(index.to_string());
                    lines.insert(path.clone(), line_of(text.as_bytes(), item.span().start));
                    if let DeValue::Table(table) = item.get_ref() {
                        note_lines(text, table, path, lines);
                    }
                    path.pop();
                }
            }
            _ => {}
        }
        path.pop();
    }
}

fn line_of(text: &[u8], offset: usize) -> usize {
    1 + text[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
}

/// The recipe as far as it can be read, and whether every value in it is the user's own.
fn read_mending(
    file: &Path,
    document: &mut Document,
    problems: &mut Vec<String>,
) -> (Option<Recipe>, bool) {
    let mut made_up: Vec<Vec<String>> = Vec::new();
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut outcome = (None, false);
    for _ in 0..MOST_PROBLEMS {
        let problem = match deserialize::read::<Recipe>(&document.root) {
            Ok(recipe) => {
                outcome = (Some(recipe), made_up.is_empty());
                break;
            }
            Err(problem) => problem,
        };
        if !made_up.iter().any(|path| problem.path.starts_with(path)) {
            found.push(tell(file, document, &problem));
        }
        if !mend(document, &problem, &mut made_up) {
            break;
        }
    }
    found.sort_by_key(|(line, _)| *line);
    problems.extend(found.into_iter().map(|(_, problem)| problem));
    outcome
}

fn mend(document: &mut Document, problem: &Problem, made_up: &mut Vec<Vec<String>>) -> bool {
    let path = &problem.path;
    match &problem.what {
        What::UnknownKey { key, expected } => {
            let Some(Value::Table(table)) = get_mut(&mut document.root, path) else { return false };
            match nearest(key, expected.iter().copied()).filter(|right| !table.contains_key(*right))
            {
                Some(right) => document.rename(path, key, right),
                None => drop(table.remove(key)),
            }
            true
        }
        What::MissingKey(key) => {
            let Some(Value::Table(table)) = get_mut(&mut document.root, path) else { return false };
            table.insert((*key).to_owned(), Value::Boolean(false));
            fit(document, [path.as_slice(), &[(*key).to_owned()]].concat(), made_up)
        }
        What::UnknownChoice { found, choices } => {
            let choice = nearest(found, choices.iter().copied()).or(choices.first().copied());
            let (Some(choice), Some(value)) = (choice, get_mut(&mut document.root, path)) else {
                return false;
            };
            *value = Value::String(choice.to_owned());
            // Which other keys belong there depends on the choice, so they are not judged.
            let judged = path.len() - usize::from(path.last().is_some_and(|key| key == "kind"));
            made_up.push(path[..judged].to_vec());
            true
        }
        What::Wrong { .. } => fit(document, path.clone(), made_up),
        What::Other(_) => false,
    }
}

/// Replaces the value at `path` by the first stand-in of a fitting type.
fn fit(document: &mut Document, path: Vec<String>, made_up: &mut Vec<Vec<String>>) -> bool {
    let stand_ins = [
        Value::Integer(1),
        Value::String(String::new()),
        Value::Table(Table::new()),
        Value::Array(Vec::new()),
        Value::Boolean(true),
    ];
    for stand_in in stand_ins {
        let Some(value) = get_mut(&mut document.root, &path) else { return false };
        *value = stand_in;
        let misfit =
            |problem: &Problem| problem.path == path && matches!(problem.what, What::Wrong { .. });
        if !deserialize::read::<Recipe>(&document.root).is_err_and(|problem| misfit(&problem)) {
            made_up.push(path);
            return true;
        }
    }
    false
}

/// The problem in words, and the line it goes by: what `--set` brought comes last.
fn tell(file: &Path, document: &Document, problem: &Problem) -> (usize, String) {
    let path = problem.path.join(".");
    let (written_at, what) = match &problem.what {
        What::UnknownKey { key, expected } => {
            let at = [problem.path.as_slice(), std::slice::from_ref(key)].concat();
            // The line tells which item of a list is meant.
            let table: Vec<&str> = problem
                .path
                .iter()
                .map(String::as_str)
                .filter(|part| part.parse::<usize>().is_err())
                .collect();
            let place =
                if table.is_empty() { String::new() } else { format!(" in `{}`", table.join(".")) };
            (at, format!("unknown key `{key}`{place}{}", choice_hint(key, expected, "keys here")))
        }
        What::MissingKey(key) if path.is_empty() => {
            (Vec::new(), format!("missing table `[{key}]`"))
        }
        What::MissingKey(key) => (problem.path.clone(), format!("missing key `{key}` in `{path}`")),
        What::UnknownChoice { found, choices } => {
            let hint = nearest(found, choices.iter().copied())
                .map(|near| format!("\n\nhint: did you mean `{near}`?"))
                .unwrap_or_default();
            (
                problem.path.clone(),
                format!(
                    "`{path}` is `{found}`, expected one of {}{hint}",
                    listed(choices.iter().copied())
                ),
            )
        }
        What::Wrong { found, expected } => (
            problem.path.clone(),
            format!(
                "`{path}` is {found}, \
                                                                           expected {expected}"
            ),
        ),
        What::Other(message) if path.is_empty() => (Vec::new(), message.clone()),
        What::Other(message) => (problem.path.clone(), format!("`{path}`: {message}")),
    };
    match document.origin(&written_at) {
        Some(Origin::Set(argument)) => {
            let wants_text =
                matches!(&problem.what, What::Wrong { expected, .. } if expected == "text");
            let is_value = get(&document.root, &problem.path)
                .is_some_and(|value| !value.is_table() && !value.is_array());
            let hint = match argument.split_once('=') {
                Some((key, value)) if wants_text && is_value => format!(
                    "\n\nhint: --set \
                                                                         '{key}=\"{}\"' makes it \
                                                                         text",
                    value.trim()
                ),
                _ => String::new(),
            };
            (usize::MAX, format!("--set {argument}: {what}{hint}"))
        }
        Some(Origin::Line(line)) => (*line, format!("{}:{line}: {what}", file.display())),
        None => (0, format!("{}: {what}", file.display())),
    }
}

fn choice_hint(found: &str, expected: &[&str], heading: &str) -> String {
    match nearest(found, expected.iter().copied()) {
        Some(near) => format!("\n\nhint: did you mean `{near}`?"),
        None if expected.is_empty() => String::new(),
        None => format!("\n\nhint: {heading}: {}", listed(expected.iter().copied())),
    }
}
