//! A recipe file to a [`Recipe`], with every misspelt, missing, ill-typed or wrong key reported at
//! once. Reading on behind a problem is left to `mend`.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Table;
use toml::de::{DeTable, DeValue};

use super::mend::read_mending;
use super::overrides::Document;
use super::planning::validate;
use super::tables::Recipe;
use super::words::{listed, nearest};
use crate::error::{Error, Result};

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
    let mended = read_mending(path, &mut document, &mut problems);
    match mended {
        Some((recipe, _)) if problems.is_empty() => Ok(recipe),
        Some((recipe, made_up)) => {
            let broken = validate(&recipe, path).into_iter();
            problems.extend(broken.filter(|problem| !made_up.concerns(problem)));
            Err(Error::Recipe(problems))
        }
        None => Err(Error::Recipe(problems)),
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
            "{file}:{line}: byte {good} of the file is not UTF-8\n\nhint: a recipe is TOML, a \
             plain text file"
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
