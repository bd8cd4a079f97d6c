use std::sync::Arc;

use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::data_type::{BoolType, ByteArray, ByteArrayType, FixedLenByteArrayType, Int64Type};
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
        let texts: Vec<ByteArray> = rows.iter().map(|(text, _)| ByteArray::from(*text)).collect();
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
fn columns_are_read_whatever_the_compression() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    let rows = [("naïve – 日本語", 1), ("two\nlines", 0), ("three", -1)];
    let zstd = Compression::ZSTD(ZstdLevel::default());
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::BROTLI(Default::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        zstd,
    ] {
        write(&path, &rows, compression);
        let read = |limit: usize| super::read(&path, File::open(&path).unwrap(), limit).unwrap();
        let fields: Vec<Value> =
            read(usize::MAX).into_iter().map(|record| Value::Object(record.fields)).collect();
        assert_eq!(
            fields,
            [
                json!({ "text": rows[0].0, "label": 1, "good": true, "words": ["w"] }),
                json!({ "text": rows[1].0, "label": 0, "good": false, "words": ["w"] }),
                json!({ "text": rows[2].0, "label": null, "good": false, "words": ["w"] }),
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
            error.contains("x.parquet: not a readable Parquet file: ") && error.contains("hint: "),
            "{error}"
        );
    }
}

#[test]
fn nested_columns_texts_and_codecs_are_what_pyarrow_reads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/files");
    let mut compared = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "parquet") {
            continue;
        }
        let expected: Vec<Value> =
            serde_json::from_slice(&std::fs::read(path.with_extension("json")).unwrap()).unwrap();
        let rows = read(&path, File::open(&path).unwrap(), usize::MAX).unwrap();
        let rows: Vec<Value> = rows.into_iter().map(|row| Value::Object(row.fields)).collect();
        assert_eq!(rows, expected, "{}", path.display());
        compared += 1;
    }
    assert_eq!(compared, 10);
}

#[test]
fn a_column_that_is_not_read_is_told_where_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    let schema = "message rows { required binary text (UTF8); \
                  required fixed_len_byte_array(12) span (INTERVAL); \
                  required group ids (LIST) { repeated group list { required int64 element; } } }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = File::create(&path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let text = [ByteArray::from("a")];
    column.typed::<ByteArrayType>().write_batch(&text, None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let span = [ByteArray::from(vec![0; 12]).into()];
    column.typed::<FixedLenByteArrayType>().write_batch(&span, None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&[7], Some(&[1]), Some(&[0])).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();

    let rows = read(&path, File::open(&path).unwrap(), 9).unwrap();
    assert_eq!(rows[0].text(&path, "text", "key").unwrap(), "a");
    for (column, holds) in
        [("span", "values of a kind that is not read"), ("ids", "lists without text")]
    {
        let error = rows[0].text(&path, column, "key").unwrap_err().to_string();
        assert!(error.contains(&format!("the column `{column}` holds {holds}")), "{error}");
    }
}
