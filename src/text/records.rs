//! Reads the rows of local files: JSON lines (plain or gzip), a JSON array, CSV, or Parquet
//! (`parquet.rs`). Every error names file and line. What a row is, `record.rs` says; what its
//! columns mean is left to those who ask for them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde_json::Value;

use super::parquet;
use super::record::{Record, shorten};
use crate::artifacts::stand_in;
use crate::error::{Error, Result};

pub const EXTENSIONS: [&str; 5] = [".jsonl", ".jsonl.gz", ".json", ".csv", ".parquet"];

/// The first `limit` rows (0 for all) of a file of any supported kind, told by its name.
pub fn read(path: &Path, limit: usize) -> Result<Vec<Record>> {
    stand_in::refuse(path)?;
    let limit = if limit == 0 { usize::MAX } else { limit };
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let open = || File::open(path).map_err(Error::io(path, "opening the data"));
    let records = if name.ends_with(".jsonl") {
        json_lines(path, BufReader::new(open()?), limit)?
    } else if name.ends_with(".jsonl.gz") {
        json_lines(path, BufReader::new(MultiGzDecoder::new(BufReader::new(open()?))), limit)?
    } else if name.ends_with(".json") {
        json_array(path, limit)?
    } else if name.ends_with(".csv") {
        csv_rows(path, open()?, limit)?
    } else if name.ends_with(".parquet") {
        parquet::read(path, open()?, limit)?
    } else {
        return Err(Error::data(
            path,
            None,
            format!("unknown kind of data file; supported: {}", EXTENSIONS.join(", ")),
        ));
    };
    if records.is_empty() {
        return Err(Error::data(path, None, "the file holds no rows"));
    }
    Ok(records)
}

/// Lines end at `\n` alone: texts may contain other Unicode line separators.
fn json_lines(path: &Path, mut reader: impl BufRead, limit: usize) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut bytes = Vec::new();
    for line in 1.. {
        if records.len() == limit {
            break;
        }
        bytes.clear();
        let read = reader.read_until(b'\n', &mut bytes).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof
            | std::io::ErrorKind::InvalidInput
            | std::io::ErrorKind::InvalidData => Error::data(
                path,
                Some(line),
                format!(
                    "the gzip data is damaged or cut short: {error}\n\nhint: download or copy the \
                     file again"
                ),
            ),
            _ => Error::io(path, "reading")(error),
        })?;
        if read == 0 {
            break;
        }
        let finished = bytes.last() == Some(&b'\n');
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let hint = "hint: convert the file, for example with `iconv -t UTF-8`";
            Error::data(
                path,
                Some(line),
                format!("not UTF-8 at byte {} of the line\n\n{hint}", error.valid_up_to() + 1),
            )
        })?;
        let text = text.trim_end_matches('\n').trim_end_matches('\r');
        if text.trim().is_empty() {
            return Err(Error::data(
                path,
                Some(line),
                "an empty line where a JSON object should be\n\nhint: remove the line",
            ));
        }
        let value: Value = serde_json::from_str(text).map_err(|error| {
            let what = if error.is_eof() && !finished {
                "a half-written last line"
            } else {
                "not valid JSON"
            };
            Error::data(path, Some(line), format!("{what}: {error}"))
        })?;
        records.push(record(path, line, value)?);
    }
    Ok(records)
}

fn json_array(path: &Path, limit: usize) -> Result<Vec<Record>> {
    let bytes = std::fs::read(path).map_err(Error::io(path, "reading"))?;
    let rows: Vec<Value> = serde_json::from_slice(&bytes).map_err(|error| {
        Error::data(path, Some(error.line()), format!("not a JSON array of objects: {error}"))
    })?;
    rows.into_iter()
        .take(limit)
        .enumerate()
        .map(|(row, value)| record(path, row + 1, value))
        .collect()
}

fn record(path: &Path, line: usize, value: Value) -> Result<Record> {
    match value {
        Value::Object(fields) => Ok(Record { line, fields }),
        other => Err(Error::data(
            path,
            Some(line),
            format!("a JSON object was expected, not `{}`", shorten(&other.to_string())),
        )),
    }
}

fn csv_rows(path: &Path, file: File, limit: usize) -> Result<Vec<Record>> {
    let mut reader = csv::Reader::from_reader(BufReader::new(file));
    let wrong = |error: csv::Error| {
        let line = error.position().map(|position| position.line() as usize);
        Error::data(path, line, format!("not valid CSV: {error}"))
    };
    let headers = reader.headers().map_err(wrong)?.clone();
    let rows = reader.records().take(limit).map(|row| {
        let row = row.map_err(wrong)?;
        let line = row.position().map_or(0, |position| position.line() as usize);
        let fields = headers
            .iter()
            .zip(row.iter())
            .map(|(name, value)| (name.to_owned(), Value::from(value)));
        Ok(Record { line, fields: fields.collect() })
    });
    rows.collect()
}
