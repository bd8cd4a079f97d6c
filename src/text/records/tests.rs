//! Tests of `records.rs` and the readers that it chooses from: the same rows in every layout.

use std::io::Write;

use flate2::write::GzEncoder;
use serde_json::json;

use super::*;

const LINES: &str = "{\"text\":\"a\",\"n\":1}\n{\"text\":\"b\\u2028\",\"n\":2}\n";
const MARK: &str = "\u{feff}";

/// Lines and fields of what a file of this name and these bytes holds.
fn read_as(name: &str, bytes: impl AsRef<[u8]>) -> Result<Vec<(usize, Value)>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let records = read(&path, 0)
        .map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))?;
    Ok(records.into_iter().map(|row| (row.line, Value::Object(row.fields))).collect())
}

fn gzip(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Default::default());
    encoder.write_all(bytes.as_ref()).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    ::zstd::encode_all(bytes.as_ref(), 3).unwrap()
}

#[test]
fn json_is_read_in_every_layout_under_every_name() {
    let array = "[{\"text\":\"a\",\"n\":1},\n{\"text\":\"b\\u2028\",\"n\":2}]";
    let field = format!("{{\"version\": 2,\n \"names\": [\"x\"], \"data\": {array}}}\n");
    let pretty = "{\n\"text\": \"a\",\n\"n\": 1\n}\n{\n\"text\": \"b\\u2028\", \"n\": 2}";
    let half = LINES.find('\n').unwrap() + 1;
    for (name, bytes, at) in [
        ("x.jsonl", LINES.into(), [1, 2]),
        ("x.jsonl", format!("{MARK}{LINES}").into_bytes(), [1, 2]),
        ("x.jsonl", format!("{MARK}{}{MARK}{}", &LINES[..half], &LINES[half..]).into(), [1, 2]),
        ("x.ndjson", LINES.replace('\n', "\r\n").into(), [1, 2]),
        ("x.jsonl", LINES.replace('\n', "\r").into(), [1, 2]),
        ("x.jsonl", LINES.replace('\n', "\n \r\n\n").into(), [1, 4]),
        ("x.jsonl", format!("\n\n{LINES}\n").into(), [3, 4]),
        ("x.json", LINES.into(), [1, 2]),
        ("x.csv", LINES.into(), [1, 2]),
        ("x.txt", LINES.into(), [1, 2]),
        ("x", LINES.into(), [1, 2]),
        ("x.json", array.into(), [1, 2]),
        ("x.jsonl", array.into(), [1, 2]),
        ("x.tsv", array.into(), [1, 2]),
        ("x.json", format!("{MARK}{array}\n\n").into(), [1, 2]),
        ("x.json", field.into_bytes(), [2, 3]),
        ("x.json", pretty.into(), [1, 5]),
        ("x.jsonl", pretty.into(), [1, 5]),
        ("x.jsonl", gzip(LINES), [1, 2]),
        ("x.jsonl.gz", gzip(format!("{MARK}{LINES}")), [1, 2]),
        ("x.jsonl.gz", LINES.into(), [1, 2]),
        ("x.json.gz", gzip(array), [1, 2]),
        ("x.jsonl.gz", [gzip(&LINES[..half]), gzip(""), gzip(&LINES[half..])].concat(), [1, 2]),
        ("x.jsonl.gz", [gzip(LINES), vec![0; 70_000]].concat(), [1, 2]),
        ("x.jsonl.zst", zstd(LINES), [1, 2]),
        ("x.json.zst", zstd(array), [1, 2]),
        ("x.jsonl", [zstd(&LINES[..half]), zstd(&LINES[half..])].concat(), [1, 2]),
    ] {
        let expected = [
            (at[0], json!({ "text": "a", "n": 1 })),
            (at[1], json!({ "text": "b\u{2028}", "n": 2 })),
        ];
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        assert_eq!(read_as(name, &bytes).as_deref(), Ok(&expected[..]), "{name}: {shown}");
    }
}

