//! `w2s export` of whole and of half runs.

use std::fs;

use serde_json::{Value, json};

use super::Project;
use crate::common::{failure, success};

const JOURNAL: &str = "out/steer/base/base/seed-1.jsonl";

#[test]
fn outputs_are_those_that_the_package_was_given() {
    let project = Project::new(4);
    success(&mut project.run(&["run.seeds=[1,2]"]));
    let written = success(&mut project.export(&["--format", "alpaca-eval", "--method", "again"]));
    let file = "exported/base/again/seed-1/model_outputs.json";
    assert_eq!(written.lines().count(), 2, "{written}");
    assert!(written.contains(file), "{written}");
    let judged = project.json("out/evaluate/alpaca_eval/base/again/seed-1/model_outputs.json");
    assert_eq!(project.json(file), judged);

    let few = json!([project.json("reference.json")[1]]).to_string();
    project.write("few.json", &few);
    let few = project.path("few.json");
    let words = ["--format", "alpaca-eval", "--reference", few.to_str().unwrap()];
    let error = failure(&mut project.export(&words), 1);
    assert!(error.contains("its 1 instructions are not the 4 prompts"), "{error}");
    let error = failure(&mut project.export(&["--format", "alpaca-eval", "--base", "bsae"]), 2);
    assert!(error.contains("--base `bsae`") && error.contains("has base"), "{error}");
}

#[test]
fn half_a_run_is_no_file_for_the_package_and_a_log_for_inspect() {
    let project = Project::new(4);
    success(&mut project.run(&[]));
    let whole = fs::read_to_string(project.path(JOURNAL)).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    // Three whole lines, and half of one that a kill has left.
    let (kept, torn) = (lines[..3].join("\n"), &lines[3][..lines[3].len() / 2]);
    project.write(JOURNAL, &format!("{kept}\n{torn}"));
    let lost: Value = serde_json::from_str(lines[3]).unwrap();
    let error = failure(&mut project.export(&["--format", "alpaca-eval"]), 1);
    let told = format!(
        "steer/base/base/seed-1: 3 of 4 responses are there; missing: `{}`",
        lost["id"].as_str().unwrap()
    );
    assert!(error.contains(&told) && error.contains("hint: `w2s run`"), "{told}\n{error}");
    assert!(!project.path("exported").exists());

    let written = success(&mut project.export(&["--format", "inspect"]));
    let log = fs::read_to_string(written.lines().next().unwrap()).unwrap();
    let log: Value = serde_json::from_str(&log).unwrap();
    assert_eq!(
        (&log["status"], &log["results"]["completed_samples"]),
        (&json!("cancelled"), &json!(3))
    );
    let sample = &log["samples"][0];
    let gold = sample["scores"]["gold"]["value"].as_f64().unwrap();
    assert_eq!(gold, sample["output"]["completion"].as_str().unwrap().chars().count() as f64);
    assert!(log["eval"]["metadata"]["settings"].is_object(), "{}", log["eval"]);

    // The same answer in two lines.
    project.write(JOURNAL, &format!("{kept}\n{}\n", lines[0]));
    let error = failure(&mut project.export(&["--format", "inspect"]), 1);
    assert!(
        error.contains("seed-1.jsonl:4: prompt `") && error.contains("stands here a second time"),
        "{error}"
    );
    let error = failure(
        crate::common::w2s().args(["export", "/", "--to", "/tmp/x", "--format", "inspect"]),
        1,
    );
    assert!(error.contains("is no run directory"), "{error}");
}
