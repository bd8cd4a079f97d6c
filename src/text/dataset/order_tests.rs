//! Tests of the order in which `dataset.rs` takes rows.

use serde_json::json;

use super::*;

#[test]
fn rows_by_hash_are_the_same_whatever_the_file_s_order() {
    let folder = tempfile::tempdir().unwrap();
    let texts: Vec<String> = (0..40).map(|row| format!("row {row} of the set")).collect();
    let read = |texts: &[String], order: &str, size: usize| {
        let rows: Vec<String> =
            texts.iter().map(|text| json!({ "text": text }).to_string()).collect();
        std::fs::write(folder.path().join("test.jsonl"), rows.join("\n")).unwrap();
        let data = json!({ "source": folder.path(), "order": order, "test": size });
        let test = load(&serde_json::from_value(data).unwrap(), 1).unwrap().test;
        test.into_iter().map(|row| row.text).collect::<Vec<_>>()
    };
    let backwards: Vec<String> = texts.iter().rev().cloned().collect();
    assert_eq!(read(&texts, "file", 3), texts[..3]);
    let few = read(&texts, "hash", 8);
    assert_eq!(few, read(&backwards, "hash", 8));
    let late = few.iter().filter(|text| texts[20..].contains(text)).count();
    assert!((1..8).contains(&late), "both halves are met: {few:?}");
    let mut all = read(&texts, "hash", 0);
    assert_ne!(all, texts);
    all.sort();
    assert_eq!(all.len(), 40);
}
