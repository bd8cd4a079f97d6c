//! A method that does not apply to a base: the run goes on, its row says why, and shards, `--only`
//! and a second run agree.

use std::fs;

use serde_json::Value;

use super::{Tiny, assert_same_answers, assert_same_summary};
use crate::common::{lines, output, stderr, stdout, success, tiny_model, w2s};

/// The recipe with a base more, of another vocabulary, and EFT for both.
fn other_base() -> (Tiny, Vec<String>) {
    let tiny = Tiny::new();
    let other = tiny_model(&tiny.folder.path().join("other"));
    let path = other.join("tokenizer.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"A\":33", "\"É\":33")).unwrap();
    let sets = [
        "models.other.id=other/model",
        "models.other.max_new_tokens=6",
        "steer.bases=['base','other']",
        "run.seeds=[1]",
        "steer.method=[{kind='base'},{kind='eft',weights=[0.5,2]}]",
    ];
    (tiny, sets.iter().flat_map(|set| ["--set".to_owned(), (*set).to_owned()]).collect())
}

fn rows(summary: &Value, base: &str) -> Vec<Value> {
    let rows = summary["rows"].as_array().unwrap().iter();
    rows.filter(|row| row["base"] == base).cloned().collect()
}

#[test]
fn the_row_says_why_and_the_rest_is_there() {
    let (tiny, sets) = other_base();
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    let run = |out: &str, more: &[&str]| tiny.run(out, &[&sets[..], more].concat());
    let text = success(&mut run("whole", &["--json"]));
    let summary: Value = serde_json::from_str(&text).unwrap();
    let why = "the vocabularies of base `other` and guide `tuned` differ: ";
    let other = rows(&summary, "other");
    assert_eq!(other.len(), 3);
    for row in &other[1..] {
        let said = row["not_applicable"].as_str().unwrap();
        assert!(said.starts_with(why) && said.ends_with("is id 33: `É` and `A`"), "{said}");
        assert_eq!((&row["prompts"], &row["gold_reward"]), (&0.into(), &Value::Null));
        assert_eq!(row["settings"]["max_new_tokens"], 6);
    }
    assert!(other[0].get("not_applicable").is_none() && other[0]["prompts"] == 7);
    assert!(other[0]["response_tokens"].as_f64().unwrap() <= 6.0);
    assert!(rows(&summary, "base").iter().all(|row| row["prompts"] == 7), "{summary}");
    let out = tiny.out("whole");
    for folder in ["steer", "evaluate/gold"] {
        let journal = |base: &str| lines(&out.join(folder).join(base).join("eft-2/seed-1.jsonl"));
        assert_eq!((journal("other").len(), journal("base").len()), (0, 7), "{folder}");
    }

    // Tables, page and `w2s compare` say it.
    let told = "other eft-0.5, other eft-2: the vocabularies of base `other`";
    let table = stdout(&output(&mut run("whole", &[])));
    let compared = success(w2s().arg("compare").arg(&out));
    for text in [&table, &compared] {
        assert!(text.contains(told) && text.contains("n/a"), "{text}");
    }
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    let once = "Not applicable (other eft-0.5, other eft-2): the vocabularies";
    assert!(page.contains(once), "{page}");

    // A second run has nothing left to do, nor has one of a stage alone.
    for more in [&[][..], &["--only", "evaluate"]] {
        let log = stderr(&output(&mut run("whole", more)));
        assert!(!log.contains(": starting") && !log.contains(": continuing"), "{log}");
    }

    // Shards.
    success(&mut run("split", &["--only", "gold"]));
    success(&mut run("split", &["--shard", "1/2"]));
    success(&mut run("split", &["--shard", "2/2"]));
    let merged = success(&mut run("split", &["--only", "evaluate", "--json"]));
    assert_same_answers(&out, &tiny.out("split"));
    assert_same_summary(&text, &merged);
}

#[test]
fn check_says_it_before_a_run() {
    let (tiny, sets) = other_base();
    let recipe = tiny.folder.path().join("tiny.toml");
    let check = |more: &[&str]| {
        let more = more.iter().flat_map(|set| ["--set", set]);
        success(w2s().arg("check").arg(&recipe).args(&sets).args(more))
    };
    let text = check(&[]);
    let told = "eft-0.5, eft-2: not applicable to other with guide `tuned`: ";
    assert!(text.contains(told) && text.contains("id 33"), "{text}");
    assert!(!text.contains("applicable to none"), "{text}");
    let none = check(&["steer.method.1.bases=['other']"]);
    assert!(none.contains("warning: eft-0.5, eft-2: applicable to none of its bases"), "{none}");
    let own = check(&["models.tuned.stop=['x']", "steer.validation_prompts=0"]);
    for told in ["     other: up to 6 new tokens; ", "`models.tuned`: its own `sampling`, `stop`"] {
        assert!(own.contains(told), "{own}");
    }
}
