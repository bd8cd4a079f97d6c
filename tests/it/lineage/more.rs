//! More and fewer prompts, traces, and a second judge of a finished run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use super::{EVERY_STAGE, GUIDED, Project, set_of};
use crate::common::{lines, output, stderr, success};

#[test]
fn more_prompts_and_traces_continue_and_fewer_are_left_out_of_the_summary() {
    let project = Project::new();
    let of = |text: &str| text.split_once("[gold.scratch]").unwrap().0.to_owned();
    fs::write(
        project.path("every.toml"),
        of(EVERY_STAGE).replace("test = 8", "test = 12") + GUIDED,
    )
    .unwrap();
    let journal = project.out().join("steer/base/best_of_n/seed-1.jsonl");
    let judged = ["evaluate/gold/base/base/seed-1", "evaluate/gold/base/best_of_n/seed-1"];
    let answered = set_of(&["steer/base/base/seed-1", "steer/base/best_of_n/seed-1", "evaluate"]);
    let tasks = &answered | &set_of(&judged);
    let prompts = || {
        let rows = project.summary()["rows"].clone();
        rows.as_array()
            .unwrap()
            .iter()
            .map(|row| row["prompts"].as_u64().unwrap())
            .collect::<BTreeSet<_>>()
    };
    let without = |lines: &[Value], keys: &[&str]| -> BTreeMap<String, Value> {
        let mut lines = lines.to_vec();
        lines.iter_mut().for_each(|line| {
            keys.iter().for_each(|key| drop(line.as_object_mut().unwrap().remove(*key)))
        });
        lines.into_iter().map(|line| (line["id"].as_str().unwrap().to_owned(), line)).collect()
    };
    project.redone(&[]);
    let five = fs::read(&journal).unwrap();
    assert_eq!(prompts(), [5].into());

    assert_eq!(project.redone(&["steer.prompts=8"]), tasks);
    let eight = fs::read(&journal).unwrap();
    assert!(eight.starts_with(&five) && lines(&journal).len() == 8, "what was answered stands");
    assert_eq!(prompts(), [8].into());

    assert_eq!(project.redone(&["steer.prompts=3"]), set_of(&["evaluate"]));
    assert!(fs::read(&journal).unwrap() == eight && prompts() == [3].into());
    let three: BTreeSet<String> =
        lines(&journal)[..3].iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(three, set_of(&["test-0", "test-1", "test-2"]));
    let fresh = Project::new();
    fs::copy(project.path("every.toml"), fresh.path("every.toml")).unwrap();
    fresh.redone(&["steer.prompts=3"]);
    let mut rows = [&project, &fresh].map(|project| project.summary()["rows"].clone());
    rows.iter_mut()
        .flat_map(|rows| rows.as_array_mut().unwrap())
        .for_each(|row| row.as_object_mut().unwrap().retain(|key, _| !key.ends_with("seconds")));
    // Which texts a judge reads together shows in the last bits.
    let mut rewards = |row: usize| {
        let rewards = rows[row]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .map(|row| row.as_object_mut().unwrap().remove("gold_reward").unwrap());
        rewards.map(|reward| reward["mean"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    let (more, three) = (rewards(0), rewards(1));
    assert!(
        more.len() == 2 && more.iter().zip(&three).all(|(a, b)| (a - b).abs() < 1e-5),
        "{more:?} {three:?}"
    );
    assert_eq!(rows[0], rows[1], "three prompts are three prompts");

    // A trace cannot be had of an answer that is there, so the same answer is found once more;
    // without traces again nothing is done.
    let plain = without(&lines(&journal), &["seconds", "guide_seconds"]);
    assert_eq!(
        project.redone(&["steer.prompts=8", "steer.trace=true"]),
        answered,
        "no judge is asked again"
    );
    let traced = lines(&journal);
    assert!(traced.len() == 8 && traced.iter().all(|line| line["trace"].is_array()));
    assert_eq!(without(&traced, &["seconds", "guide_seconds", "trace"]), plain);
    assert_eq!(project.redone(&["steer.prompts=8"]), set_of(&[]));

    // New names for the files; the page beside a model is no part of it.
    for (from, to) in [("model", "gpt2"), ("reward", "judge"), ("texts", "data")] {
        fs::rename(project.path(from), project.path(to)).unwrap();
    }
    fs::write(project.path("gpt2/README.md"), "a page about the model").unwrap();
    let renamed = ["data.source=data", "models.base.id=gpt2", "gold.id=judge", "steer.prompts=8"];
    assert_eq!(project.redone(&renamed), set_of(&[]));
    for (from, to) in [("model", "gpt2"), ("reward", "judge"), ("texts", "data")] {
        fs::rename(project.path(to), project.path(from)).unwrap();
    }

    // Shards that work under another path, with more prompts than before; and the same once more
    // with fewer, which loses none.
    let mut project = project;
    success(project.run(&["steer.prompts=11"]).args(["--shard", "1/2"]));
    project.move_to("another/mount");
    success(project.run(&["steer.prompts=11"]).args(["--shard", "2/2"]));
    let journal = project.out().join("steer/base/best_of_n/seed-1.jsonl");
    let merged = stderr(&output(project.run(&["steer.prompts=10"]).args(["--only", "evaluate"])));
    assert!(
        merged.contains("3 answers merged from shards, 10 of 10 prompts answered")
            && !merged.contains("left out"),
        "{merged}"
    );
    assert_eq!(project.redone(&["steer.prompts=11"]), tasks);
    let ids: Vec<String> =
        lines(&journal).iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, (0..11).map(|i| format!("test-{i}")).collect::<Vec<_>>());
}

#[test]
fn a_second_judge_of_a_finished_run_steers_nothing_and_opens_no_model() {
    let project = Project::new();
    let of = |text: &str| text.split_once("[gold.scratch]").unwrap().0.to_owned();
    fs::write(project.path("every.toml"), of(EVERY_STAGE) + GUIDED).unwrap();
    project.redone(&[]);
    let rows = |summary: Value| summary["rows"].as_array().unwrap().clone();
    let before = rows(project.summary());
    let second = ["judges.kind.id=reward", "judges.kind.text='{response} {prompt}'"];
    let judged = set_of(&[
        "evaluate/kind/base/base/seed-1",
        "evaluate/kind/base/best_of_n/seed-1",
        "evaluate",
    ]);
    assert_eq!(project.redone(&second), judged);
    let after = rows(project.summary());
    for (before, mut after) in before.into_iter().zip(after) {
        let kind = after.as_object_mut().unwrap().remove("judges").unwrap();
        assert_eq!(before, after, "what was there is as it was");
        assert!(
            kind["kind"]["mean"].is_f64() && kind["kind"]["mean"] != before["gold_reward"]["mean"],
            "{kind}"
        );
    }
    let [lines, answers] = ["evaluate/kind", "steer"]
        .map(|folder| lines(&project.out().join(folder).join("base/best_of_n/seed-1.jsonl")));
    let ids = |lines: &[Value]| {
        lines.iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    assert!(
        ids(&lines) == ids(&answers) && lines.iter().all(|line| line["reward"].is_f64()),
        "{lines:?}"
    );
    assert!(answers.iter().all(|line| line.get("gold_reward").is_none()), "answers know no judge");
    // What a judge reads is part of what it says, and of nothing else.
    assert_eq!(project.redone(&[second[0], "judges.kind.text='{prompt} - {response}'"]), judged);
    let gold = set_of(&[
        "gold/accuracy",
        "steer/gap/models.small/gold-validation-seed-1",
        "steer/gap/models.other/gold-validation-seed-1",
        "steer/gap",
        "evaluate/gold/base/base/seed-1",
        "evaluate/gold/base/best_of_n/seed-1",
        "evaluate",
    ]);
    assert_eq!(
        project.redone(&[
            second[0],
            "judges.kind.text='{prompt} - {response}'",
            "gold.text='{response}{prompt}'"
        ]),
        gold
    );
}
