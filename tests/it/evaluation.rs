//! What evaluation makes of journals: sound ones give the summary's numbers, which a Python script
//! recomputes; others are refused by one message, or are what a kill leaves and go on.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::common::{failure, output, stderr, success, w2s};
use crate::judge;
use crate::shards::{Tiny, assert_same_summary};

const STEERED: &str = "steer/base/best_of_n/seed-1";
const JUDGED: &str = "evaluate/gold/base/best_of_n/seed-1";

/// A finished run of the recipe with two methods and two seeds, and its summary.
fn finished() -> (Tiny, String) {
    let tiny = Tiny::new();
    let summary = success(&mut tiny.run("run", &["--json"]));
    (tiny, summary)
}

/// Takes a task back to where a kill leaves it: begun, with its journal.
fn reopen(run: &Path, task: &str) -> PathBuf {
    let path = run.join("manifest.json");
    let mut manifest: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let entry = manifest["tasks"][task].as_object_mut().unwrap();
    for key in ["seconds", "outputs", "reach"] {
        entry.remove(key);
    }
    assert_eq!(entry.insert("state".into(), json!("begun")), Some(json!("done")));
    fs::write(&path, manifest.to_string()).unwrap();
    run.join(format!("{task}.jsonl"))
}

#[test]
fn a_prompt_that_stands_twice_is_named_with_its_line() {
    let (tiny, summary) = finished();
    for task in [STEERED, JUDGED] {
        let journal = reopen(&tiny.out("run"), task);
        let whole = fs::read_to_string(&journal).unwrap();
        let second = whole.lines().nth(1).unwrap();
        let id = serde_json::from_str::<Value>(second).unwrap()["id"].as_str().unwrap().to_owned();
        let twice = format!("{whole}{second}\n");
        fs::write(&journal, &twice).unwrap();
        let error = failure(&mut tiny.run("run", &[]), 1);
        let told = format!("{task}.jsonl:8: prompt `{id}` stands here a second time; line 2 has");
        assert!(error.contains(&told) && error.contains("hint: remove one"), "{error}");
        assert_eq!(fs::read_to_string(&journal).unwrap(), twice, "nothing is lost");
        fs::write(&journal, &whole).unwrap();
        assert_same_summary(&summary, &success(&mut tiny.run("run", &["--json"])));
        assert_eq!(fs::read_to_string(&journal).unwrap(), whole);
    }
}

#[test]
fn what_a_kill_leaves_goes_on() {
    let (tiny, summary) = finished();
    for task in [STEERED, JUDGED] {
        let journal = reopen(&tiny.out("run"), task);
        let whole = fs::read_to_string(&journal).unwrap();
        // The fifth line has lost its end, and all that came behind it.
        let kept: String = whole.split_inclusive('\n').take(4).collect();
        let half = whole.lines().nth(4).unwrap();
        fs::write(&journal, format!("{kept}{}", &half[..half.len() / 2])).unwrap();
        assert_same_summary(&summary, &success(&mut tiny.run("run", &["--json"])));
        let after = fs::read_to_string(&journal).unwrap();
        assert!(after.starts_with(&kept) && after.lines().count() == 7, "{after}");
    }
}

#[test]
fn a_finished_journal_that_lacks_a_prompt_is_not_averaged() {
    let (tiny, summary) = finished();
    let journal = tiny.out("run").join(format!("{STEERED}.jsonl"));
    let whole = fs::read_to_string(&journal).unwrap();
    let less: String = whole.split_inclusive('\n').skip(1).collect();
    fs::write(&journal, &less).unwrap();
    let error = failure(&mut tiny.run("run", &["--only", "evaluate"]), 1);
    let told = format!("`{STEERED}.jsonl` is not as `{STEERED}` left it");
    assert!(error.contains(&told) && error.contains("hint: put it back"), "{error}");
    assert_eq!(fs::read_to_string(&journal).unwrap(), less);
    assert_same_summary(&summary, &success(&mut tiny.run("run", &["--json"])));
    assert_eq!(fs::read_to_string(&journal).unwrap().lines().count(), 7);
    let aside = tiny.out("run").join(format!("{STEERED}.jsonl.changed"));
    assert_eq!(fs::read_to_string(aside).unwrap(), less, "what somebody made of it is kept");
}

#[test]
fn a_summary_older_than_its_answers_is_told() {
    let (tiny, _) = finished();
    let compare = || stderr(&output(w2s().arg("compare").arg(tiny.out("run"))));
    assert!(!compare().contains("is older than"), "{}", compare());
    let other = ["--only", "steer", "--set", "steer.sampling.temperature=0.5"];
    success(&mut tiny.run("run", &other));
    let told = compare();
    assert!(told.contains("the summary is older than what it is of: "), "{told}");
    assert!(told.contains("validation-seed-1, ") && told.contains(" more;"), "{told}");
}

#[test]
fn an_evaluation_without_a_judge_is_refused_before_anything_is_done() {
    let tiny = Tiny::new();
    let recipe = tiny.folder.path().join("tiny.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    fs::write(&recipe, text.replace("[gold]\nid = \"gold\"\n", "")).unwrap();
    let error = failure(&mut tiny.run("run", &[]), 2);
    assert!(error.contains("`[evaluate]` needs `[gold]`\n\nhint: add `[gold]`"), "{error}");
    assert!(!tiny.out("run").exists());
}

#[test]
fn compare_counts_from_the_baseline_that_is_asked_for() {
    let (tiny, _) = finished();
    let out = tiny.out("run");
    let compare = |more: &[&str]| {
        let mut command = w2s();
        command.arg("compare").arg(&out).args(more);
        command
    };
    let text = success(&mut compare(&[]));
    for told in ["| gold reward |", "| repetition-4 |", "| wins/ties/losses |", "weak to strong"] {
        assert!(text.contains(told), "{told}\n{text}");
    }
    let differences = |more: &[&str]| {
        let text = success(&mut compare(&[more, &["--json"]].concat()));
        let all: Value = serde_json::from_str(&text).unwrap();
        let names = |it: &Value| format!("{} − {}", it["a"], it["b"]).replace('"', "");
        let each = all[0]["differences"].as_array().unwrap().iter();
        each.map(|it| (names(it), it["difference"].as_f64().unwrap())).collect::<Vec<_>>()
    };
    let (from_base, from_best) = (differences(&[]), differences(&["--baseline", "best_of_n"]));
    assert_eq!(from_base[0].0, "best_of_n − base");
    assert_eq!(from_best, [("base − best_of_n".to_owned(), -from_base[0].1)]);
    let error = failure(&mut compare(&["--baseline", "cbs"]), 2);
    assert!(error.contains("no row is of this method"), "{error}");
    assert!(error.contains("hint: the methods are `base`, `best_of_n`"), "{error}");
}

#[test]
#[ignore = "needs Python: make judge"]
fn numbers_of_the_summary_are_recomputed_from_the_journals() {
    let (tiny, _) = finished();
    let told = judge::ask("judge/recompute.py", &[&tiny.out("run")]);
    // Two rows of 9 numbers and one comparison of 7.
    assert!(told.contains("25 numbers are those of the journals"), "{told}");
}
