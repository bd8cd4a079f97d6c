//! Rows of a Parquet file as JSON values: text, numbers and booleans, and what is nested of them:
//! a list is an array, a struct an object, a map an object with its keys as text. Dates, times and
//! decimals are text. What the crate's reader of rows does not know is left out by the schema, and
//! so are lists of numbers (embeddings, token ids), which would fill the memory and are never text;
//! a record tells who asks for such a column.

use std::fmt::Display;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;

use ::parquet::basic::{ConvertedType, Repetition, Type as Stored};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::{Field, Row};
use ::parquet::schema::types::{Type, TypePtr};
use serde_json::{Map, Value};

use super::record::{Record, Unread};
use crate::error::{Error, Result};

/// Days and seconds from 1970 to the end of the year 9999, and as far back.
const MOST_DAYS: i64 = 2_932_896;
const MOST_SECONDS: i64 = (MOST_DAYS + 1) * 24 * 3600 - 1;

/// The first `limit` rows; a record's line is its row, from 1.
///
/// # Errors
/// Where the file is damaged: the crate reports some of that by a panic.
pub fn read(path: &Path, file: File, limit: usize) -> Result<Vec<Record>> {
    catch_unwind(AssertUnwindSafe(|| rows(path, file, limit)))
        .unwrap_or_else(|_| Err(damaged(path, None, "its pages are not as its footer says")))
}

fn damaged(path: &Path, row: Option<usize>, what: impl Display) -> Error {
    let hint = "the file may be cut short: download or copy it again";
    Error::data(path, row, format!("not a readable Parquet file: {what}\n\nhint: {hint}"))
}

fn rows(path: &Path, file: File, limit: usize) -> Result<Vec<Record>> {
    let wrong = |row: Option<usize>| move |error: ParquetError| damaged(path, row, error);
    let reader = SerializedFileReader::new(file).map_err(wrong(None))?;
    let schema = reader.metadata().file_metadata().schema();
    let (mut columns, mut unread): (Vec<TypePtr>, Vec<Unread>) = (Vec::new(), Vec::new());
    for column in schema.get_fields() {
        match unreadable(column) {
            None => columns.push(column.clone()),
            Some(holds) => unread.push(Unread { column: column.name().to_owned(), holds }),
        }
    }
    let unread: Rc<[Unread]> = unread.into();
    let columns = Type::group_type_builder(schema.name())
        .with_fields(columns)
        .build()
        .map_err(wrong(None))?;
    let rows = reader.get_row_iter(Some(columns)).map_err(wrong(None))?.take(limit).enumerate();
    rows.map(|(row, fields)| {
        let fields = object(&fields.map_err(wrong(Some(row + 1)))?);
        Ok(Record { line: row + 1, fields, unread: unread.clone() })
    })
    .collect()
}

/// What a column holds that is not read; `None` for one that is.
fn unreadable(column: &Type) -> Option<&'static str> {
    if !is_known(column) {
        Some("values of a kind that is not read")
    } else if is_nested(column) && !has_text(column) {
        Some("lists without text")
    } else {
        None
    }
}

fn is_nested(column: &Type) -> bool {
    !column.is_primitive() || column.get_basic_info().repetition() == Repetition::REPEATED
}

fn has_text(column: &Type) -> bool {
    if column.is_primitive() {
        column.get_physical_type() == Stored::BYTE_ARRAY
    } else {
        column.get_fields().iter().any(|field| has_text(field))
    }
}

/// Whether the crate's reader of rows can read it: it panics at what it does not know.
fn is_known(column: &Type) -> bool {
    let kind = column.get_basic_info().converted_type();
    if column.is_primitive() {
        return kind != ConvertedType::INTERVAL;
    }
    let fields = column.get_fields();
    let holds_one_repeated =
        || matches!(fields, [field] if field.get_basic_info().repetition() == Repetition::REPEATED);
    let fits = match kind {
        ConvertedType::LIST => holds_one_repeated(),
        ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE => {
            holds_one_repeated()
                && fields[0].is_group()
                && matches!(fields[0].get_fields().len(), 1 | 2)
        }
        _ => !fields.is_empty(),
    };
    fits && fields.iter().all(|field| is_known(field))
}

fn object(row: &Row) -> Map<String, Value> {
    row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect()
}

fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => Value::from(*value),
        Field::Byte(value) => Value::from(*value),
        Field::Short(value) => Value::from(*value),
        Field::Int(value) => Value::from(*value),
        Field::Long(value) => Value::from(*value),
        Field::UByte(value) => Value::from(*value),
        Field::UShort(value) => Value::from(*value),
        Field::UInt(value) => Value::from(*value),
        Field::ULong(value) => Value::from(*value),
        Field::Float16(value) => Value::from(value.to_f32()),
        Field::Float(value) => Value::from(*value),
        Field::Double(value) => Value::from(*value),
        Field::Str(text) => Value::from(text.as_str()),
        // Some writers do not mark text as such.
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data()).map_or(Value::Null, Value::from),
        Field::Group(row) => Value::Object(object(row)),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        Field::MapInternal(map) => {
            let entries = map.entries().iter();
            Value::Object(entries.map(|(key, entry)| (key_of(key), value(entry))).collect())
        }
        // The crate's text of a day that the calendar lacks is a panic.
        Field::Date(days) if i64::from(*days).abs() > MOST_DAYS => Value::from(*days),
        Field::TimestampMillis(time) if (time / 1_000).abs() > MOST_SECONDS => Value::from(*time),
        Field::TimestampMicros(time) if (time / 1_000_000).abs() > MOST_SECONDS => {
            Value::from(*time)
        }
        Field::Decimal(_)
        | Field::Date(_)
        | Field::TimeMillis(_)
        | Field::TimeMicros(_)
        | Field::TimestampMillis(_)
        | Field::TimestampMicros(_) => Value::from(field.to_string()),
    }
}

fn key_of(key: &Field) -> String {
    match value(key) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
pub(super) mod tests;
