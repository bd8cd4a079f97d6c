//! Reads the rows of local files: JSON in all its forms (`json_rows.rs`), separated values
//! (`csv_rows.rs`), Parquet (`parquet.rs`), or lines of text, packed or not (`unpacked.rs`). The
//! contents tell the kind, and the name where they leave a choice. Every error names file and line.
//! What a row is, `record.rs` says; what its columns mean is left to those who ask for them.

use std::fs::File;
use std::io::BufRead;
use std::path::Path;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::file_kind::{FileKind, KINDS};
use super::lines::Lines;
use super::record::{Record, shorten};
use super::unpacked::{self, Unpacked};
use super::{csv_rows, json_rows, parquet};
use crate::artifacts::stand_in;
use crate::error::{Error, Result};

/// The column of a plain text's lines.
const TEXT: &str = "text";

/// The first `limit` rows (0 for all) of a file of any kind. A plain text has a row for each line,
/// with the column `text`.
pub fn read(path: &Path, limit: usize) -> Result<Vec<Record>> {
    stand_in::refuse(path)?;
    let file = File::open(path).map_err(Error::io(path, "opening the data"))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    rows(path, file, FileKind::of(&name), limit, None)
}

/// As [`read`], of an open file that errors call `path` and whose name says `kind`. With a column
/// for `strings`, texts that stand alone are rows with that column: JSON's strings, and the lines
/// of a plain text, which any text is then whose kind is not known.
pub(super) fn rows(
    path: &Path,
    file: File,
    kind: Option<FileKind>,
    limit: usize,
    strings: Option<&str>,
) -> Result<Vec<Record>> {
    let limit = if limit == 0 { usize::MAX } else { limit };
    let records = match unpacked::open(path, file)? {
        Unpacked::Parquet(file) => parquet::read(path, file, limit)?,
        Unpacked::Text(reader) => rows_of_text(path, reader, kind, limit, strings)?,
    };
    if records.is_empty() {
        return Err(Error::data(path, None, "the file holds no rows"));
    }
    Ok(records)
}

fn rows_of_text(
    path: &Path,
    reader: Box<dyn BufRead>,
    kind: Option<FileKind>,
    limit: usize,
    strings: Option<&str>,
) -> Result<Vec<Record>> {
    let (first, reader) = first_line(path, reader)?;
    let json = json_rows::begins_json(&first);
    let named_json = matches!(kind, Some(FileKind::JsonLines | FileKind::Json));
    if json || named_json {
        let unwraps = kind != Some(FileKind::JsonLines);
        let values = json_rows::read(path, reader, limit, unwraps)?.into_iter();
        return values.map(|(line, value)| record(path, line, value, strings)).collect();
    }
    match kind {
        Some(FileKind::Separated(separator)) => {
            let text = Lines::new(path, reader).rest()?;
            let rows = csv_rows::read(path, &text, separator, limit)?.into_iter();
            Ok(rows.map(|(line, fields)| row(line, fields)).collect())
        }
        Some(FileKind::Parquet) => {
            let hint = "the file may be cut short: download or copy it again";
            let problem = "not a readable Parquet file: it does not begin as one does";
            Err(Error::data(path, None, format!("{problem}\n\nhint: {hint}")))
        }
        Some(FileKind::Text) => text_lines(path, reader, limit, strings.unwrap_or(TEXT)),
        _ => match strings {
            Some(column) if csv_rows::names_column(&first, column) => {
                let text = Lines::new(path, reader).rest()?;
                let rows = csv_rows::read(path, &text, b',', limit)?.into_iter();
                Ok(rows.map(|(line, fields)| row(line, fields)).collect())
            }
            Some(column) => text_lines(path, reader, limit, column),
            None => {
                let problem = format!("unknown kind of data file; supported: {KINDS}");
                Err(Error::data(path, None, problem))
            }
        },
    }
}

/// The first line that is not blank, as far as it is at hand; the text is given back whole.
fn first_line(path: &Path, mut reader: Box<dyn BufRead>) -> Result<(String, Box<dyn BufRead>)> {
    let bytes = reader.fill_buf().map_err(|error| unpacked::read_error(path, 1, error))?;
    let head = String::from_utf8_lossy(bytes);
    let first = head.split(['\n', '\r']).find(|line| !line.trim().is_empty());
    Ok((first.unwrap_or_default().to_owned(), reader))
}

fn text_lines(
    path: &Path,
    reader: Box<dyn BufRead>,
    limit: usize,
    column: &str,
) -> Result<Vec<Record>> {
    let lines = Lines::new(path, reader).take(limit);
    lines.map(|line| line.map(|line| of_text(line.number, column, line.text))).collect()
}

fn of_text(line: usize, column: &str, text: String) -> Record {
    row(line, Map::from_iter([(column.to_owned(), Value::from(text))]))
}

fn row(line: usize, fields: Map<String, Value>) -> Record {
    Record { line, fields, unread: Rc::default() }
}

fn record(path: &Path, line: usize, value: Value, strings: Option<&str>) -> Result<Record> {
    match (value, strings) {
        (Value::Object(fields), _) => Ok(row(line, fields)),
        (Value::String(text), Some(column)) => Ok(of_text(line, column, text)),
        (other, _) => {
            let found = shorten(&other.to_string());
            let problem = format!("a JSON object was expected, not `{found}`");
            Err(Error::data(path, Some(line), problem))
        }
    }
}

#[cfg(test)]
mod tests;
