//! Whole runs whose judges are servers: the same numbers as by a program, killed on the way, a key
//! that nobody sees.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::runs::{assert_judged, by_letters, judged_files, letters, project, run};
use super::{BY_LENGTH, Bench};
use crate::common::loopback::{Asked, Loopback, Play};
use crate::common::{failure, kill_when, lines, short_smoke, success, tiny_model, w2s};

const KEY: &str = "sk-reward-never-shown";

/// What separates a prompt from its response in the text that is pooled.
const MARK: char = '§';

/// The texts of a request: a prompt and a response each.
fn asked_about(asked: &Asked) -> Vec<(String, String)> {
    let body = asked.json();
    let list = |key: &str| -> Vec<String> {
        let texts = body[key].as_array().unwrap().iter();
        texts.map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    if asked.path == "/pooling" {
        let texts = list("input").into_iter();
        let both = |text: String| {
            let (prompt, response) = text.split_once(MARK).unwrap();
            (prompt.to_owned(), response.to_owned())
        };
        return texts.map(both).collect();
    }
    let both = list("query").into_iter().zip(list("prompts"));
    both.map(|(text, prompt)| {
        let response = text.strip_prefix(prompt.as_str()).unwrap().to_owned();
        (prompt, response)
    })
    .collect()
}

/// Says what `value` makes of each response.
fn answer(asked: &Asked, value: impl Fn(&str) -> f64) -> Play {
    let rewards: Vec<f64> =
        asked_about(asked).iter().map(|(_, response)| value(response)).collect();
    if asked.path == "/pooling" {
        let data: Vec<Value> = rewards.iter().map(|reward| json!({ "data": [reward] })).collect();
        return Play::json(&json!({ "data": data }));
    }
    Play::json(&json!({ "rewards": rewards }))
}

/// Both judges of the recipe at the server.
fn served(bench: &Bench, server: &Loopback) -> Command {
    let sets = [
        format!("gold.url={}/get_reward", server.url()),
        "gold.key=REWARD_KEY".to_owned(),
        format!("judges.second.url={}/pooling", server.url()),
        "judges.second.model=owner/judge".to_owned(),
        format!("judges.second.text='{{prompt}}{MARK}{{response}}'"),
    ];
    let mut command = run(bench, &sets.each_ref().map(String::as_str));
    command.env("REWARD_KEY", KEY);
    command
}

#[test]
fn a_server_says_what_a_program_says_also_to_a_run_that_is_killed() {
    let by_command = project(&by_letters("0"));
    success(&mut run(&by_command, &[]));

    let server = Loopback::start(|asked| answer(asked, letters).slow(Duration::from_millis(40)));
    let bench = project("");
    kill_when(&mut served(&bench, &server), "preferences", || server.asked().len() > 2);
    let first = server.asked().len();
    let journal = bench.path("out/evaluate/gold/base/base/seed-1.jsonl");
    kill_when(&mut served(&bench, &server), "judging", || !lines_of(&journal).is_empty());
    success(&mut served(&bench, &server));
    assert_judged(&bench.path("out"), &["gold", "second"]);
    assert_eq!(judged_files(&bench.path("out")), judged_files(&by_command.path("out")));

    let asked = server.asked();
    assert!(asked.len() > first);
    for asked in &asked {
        let key = asked.header("authorization");
        match asked.path.as_str() {
            "/get_reward" => assert_eq!(key, Some(format!("Bearer {KEY}").as_str())),
            _ => assert_eq!((key, &asked.json()["model"]), (None, &json!("owner/judge"))),
        }
    }
    // What was on its way at a kill may be asked about once more, and nothing else.
    let mut counts: BTreeMap<(String, Vec<(String, String)>), usize> = BTreeMap::new();
    for asked in &asked {
        *counts.entry((asked.path.clone(), asked_about(asked))).or_default() += 1;
    }
    let twice = counts.values().filter(|count| **count > 1).count();
    assert!(twice <= 8, "{twice} of {} requests came again", counts.len());

    for file in files(&bench.path("out")) {
        let held = fs::read(&file).unwrap();
        assert!(!String::from_utf8_lossy(&held).contains(KEY), "{file}");
    }
}

fn lines_of(journal: &Path) -> Vec<String> {
    fs::read_to_string(journal).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn files(folder: &Path) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => drop(all.insert(path.display().to_string())),
        }
    }
    all
}

#[test]
fn a_key_that_is_not_there_is_told_before_any_work() {
    let server = Loopback::start(|asked| answer(asked, letters));
    let bench = project("");
    let error = failure(served(&bench, &server).env_remove("REWARD_KEY"), 2);
    assert!(error.contains("`gold.key`: the environment variable `REWARD_KEY`"), "{error}");
    assert!(server.asked().is_empty() && !bench.path("out/models").exists());
}

#[test]
fn the_shell_takes_an_address_as_the_gold() {
    let length = |response: &str| response.chars().count() as f64;
    let server = Loopback::start(move |asked| answer(asked, length));
    let bench = Bench::new("");
    tiny_model(&bench.path(""));
    let mut command = w2s();
    command.current_dir(bench.path("")).args(["steer", "--base", "model", "--method", "base"]);
    command.args(["--max-new-tokens", "5", "--json", "--gold"]);
    command.arg(format!("{}/get_reward", server.url()));
    let answer: Value = serde_json::from_str(success(command.arg("ab")).trim()).unwrap();
    let characters = length(answer["response"].as_str().unwrap());
    assert_eq!(answer["gold_reward"].as_f64(), Some(characters));
}

/// Ten lines of Python as the gold of the smallest recipe, by command and by HTTP.
#[test]
fn the_smoke_recipe_is_judged_alike_by_command_and_by_http() {
    let bench = Bench::new(BY_LENGTH);
    let server = Loopback::start(|asked| answer(asked, |text| text.chars().count() as f64));
    let script = bench.path("reward.py").display().to_string();
    let golds = [
        format!("gold.command=['python3', '{script}']"),
        format!("gold.url={}/get_reward", server.url()),
    ];
    let [by_command, by_http] = golds.map(|gold| {
        let out = bench.path(&gold[..8]);
        success(short_smoke(&out).args(["--set", &gold]));
        let judged = files(&out.join("evaluate/gold"))
            .into_iter()
            .chain([out.join("preferences/train.jsonl").display().to_string()]);
        let held = judged.map(|file| {
            let name = Path::new(&file).strip_prefix(&out).unwrap().to_owned();
            (name, lines(Path::new(&file)))
        });
        let summary: Value =
            serde_json::from_slice(&fs::read(out.join("evaluate/summary.json")).unwrap()).unwrap();
        (held.collect::<Vec<_>>(), summary["rows"].as_array().unwrap().len())
    });
    assert!(by_command.0.len() > 8, "{}", by_command.0.len());
    assert_eq!(by_command, by_http);
}
