//! Reading on behind a problem: the tree of values is mended (a misspelt key renamed, a wrong value
//! replaced by one that fits) and read again, so that one call tells all problems. What is only
//! wrong because of the mending is not told.

use std::path::Path;

use toml::{Table, Value};

use super::deserialize::{self, Problem, What, get, get_mut};
use super::keys;
use super::overrides::{Document, Origin};
use super::tables::Recipe;
use super::words::{listed, nearest};

/// What stands between a problem and its way out.
const HINT: &str = "\n\nhint: ";

/// More than a recipe has keys; bounds the mending.
const MOST_PROBLEMS: usize = 200;

/// Where values stand that took the place of wrong ones.
#[derive(Debug, Default)]
pub(super) struct MadeUp(Vec<Vec<String>>);

/// The recipe as far as it can be read, and which of its values are not the user's own.
pub(super) fn read_mending(
    file: &Path,
    document: &mut Document,
    problems: &mut Vec<String>,
) -> Option<(Recipe, MadeUp)> {
    let mut made_up = MadeUp::default();
    let mut found: Vec<((usize, Vec<String>), String)> = Vec::new();
    let mut recipe = None;
    for _ in 0..MOST_PROBLEMS {
        let problem = match deserialize::read::<Recipe>(&document.root) {
            Ok(read) => {
                recipe = Some(read);
                break;
            }
            Err(problem) => problem,
        };
        if !made_up.0.iter().any(|path| problem.path.starts_with(path)) {
            let (line, told) = tell(file, document, &problem);
            found.push(((line, problem.path.clone()), told));
        }
        if !mend(document, &problem, &mut made_up.0) {
            break;
        }
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    problems.extend(found.into_iter().map(|(_, problem)| problem));
    recipe.map(|recipe| (recipe, made_up))
}

impl MadeUp {
    /// Whether a broken rule names one of the values, a table around it or a key below it.
    pub fn concerns(&self, problem: &str) -> bool {
        let rule = problem.split_once(HINT).map_or(problem, |(rule, _)| rule);
        let named = rule.split('`').skip(1).step_by(2).map(|word| word.trim_matches(['[', ']']));
        let named: Vec<Vec<&str>> = named.map(|key| key.split('.').collect()).collect();
        let concerns = |path: &Vec<String>| {
            named.iter().any(|key| key.iter().zip(path).all(|(one, other)| one == other))
        };
        self.0.iter().any(concerns)
    }
}

fn mend(document: &mut Document, problem: &Problem, made_up: &mut Vec<Vec<String>>) -> bool {
    let path = &problem.path;
    match &problem.what {
        What::UnknownKey { key, expected } => {
            // The value of another program's key is not one of ours.
            let is_elsewhere = keys::known_elsewhere(path, key, &document.root).is_some();
            let Some(Value::Table(table)) = get_mut(&mut document.root, path) else { return false };
            if is_elsewhere {
                table.remove(key);
                return true;
            }
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
        What::Other(_) => {
            // A sweep that says nothing: which keys it would have given is not known.
            let Some(Value::Table(table)) = get_mut(&mut document.root, path) else { return false };
            if table.remove("sweep").is_none() {
                return false;
            }
            made_up.push(path.clone());
            true
        }
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
            let hint = match keys::known_elsewhere(&problem.path, key, &document.root) {
                Some(here) => format!("\n\nhint: that is `{here}`"),
                None => choice_hint(key, expected, "keys here"),
            };
            (at, format!("unknown key `{key}`{place}{hint}"))
        }
        What::MissingKey(key) if path.is_empty() => {
            (Vec::new(), format!("missing table `[{key}]`"))
        }
        What::MissingKey(key) => (
            problem.path.clone(),
            format!("missing key `{key}` in `{path}`{}", said(&format!("{path}.{key}"))),
        ),
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
            format!("`{path}` is {found}, expected {expected}{}", said(&path)),
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
                Some((key, value)) if wants_text && is_value => {
                    format!("\n\nhint: --set '{key}=\"{}\"' makes it text", value.trim())
                }
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

/// What the key at `path` says, to follow a problem.
fn said(path: &str) -> String {
    keys::sentence(path)
        .map_or_else(String::new, |sentence| format!(": {}", begun_small(&sentence)))
}

/// A sentence to follow a colon: words of one capital, names and symbols stay as they are.
fn begun_small(sentence: &str) -> String {
    let mut letters = sentence.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().chain([second]).chain(letters).collect()
        }
        _ => sentence.to_owned(),
    }
}
