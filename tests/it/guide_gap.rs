//! What validation prompts say: a guide pair's own gap before it steers, and the weight of EFT that
//! they would have chosen; resumed, in shards, without such prompts and without room for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::common::{kill_when, lines, output, stderr, stdout, success, tiny_model, w2s};
use crate::rewards_of_others::BY_LENGTH;

/// Guides whose own answers differ in length, which is all that the gold judges; nothing to train.
const RECIPE: &str = r#"
[run]
name = "gap"
seeds = [1, 2]
dtype = "float32"
[data]
source = "texts"
train = 2
validation = 12
test = 8
prompt = { min_words = 2, max_words = 2 }
[models.base]
id = "base"
[models.tuned]
id = "tuned"
max_new_tokens = 8
[models.untuned]
id = "untuned"
max_new_tokens = 2
[gold]
command = ["python3", "reward.py"]
[steer]
bases = ["base"]
tuned = "tuned"
untuned = "untuned"
prompts = 5
max_new_tokens = 6
trace = true
method = [
    { kind = "base" },
    { kind = "eft", weights = [0.5, 1, 2] },
    { kind = "best_of_n", n = 2 },
]
[evaluate]
"#;

const WEIGHTS: [&str; 3] = ["eft-0.5", "eft-1", "eft-2"];

struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    fn new(recipe: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        for name in ["base", "tuned", "untuned"] {
            tiny_model(&path.join("made"));
            fs::rename(path.join("made/model"), path.join(name)).unwrap();
        }
        fs::create_dir(path.join("texts")).unwrap();
        for (split, rows) in [("train", 2), ("validation", 12), ("test", 8)] {
            let row = |i: usize| json!({ "text": format!("{split} {i} and more") });
            let rows: String = (0..rows).map(|i| format!("{}\n", row(i))).collect();
            fs::write(path.join(format!("texts/{split}.jsonl")), rows).unwrap();
        }
        fs::write(path.join("reward.py"), BY_LENGTH).unwrap();
        fs::write(path.join("gap.toml"), recipe).unwrap();
        Self { folder }
    }

    fn out(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, out: &str, arguments: &[&str]) -> Command {
        let mut command = w2s();
        command.arg("run").arg(self.folder.path().join("gap.toml"));
        command.arg("--out").arg(self.out(out)).args(arguments);
        command
    }

    /// The table and the log of a run that must end well.
    fn done(&self, out: &str, arguments: &[&str]) -> (String, String) {
        let run = output(&mut self.run(out, arguments));
        assert!(run.status.success(), "{arguments:?}\n{}", stderr(&run));
        (stdout(&run), stderr(&run))
    }

    fn read(&self, file: &str) -> Value {
        serde_json::from_slice(&fs::read(self.out(file)).unwrap()).unwrap()
    }
}

/// The tasks that the log says to have begun.
fn begun(log: &str) -> BTreeSet<String> {
    let begun = log.lines().filter_map(|line| line.strip_suffix(": starting"));
    begun.map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect()
}

/// The mean of what the gold says in journals.
fn mean(files: &[PathBuf]) -> f64 {
    let lines = files.iter().flat_map(|file| lines(file));
    let rewards: Vec<f64> = lines.map(|line| line["reward"].as_f64().unwrap()).collect();
    rewards.iter().sum::<f64>() / rewards.len() as f64
}

/// By which prompts each row is the best of its sweep.
fn chosen(summary: &Value) -> BTreeMap<String, Vec<&str>> {
    let of = |row: &Value| row["method"].as_str().unwrap().to_owned();
    let rows = summary["rows"].as_array().unwrap().iter();
    let marked = rows.filter_map(|row| Some((of(row), row.get("chosen")?.as_array()?)));
    marked.map(|(name, by)| (name, by.iter().map(|by| by.as_str().unwrap()).collect())).collect()
}

/// The first weight with the highest mean of these journals.
fn best(gold: &Path, journals: &[&str]) -> String {
    let means = WEIGHTS.map(|weight| {
        let files = journals.iter().map(|journal| gold.join(weight).join(journal));
        mean(&files.collect::<Vec<_>>())
    });
    let mut best = 0;
    for place in 1..means.len() {
        best = if means[place] > means[best] { place } else { best };
    }
    WEIGHTS[best].to_owned()
}