#[test]
fn one_object_is_a_row_where_its_arrays_are_none() {
    for text in [
        r#"{"messages": [{"role": "user", "content": "a"}]}"#,
        r#"{"messages": [{"from": "human", "value": "a"}]}"#,
        r#"{"chosen": [{"a": 1}], "rejected": [{"a": 1}]}"#,
        r#"{"text": "a", "tags": ["b"], "none": []}"#,
    ] {
        assert_eq!(read_as("x.json", text).unwrap(), [(1, serde_json::from_str(text).unwrap())]);
    }
    let rows = r#"{"rows": [{"text": "a"}]}"#;
    assert_eq!(read_as("x.json", rows).unwrap(), [(1, json!({ "text": "a" }))]);
    assert_eq!(read_as("x.jsonl", rows).unwrap(), [(1, serde_json::from_str(rows).unwrap())]);
}

#[test]
fn separated_values_are_read_by_their_header_with_true_lines() {
    let text = "text,n\na,1\n\n\"b, \"\"c\"\"\nd\",2\n5\" disc,3\n";
    for (name, bytes) in [
        ("x.csv", text.as_bytes().to_vec()),
        ("x.csv", format!("{MARK}{text}").into_bytes()),
        ("x.csv", text.replace('\n', "\r\n").into_bytes()),
        ("x.csv", text.replace('\n', "\r").into_bytes()),
        ("x.csv", text.replace(",", ";").replace("b;", "b,").into_bytes()),
        ("x.csv", text.replace(",", "|").replace("b|", "b,").into_bytes()),
        ("x.csv", text.replace(",", "\t").replace("b\t", "b,").into_bytes()),
        ("x.tsv", text.replace(",", "\t").replace("b\t", "b,").into_bytes()),
        ("x.tsv", text.as_bytes().to_vec()),
        ("x.csv.gz", gzip(text)),
        ("x.tsv.zst", zstd(text)),
    ] {
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let rows = read_as(name, &bytes).unwrap();
        let enclosed =
            rows[1].1["text"].as_str().unwrap().replace("\r\n", "\n").replace('\r', "\n");
        assert_eq!(enclosed, "b, \"c\"\nd", "{name}: {shown}");
        let lines: Vec<usize> = rows.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 4, 6], "{name}: {shown}");
        assert_eq!(rows[0].1, json!({ "text": "a", "n": "1" }), "{name}: {shown}");
        assert_eq!(rows[2].1, json!({ "text": "5\" disc", "n": "3" }), "{name}: {shown}");
    }
    let one = read_as("x.csv", "text\na;b\n").unwrap();
    assert_eq!(one, [(2, json!({ "text": "a;b" }))]);
    let ends = "text;a|b\nx;y\n";
    assert_eq!(read_as("x.csv", ends).unwrap(), [(2, json!({ "text;a|b": "x;y" }))]);
}

#[test]
fn plain_text_has_a_row_for_each_line() {
    let expected = [(1, json!({ "text": "[INST] a" })), (3, json!({ "text": " {b} " }))];
    assert_eq!(read_as("x.txt", "[INST] a\r\n\n {b} ").unwrap(), expected);
    assert_eq!(read_as("x.txt.gz", gzip("[INST] a\n\n {b} \n")).unwrap(), expected);
}

