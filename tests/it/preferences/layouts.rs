//! The same pairs in the layouts in which data sets lie about, as `datasets`, pandas and pyarrow
//! write them, and chats as TRL reads them.

use std::fs;

use serde_json::Value;

use super::Bench;
use crate::common::{lines, output, stderr};
use crate::judge;

/// The first `fields` of what of a pair is compared; the order is the prompts'.
fn pairs(rows: &[Value], fields: usize) -> Vec<Value> {
    let all = ["prompt", "chosen", "rejected", "chosen_complete"];
    let pair = |row: &Value| all[..fields].iter().map(|field| row[*field].clone()).collect();
    let mut pairs: Vec<Value> = rows.iter().map(pair).collect();
    pairs.sort_by_key(|pair| pair[0].to_string());
    pairs
}

/// Asks the judge for its files and holds what a run makes of each against what it expects: the
/// first `fields` of its pairs, or words of the one error. `more` follows the table of pairs.
fn compare(bench: &Bench, script: &str, fields: usize, more: &str, at_least: usize) {
    judge::ask(script, &[bench.folder.path()]);
    let expected: Value =
        serde_json::from_slice(&fs::read(bench.path("expected.json")).unwrap()).unwrap();
    let files = expected["files"].as_object().unwrap();
    let mut wrong = Vec::new();
    for (file, expected) in files {
        let out = format!("run-{file}");
        let table = format!(
            "[preferences]\nsource='{file}'\nvalidation_pairs=1\nlabel='kept'\n#no gold\n{more}"
        );
        let run = output(bench.run(&out, &table).args(["--only", "preferences"]));
        let said = stderr(&run);
        let read = |split: &str| {
            let path = bench.path(&out).join(format!("preferences/{split}.jsonl"));
            if path.exists() { lines(&path) } else { Vec::new() }
        };
        let fits = match expected.as_array() {
            None => run.status.code() != Some(0) && said.contains(expected.as_str().unwrap()),
            Some(rows) => {
                pairs(&[read("train"), read("validation")].concat(), fields) == pairs(rows, fields)
            }
        };
        println!("{file}: {}", said.lines().last().unwrap_or_default());
        if !fits {
            wrong.push(format!("{file}:\n{said}"));
        }
    }
    assert!(files.len() >= at_least && wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "needs Python with torch: make judge-heavy"]
fn a_layout_is_read_as_datasets_reads_it_or_told_by_one_error() {
    // Whose end tokens and room count, too.
    let more = "policy='guide'\n[dpo.training]\nsteps=1\nbatch_size=1\n";
    compare(&Bench::new(), "judge/data_layouts.py", 4, more, 53);
}

#[test]
#[ignore = "needs Python with torch: make judge-heavy"]
fn a_chat_is_read_as_trl_reads_it_or_told_by_one_error() {
    compare(&Bench::new(), "judge/chat_layouts.py", 3, "", 31);
}
