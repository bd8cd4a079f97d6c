//! Rows of a Parquet file as JSON values: text, numbers and booleans. Nested columns (lists, maps,
//! structs) are left out.

use std::fs::File;
use std::path::Path;

use ::parquet::basic::Repetition;
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::{Field, Row};
use ::parquet::schema::types::{Type, TypePtr};
use serde_json::{Map, Value};

use super::record::Record;
use crate::error::{Error, Result};

/// The first `limit` rows; a record's line is its row, from 1.
pub fn read(path: &Path, file: File, limit: usize) -> Result<Vec<Record>> {
    let wrong = |row: Option<usize>| {
        move |error: ParquetError| {
            let text = error.to_string();
            let hint = if text.contains("Disabled feature") {
                "its compression is not supported; write it again with zstd, snappy or gzip"
            } else {
                "the file may be cut short: download or copy it again"
            };
            Error::data(path, row, format!("not a readable Parquet file: {text}\n\nhint: {hint}"))
        }
    };
    let reader = SerializedFileReader::new(file).map_err(wrong(None))?;
    let schema = reader.metadata().file_metadata().schema();
    let is_flat = |column: &&TypePtr| {
        column.is_primitive() && column.get_basic_info().repetition() != Repetition::REPEATED
    };
    let flat = schema.get_fields().iter().filter(is_flat).cloned().collect();
    let columns =
        Type::group_type_builder(schema.name()).with_fields(flat).build().map_err(wrong(None))?;
    if columns.get_fields().is_empty() {
        return Err(Error::data(
            path,
            None,
            "all columns are nested; expected one of text, numbers or booleans",
        ));
    }
    let rows = reader.get_row_iter(Some(columns)).map_err(wrong(None))?.take(limit).enumerate();
    rows.map(|(row, fields)| {
        Ok(Record { line: row + 1, fields: fields_of(&fields.map_err(wrong(Some(row + 1)))?) })
    })
    .collect()
}

fn fields_of(row: &Row) -> Map<String, Value> {
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
        Field::Float(value) => Value::from(*value),
        Field::Double(value) => Value::from(*value),
        Field::Str(text) => Value::from(text.as_str()),
        // Some writers do not mark text as such.
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data()).map_or(Value::Null, Value::from),
        other => Value::from(other.to_string()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use ::parquet::basic::{Compression, ZstdLevel};
    use ::parquet::data_type::{BoolType, ByteArray, ByteArrayType, Int64Type};
    use ::parquet::file::properties::WriterProperties;
    use ::parquet::file::writer::SerializedFileWriter;
    use ::parquet::schema::parser::parse_message_type;
    use serde_json::json;

    use super::*;

    /// Columns `text`, `label` (no label for a negative one), `good` and a list `words`; row groups
    /// of two.
    pub fn write(path: &Path, rows: &[(&str, i64)], compression: Compression) {
        let schema = "message rows { required binary text (UTF8); optional int64 label; \
                      required boolean good; optional group words (LIST) { \
                      repeated group list { optional binary element (UTF8); } } }";
        let properties = WriterProperties::builder().set_compression(compression).build();
        let file = File::create(path).unwrap();
        let mut writer = SerializedFileWriter::new(
            file,
            Arc::new(parse_message_type(schema).unwrap()),
            Arc::new(properties),
        )
        .unwrap();
        for rows in rows.chunks(2) {
            let mut group = writer.next_row_group().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            let texts: Vec<ByteArray> =
                rows.iter().map(|(text, _)| ByteArray::from(*text)).collect();
            column.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
            column.close().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            let labels: Vec<i64> =
                rows.iter().map(|(_, label)| *label).filter(|label| *label >= 0).collect();
            let there: Vec<i16> = rows.iter().map(|(_, label)| i16::from(*label >= 0)).collect();
            column.typed::<Int64Type>().write_batch(&labels, Some(&there), None).unwrap();
            column.close().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            let good: Vec<bool> = rows.iter().map(|(_, label)| *label == 1).collect();
            column.typed::<BoolType>().write_batch(&good, None, None).unwrap();
            column.close().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            let words = vec![ByteArray::from("w"); rows.len()];
            column
                .typed::<ByteArrayType>()
                .write_batch(&words, Some(&vec![3; rows.len()]), Some(&vec![0; rows.len()]))
                .unwrap();
            column.close().unwrap();
            group.close().unwrap();
        }
        writer.close().unwrap();
    }

    #[test]
    fn flat_columns_are_read_whatever_the_compression() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        let rows = [("naïve – 日本語", 1), ("two\nlines", 0), ("three", -1)];
        let zstd = Compression::ZSTD(ZstdLevel::default());
        for compression in [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::GZIP(Default::default()),
            zstd,
        ] {
            write(&path, &rows, compression);
            let read =
                |limit: usize| super::read(&path, File::open(&path).unwrap(), limit).unwrap();
            let fields: Vec<Value> =
                read(usize::MAX).into_iter().map(|record| Value::Object(record.fields)).collect();
            assert_eq!(
                fields,
                [
                    json!({ "text": rows[0].0, "label": 1, "good": true }),
                    json!({ "text": rows[1].0, "label": 0, "good": false }),
                    json!({ "text": rows[2].0, "label": null, "good": false }),
                ]
            );
            assert_eq!(read(1).len(), 1);
        }
    }

    #[test]
    fn a_damaged_file_is_one_clear_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        write(&path, &[("a", 1), ("b", 0)], Compression::SNAPPY);
        let bytes = std::fs::read(&path).unwrap();
        for damaged in [&bytes[..0], &bytes[..bytes.len() / 2], b"PAR1 and not much more PAR1"] {
            std::fs::write(&path, damaged).unwrap();
            let error = read(&path, File::open(&path).unwrap(), 9).err().unwrap().to_string();
            assert!(
                error.contains("x.parquet: not a readable Parquet file: ")
                    && error.contains("hint: "),
                "{error}"
            );
        }
    }
}