#[test]
fn what_cannot_be_read_is_told_with_its_line_and_by_what_it_is() {
    let utf16: Vec<u8> = LINES.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let tar = [&[b'a'; 257][..], b"ustar\0"].concat();
    let cut = |bytes: Vec<u8>| bytes[..bytes.len() - 9].to_vec();
    let parquet = b"PAR1\x15\x04 and no more".to_vec();
    for (name, bytes, message) in [
        (
            "x.jsonl",
            [b"\xff\xfe", &utf16[..]].concat(),
            "x.jsonl: the file is UTF-16 text\n\nhint: ",
        ),
        ("x.csv", utf16, "x.csv: the file is UTF-16 text, or no text\n\nhint: "),
        ("x.jsonl.bz2", b"BZh91AY&SY...".to_vec(), "x.jsonl.bz2: the file is a bzip2 file"),
        ("x.jsonl", b"\xfd7zXZ\0...".to_vec(), "x.jsonl: the file is an xz file"),
        ("x.csv", b"PK\x03\x04...".to_vec(), "x.csv: the file is a zip archive"),
        ("x.jsonl.gz", gzip(&tar), "x.jsonl.gz: the file is a tar archive"),
        ("x.arrow", b"ARROW1\0\0".to_vec(), "x.arrow: the file is an Arrow file"),
        (
            "x.parquet",
            b"version https://git-lfs.github.com/spec/v1\n".to_vec(),
            "x.parquet: is a git-lfs pointer",
        ),
        ("x.json", b"<!doctype html>".to_vec(), "x.json: the file is a web page"),
        ("x.json", parquet.clone(), "x.json: not a readable Parquet file"),
        ("x.json", gzip(parquet), "x.json: the file is a Parquet file, packed once more"),
        ("x.parquet", b"nothing".to_vec(), "x.parquet: not a readable Parquet file"),
        (
            "x.jsonl.gz",
            [gzip(LINES), b"more".to_vec()].concat(),
            "x.jsonl.gz:3: the gzip data is damaged or cut short: ",
        ),
        ("x.jsonl.gz", cut(gzip(LINES)), "x.jsonl.gz:2: the gzip data is damaged or cut short: "),
        ("x.jsonl.zst", cut(zstd(LINES)), "x.jsonl.zst:1: the zstd data is damaged or cut short: "),
        (
            "x.json",
            b"text,n\na,1\n".to_vec(),
            "x.json:1: not valid JSON: expected ident at column 2\n\nhint: is it another kind",
        ),
        (
            "x.json",
            b"[{\"a\": \"b".to_vec(),
            "x.json:1: the file may be cut short: EOF while parsing a string",
        ),
        (
            "x.json",
            b"{\"data\": [{\"a\": 1},\n{\"a\"".to_vec(),
            "x.json:2: the file may be cut short: ",
        ),
        (
            "x.json",
            b"[{\"a\": 1}\n{\"a\": 2}]".to_vec(),
            "x.json:2: not valid JSON: `{` where `,` or `]` is expected",
        ),
        (
            "x.json",
            b"[{\"a\": 1},\n\n\n7]".to_vec(),
            "x.json:4: a JSON object was expected, not `7`",
        ),
        (
            "x.jsonl",
            b"{\"a\": 1}\r\n\r\n{\"a\": \"".to_vec(),
            "x.jsonl:3: a half-written last line: EOF while",
        ),
        (
            "x.csv",
            b"a,b\r\n1,\"2\r\n3\"\r\n4,5,6\r\n".to_vec(),
            "x.csv:4: not valid CSV: 3 fields, but the header names 2",
        ),
        (
            "x.csv",
            b"a,b\r\n1,2\r\n3,\"4\r\n5,6\r\n".to_vec(),
            "x.csv:3: not valid CSV: the row has a quoted field that is not closed",
        ),
        ("x.csv", b"a,b\r\n1,2\r\n3,\xff\r\n".to_vec(), "x.csv:3: not UTF-8 at byte 3 of the line"),
        ("x.jsonl", b" \n\n".to_vec(), "x.jsonl: the file holds no rows"),
        ("x.csv", b"a,b\n".to_vec(), "x.csv: the file holds no rows"),
        ("x.log", b"text\n".to_vec(), "x.log: unknown kind of data file; supported: .jsonl, "),
    ] {
        let error = read_as(name, bytes).unwrap_err();
        assert!(error.starts_with(message), "{error}\nexpected {message}");
    }
}
