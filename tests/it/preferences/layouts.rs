//! The same pairs in the layouts in which data sets lie about, as `datasets`, pandas and pyarrow
//! write them, and chats as TRL reads them.

use std::fs;

use serde_json::Value;

use super::Bench;
use crate::common::{lines, output, stderr};
use crate::judge;

/// What of a pair is compared; the order is the prompts'.
fn pairs(rows: &[Value]) -> Vec<Value> {
    let fields = ["prompt", "chosen", "rejected", "chosen_complete"];
    let mut pairs: Vec<Value> =
        rows.iter().map(|row| fields.map(|field| row[field].clone()).into()).collect();
    pairs.sort_by_key(|pair| pair[0].to_string());
    pairs
}

#[test]
#[ignore = "needs Python with torch: make judge-heavy"]
fn a_layout_is_read_as_datasets_reads_it_or_told_by_one_error() {
    let bench = Bench::new();
    judge::ask("judge/data_layouts.py", &[bench.folder.path()]);
    let expected: Value =
        serde_json::from_slice(&fs::read(bench.path("expected.json")).unwrap()).unwrap();
    let rows = pairs(expected["rows"].as_array().unwrap());
    let files = expected["files"].as_object().unwrap();
    let mut wrong = Vec::new();
    for (file, words) in files {
        let table = format!(
            "[preferences]\nsource='{file}'\nvalidation_pairs=1\npolicy='guide'\nlabel='kept'\n\
             #no gold\n[dpo.training]\nsteps=1\nbatch_size=1\n"
        );
        let out = format!("run-{file}");
        let run = output(bench.run(&out, &table).args(["--only", "preferences"]));
        let said = stderr(&run);
        let fits = match words.as_str() {
            Some(words) => {
                run.status.code() != Some(0) && said.contains(words) && said.contains(file)
            }
            None => {
                let split = |split: &str| {
                    let path = bench.path(&out).join(format!("preferences/{split}.jsonl"));
                    if path.exists() { lines(&path) } else { Vec::new() }
                };
                pairs(&[split("train"), split("validation")].concat()) == rows
            }
        };
        println!("{file}: {}", said.lines().last().unwrap_or_default());
        if !fits {
            wrong.push(format!("{file}:\n{said}"));
        }
    }
    assert!(files.len() > 50 && wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "needs Python with torch: make judge-heavy"]
fn a_chat_is_read_as_trl_reads_it_or_told_by_one_error() {
    let bench = Bench::new();
    judge::ask("judge/chat_layouts.py", &[bench.folder.path()]);
    let expected: Value =
        serde_json::from_slice(&fs::read(bench.path("expected.json")).unwrap()).unwrap();
    let files = expected.as_object().unwrap();
    let mut wrong = Vec::new();
    for (file, expected) in files {
        let out = format!("run-{file}");
        let table =
            format!("[preferences]\nsource='{file}'\nvalidation_pairs=1\nlabel='kept'\n#no gold\n");
        let run = output(&mut bench.run(&out, &table));
        let said = stderr(&run);
        let fits = match expected.as_array() {
            None => said.contains(expected.as_str().unwrap()) && run.status.code() != Some(0),
            Some(rows) => {
                let read = |split: &str| {
                    let path = bench.path(&out).join(format!("preferences/{split}.jsonl"));
                    if path.exists() { lines(&path) } else { Vec::new() }
                };
                let read = pairs(&[read("train"), read("validation")].concat());
                let only = |pairs: Vec<Value>| -> Vec<Value> {
                    pairs.iter().map(|pair| pair.as_array().unwrap()[..3].into()).collect()
                };
                only(read) == only(pairs(rows))
            }
        };
        println!("{file}: {}", said.lines().last().unwrap_or_default());
        if !fits {
            wrong.push(format!("{file}:\n{said}"));
        }
    }
    assert!(files.len() > 28 && wrong.is_empty(), "{}", wrong.join("\n"));
}