#[test]
fn a_pair_is_measured_before_it_steers_and_the_best_weights_are_marked() {
    let project = Project::new(RECIPE);
    let (_, log) = project.done("run", &[]);
    let place = |what: &str| log.find(what).unwrap_or_else(|| panic!("{what}\n{log}"));
    assert!(place("steer/gap: done") < place("steer/base/base/seed-1: starting"), "{log}");
    assert!(log.contains("steer: the gold gives models.tuned's own answers "), "{log}");
    assert!(!log.contains("which contains 0") && log.contains("12 validation prompts: a gap of +"));
    let summary = project.read("run/evaluate/summary.json");
    let gap = &summary["guide"]["gap"];
    assert_eq!(gap, &project.read("run/steer/gap/report.json"));
    assert_eq!(gap.as_array().unwrap().len(), 1);
    let journal = |guide: &str| {
        vec![project.out(&format!("run/steer/gap/models.{guide}/gold-validation-seed-1.jsonl"))]
    };
    let means = ["tuned", "untuned"].map(|guide| mean(&journal(guide)));
    let near = |key: &str, value: f64| (gap[0][key].as_f64().unwrap() - value).abs() < 1e-9;
    assert!(near("tuned_reward", means[0]) && near("untuned_reward", means[1]), "{gap}");
    assert!(near("difference", means[0] - means[1]) && means[0] > means[1], "{gap}");
    for (key, value) in [
        ("tuned", json!("models.tuned")),
        ("untuned", json!("models.untuned")),
        ("setting", Value::Null),
        ("prompts", json!(12)),
        ("split", json!("validation")),
        ("holds_zero", json!(false)),
    ] {
        assert_eq!(gap[0][key], value, "{key}");
    }

    // The marks, counted from the journals.
    let gold = project.out("run/evaluate/gold/base");
    let mut expected: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    expected.entry(best(&gold, &["seed-1.jsonl", "seed-2.jsonl"])).or_default().push("test");
    expected.entry(best(&gold, &["validation-seed-1.jsonl"])).or_default().push("validation");
    assert_eq!(chosen(&summary), expected);
    let of_choice = lines(&project.out("run/steer/base/eft-1/validation-seed-1.jsonl"));
    assert_eq!(of_choice.len(), 12);
    assert!(of_choice.iter().all(|line| line.get("trace").is_none()), "rows alone are traced");

    let plan = success(w2s().arg("check").arg(project.out("gap.toml")));
    for said in [
        "before they steer, guides alone answer 12 validation prompts: at most 120 tokens",
        "the weight of eft is chosen on 12 validation prompts: at most 216 tokens",
        "at most 696 sampled tokens in all",
    ] {
        assert!(plan.contains(said), "{said}\n{plan}");
    }
}

#[test]
fn a_finished_run_is_measured_without_steering_anew_and_warned_of() {
    let project = Project::new(RECIPE);
    let (_, log) = project.done("run", &["--set", "steer.validation_prompts=0"]);
    assert!(!log.contains("gap"), "{log}");
    let summary = project.read("run/evaluate/summary.json");
    assert!(summary["guide"].get("gap").is_none());
    assert!(chosen(&summary).values().all(|by| by == &["test"]), "{summary}");
    let journal = || fs::read(project.out("run/steer/base/eft-1/seed-1.jsonl")).unwrap();
    let before = journal();

    let (_, log) = project.done("run", &[]);
    let guides = ["tuned", "untuned"].map(|guide| format!("steer/gap/models.{guide}"));
    let alone = guides
        .iter()
        .flat_map(|guide| ["", "gold-"].map(|judge| format!("{guide}/{judge}validation-seed-1")));
    let choices = WEIGHTS.iter().flat_map(|weight| {
        ["steer", "evaluate/gold"].map(|of| format!("{of}/base/{weight}/validation-seed-1"))
    });
    let rest = ["steer/gap", "evaluate"].map(str::to_owned);
    let missing: BTreeSet<String> = alone.chain(choices).chain(rest).collect();
    assert_eq!(begun(&log), missing);
    assert!(journal() == before, "what was steered stands");

    // More prompts than there are do nothing again; fewer leave some out of what is told.
    assert!(begun(&project.done("run", &["--set", "steer.validation_prompts=99"]).1).is_empty());
    let (_, log) = project.done("run", &["--set", "steer.validation_prompts=7"]);
    assert_eq!(begun(&log), ["steer/gap", "evaluate"].map(str::to_owned).into());
    assert_eq!(project.read("run/steer/gap/report.json")[0]["prompts"], 7);

    // Guides that are one model.
    let same = ["--set", "models.untuned.id=tuned", "--set", "models.untuned.max_new_tokens=8"];
    let (table, log) = project.done("same", &same);
    let warning = "a gap of 0.000 (0.000 to 0.000 at 95 %), which contains 0: it is not shown \
                   that the guides prefer what the gold does, and such guides steer nowhere or \
                   astray";
    assert_eq!((log.matches(warning).count(), table.matches(warning).count()), (1, 1), "{log}");
    let place = |what: &str| log.find(what).unwrap_or_else(|| panic!("{what}\n{log}"));
    assert!(place(warning) < place("steer/base/base/seed-1: starting"), "{log}");
    assert_eq!(project.read("same/steer/gap/report.json")[0]["holds_zero"], true);
}

