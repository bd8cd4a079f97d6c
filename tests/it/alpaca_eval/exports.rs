//! `w2s export` of whole and of half runs.

use std::fs;

use serde_json::{Value, json};

use super::Project;
use crate::common::{failure, output, stderr, success};

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
    // The file is not the one that was judged.
    assert_eq!(sample["scores"], json!({}));
    assert!(log["eval"]["metadata"]["settings"].is_object(), "{}", log["eval"]);

    let told = stderr(&output(&mut project.export(&["--format", "inspect"])));
    let of_row = told.lines().filter(|line| line.contains("steer/base/")).collect::<Vec<_>>();
    assert!(
        of_row.len() == 1
            && of_row[0].contains("seed 1: 3 of 4 responses are there")
            && of_row[0].contains("seed-1.jsonl is not as the run left it"),
        "{told}"
    );

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

#[test]
fn scores_in_a_log_are_of_the_responses_that_it_has() {
    let project = Project::new(4);
    success(&mut project.run(&[]));
    let (log, told) = logged(&project);
    assert_eq!((&log["status"], told.contains("cancelled")), (&json!("success"), false), "{told}");
    let sample = &log["samples"][0];
    let gold = sample["scores"]["gold"]["value"].as_f64().unwrap();
    assert_eq!(gold, sample["output"]["completion"].as_str().unwrap().chars().count() as f64);

    // A judge that was killed before its last line.
    let journal = "out/evaluate/gold/base/base/seed-1.jsonl";
    let (judged, manifest) = (project.text(journal), project.text("out/manifest.json"));
    let mut begun = project.json("out/manifest.json");
    begun["tasks"]["evaluate/gold/base/base/seed-1"]["state"] = json!("begun");
    project.write("out/manifest.json", &begun.to_string());
    project.write(journal, &judged[..judged.trim_end().len() - 1]);
    let (log, told) = logged(&project);
    assert_eq!(log["results"]["scores"][0]["scored_samples"], 3);
    assert_eq!(log["status"], "cancelled");
    assert!(told.contains("seed 1: gold has judged 3 of 4;"), "{told}");
    project.write(journal, &judged);
    project.write("out/manifest.json", &manifest);

    // Other responses, which nobody has judged.
    let sets = ["steer.sampling.temperature=3.0"];
    success(project.run(&sets).args(["--only", "steer"]));
    let (log, told) = logged(&project);
    assert_eq!((&log["status"], &log["samples"][0]["scores"]), (&json!("cancelled"), &json!({})));
    assert_eq!(log["results"]["completed_samples"], 4);
    assert!(
        told.contains("no score of gold, for what gold says is of other responses")
            && told.contains("`w2s run` with the same recipe and --set makes what is missing"),
        "{told}"
    );
    success(&mut project.run(&sets));
    assert_eq!(logged(&project).0["status"], "success");
}

#[test]
fn a_reference_for_a_log_of_inspect_is_refused() {
    let project = Project::new(4);
    success(project.run(&[]).args(["--only", "steer"]));
    let error =
        failure(&mut project.export(&["--format", "inspect", "--reference", "nowhere.json"]), 2);
    assert!(error.contains("`--reference` is for `--format alpaca-eval`"), "{error}");
    assert!(!project.path("exported").exists());
}

/// The log of the method `base`, and what was said on stderr.
fn logged(project: &Project) -> (Value, String) {
    let output = output(&mut project.export(&["--format", "inspect", "--method", "base"]));
    assert!(output.status.success(), "{}", stderr(&output));
    let file = crate::common::stdout(&output);
    let log = fs::read_to_string(file.trim()).unwrap();
    (serde_json::from_str(&log).unwrap(), stderr(&output))
}
