//! Rows of a file with separated values: CSV, or the like with semicolons, tabs or bars, which the
//! header tells. A row's line is where it begins in the file, however its lines end and whatever
//! its quotes enclose.

use std::path::Path;

use serde_json::{Map, Value};

use super::lines::line_ends;
use crate::error::{Error, Result};

const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// A row and the line where it begins.
type Numbered = (usize, Map<String, Value>);

/// The first `limit` rows of `text`; `named` is the separator that the file's name speaks of.
///
/// # Errors
/// Names the line of a row with too few or too many fields, or with a quote that is not closed.
pub(super) fn read(path: &Path, text: &str, named: u8, limit: usize) -> Result<Vec<Numbered>> {
    let separator = separator(text, named);
    let mut reader =
        csv::ReaderBuilder::new().delimiter(separator).flexible(true).from_reader(text.as_bytes());
    let wrong = |error: csv::Error| Error::data(path, None, format!("not valid CSV: {error}"));
    let names = reader.headers().map_err(wrong)?.clone();
    let mut place = Place { text, at: 0, line: 1 };
    let mut rows = Vec::new();
    if !is_closed(text, 0, reader.position().byte() as usize, separator) {
        return Err(unclosed(path, place.of_row(0)));
    }
    let mut row = csv::StringRecord::new();
    while rows.len() < limit {
        let start = reader.position().byte() as usize;
        if !reader.read_record(&mut row).map_err(wrong)? {
            break;
        }
        let line = place.of_row(start);
        if !is_closed(text, place.at, reader.position().byte() as usize, separator) {
            return Err(unclosed(path, line));
        }
        if row.len() != names.len() {
            return Err(unequal(path, line, &row, &names));
        }
        let fields = names.iter().zip(row.iter());
        rows.push((line, fields.map(|(name, value)| (name.to_owned(), value.into())).collect()));
    }
    Ok(rows)
}

/// The separator of the header: the named one, unless it finds a single column where just one of
/// the others finds several.
fn separator(text: &str, named: u8) -> u8 {
    let names = |separator: u8| {
        let mut reader =
            csv::ReaderBuilder::new().delimiter(separator).from_reader(text.as_bytes());
        reader.headers().cloned().unwrap_or_default()
    };
    let splits = |separator: &u8| {
        let names = names(*separator);
        // The first has no name where pandas wrote its index.
        names.len() > 1 && names.iter().skip(1).all(|name| !name.is_empty())
    };
    let mut others = SEPARATORS.into_iter().filter(|other| *other != named).filter(splits);
    match (names(named).len(), others.next(), others.next()) {
        (1, Some(other), None) => other,
        _ => named,
    }
}

fn unequal(path: &Path, line: usize, row: &csv::StringRecord, names: &csv::StringRecord) -> Error {
    let problem = format!("{} fields, but the header names {} columns", row.len(), names.len());
    let hint = "a field that holds the separator or a line break must stand in quotes";
    Error::data(path, Some(line), format!("not valid CSV: {problem}\n\nhint: {hint}"))
}

fn unclosed(path: &Path, line: usize) -> Error {
    let hint = "the file may be cut short, or a quote at the start of a field is part of its text \
                and must be doubled within quotes";
    let problem = "the row has a quoted field that is not closed";
    Error::data(path, Some(line), format!("not valid CSV: {problem}\n\nhint: {hint}"))
}

/// Whether the quotes of the row in these bytes are closed; only the last row of a file can have
/// one that is not.
fn is_closed(text: &str, start: usize, end: usize, separator: u8) -> bool {
    if end < text.len() {
        return true;
    }
    let (mut quoted, mut fresh) = (false, true);
    for byte in text.as_bytes()[start..].iter().copied() {
        if byte == b'"' && (quoted || fresh) {
            // A doubled quote closes and opens again.
            quoted = !quoted;
            fresh = !quoted;
        } else if !quoted {
            fresh = byte == separator || matches!(byte, b'\n' | b'\r');
        }
    }
    !quoted
}

/// A place in the text, and its line.
struct Place<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl Place<'_> {
    /// The line of the row that begins at or behind `start`, past the ends of lines before it.
    fn of_row(&mut self, start: usize) -> usize {
        let rest = &self.text[start..];
        let end = start + rest.len() - rest.trim_start_matches(['\n', '\r']).len();
        self.line += line_ends(&self.text[self.at..end]);
        self.at = end;
        self.line
    }
}

/// Whether a line is the header of a table of two columns or more, one of them `column`.
pub fn names_column(line: &str, column: &str) -> bool {
    [',', ';', '\t', '|'].into_iter().any(|separator| {
        let mut names = line.split(separator).map(|name| name.trim().trim_matches('"'));
        line.contains(separator) && names.any(|name| name == column)
    })
}