#[test]
fn killed_between_and_in_shards_it_is_the_same() {
    let project = Project::new(RECIPE);
    project.done("whole", &["--only", "steer"]);
    assert!(!project.out("whole/evaluate").exists());
    let report = project.read("whole/steer/gap/report.json");

    let journal = project.out("killed/steer/gap/models.tuned/validation-seed-1.jsonl");
    let mut started = project.run("killed", &["--only", "steer"]);
    kill_when(&mut started, "the guide alone", || !lines_so_far(&journal).is_empty());
    assert!(!project.out("killed/steer/gap/report.json").exists());
    project.done("killed", &["--only", "steer"]);
    assert_eq!(project.read("killed/steer/gap/report.json"), report);

    for shard in ["1/2", "2/2"] {
        let (_, log) = project.done("shards", &["--shard", shard]);
        assert!(!log.contains("the gold gives"), "a shard does not measure\n{log}");
    }
    let (_, log) = project.done("shards", &["--only", "gold", "--only", "evaluate"]);
    assert!(log.contains("steer/gap: starting") && log.contains("the gold gives"), "{log}");
    assert!(
        !begun(&log)
            .iter()
            .any(|task| task.ends_with("/validation-seed-1") && task.starts_with("steer")),
        "{log}"
    );
    assert_eq!(project.read("shards/steer/gap/report.json"), report);
    project.done("whole", &[]);
    let summaries =
        ["whole", "shards"].map(|run| project.read(&format!("{run}/evaluate/summary.json")));
    assert_eq!(chosen(&summaries[0]), chosen(&summaries[1]));
    assert!(!project.out("shards/state/shards").exists());
}

/// Whole lines of a journal that is being written.
fn lines_so_far(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(str::to_owned).collect()
}

#[test]
fn without_validation_texts_test_prompts_measure_and_choose_nothing() {
    let recipe = RECIPE.replace("train = 2\nvalidation = 12\n", "");
    let project =
        Project::new(&recipe.replace("source = \"texts\"", "source = \"texts/test.jsonl\""));
    let (table, log) = project.done("run", &[]);
    assert!(log.contains("on 5 test prompts: a gap of +"), "{log}");
    let gap = project.read("run/steer/gap/report.json");
    assert_eq!((&gap[0]["split"], &gap[0]["prompts"]), (&json!("test"), &json!(5)));
    let summary = project.read("run/evaluate/summary.json");
    assert_eq!(chosen(&summary).into_values().collect::<Vec<_>>(), [["test"]]);
    assert!(
        table.contains(
            "warning: base: no weight of eft is chosen on validation texts, for the recipe has \
             none (`data.validation`)"
        ),
        "{table}"
    );
}

#[test]
fn guides_without_room_for_answers_are_not_measured_and_steer_all_the_same() {
    let project = Project::new(RECIPE);
    // 32 tokens hold prompt and answer of the base alone.
    let (_, log) = project.done("run", &["--set", "models.tuned.max_new_tokens=31"]);
    assert!(log.contains("models.tuned over models.untuned is not measured, for both"), "{log}");
    let summary = project.read("run/evaluate/summary.json");
    assert_eq!(summary["guide"]["gap"], json!([]));
    assert!(chosen(&summary).values().flatten().any(|by| *by == "validation"), "{summary}");
}
