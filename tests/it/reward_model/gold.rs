//! A reward model that a run trains as its gold, through the real program.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use w2s::report::PairAccuracy;
use w2s::text::{Pair, read_pairs};

use super::{read_json, rewards};
use crate::common::{failure, kill_when, lines, output, stderr, success, w2s};

const RECIPE: &str = r#"
[run]
name = "gold"
dtype = "float32"
[data]
source = "texts.jsonl"
columns = { prompt = "prompt" }
train = 40
validation = 10
test = 60
[models.m.scratch]
architecture = "gpt2"
n_layer = 2
n_head = 2
n_embd = 32
n_positions = 64
tokenizer = { kind = "bpe", vocab_size = 300 }
[pretrain.training]
steps = 4
[gold.reward_model]
model = "m"
source = "pairs.jsonl"
validation_pairs = 100
head_learning_rate = 1e-2
[gold.training]
learning_rate = 1e-3
checkpoint_every = 3
[preferences]
policy = "m"
prompts = 8
validation_prompts = 2
max_new_tokens = 8
[steer]
bases = ["m"]
prompts = 20
max_new_tokens = 8
method = [{ kind = "base" }]
[evaluate]
"#;

struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    /// Texts and pairs, whose prompts are the first 60 of the 110 that the texts have. The good
    /// answer is chosen, of two that are as likely to be the longer one.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, rows: Vec<Value>| {
            let rows: Vec<String> = rows.iter().map(Value::to_string).collect();
            fs::write(folder.path().join(name), rows.join("\n")).unwrap();
        };
        let prompt = |number: usize| format!("Film {number} was");
        let text = |number| {
            let prompt = prompt(number);
            json!({ "prompt": prompt, "text": format!("{prompt} seen by all of us") })
        };
        write("texts.jsonl", (0..110).map(text).collect());
        let pair = |number: usize| {
            let words = |word: &str, count: usize| format!(" {word}").repeat(1 + count % 5);
            json!({
                "prompt": prompt(number % 60),
                "chosen": words(["great", "lovely"][number % 2], number * 7 + number / 3),
                "rejected": words(["awful", "dull"][number % 2], number * 3 + number / 7),
            })
        };
        write("pairs.jsonl", (0..600).map(pair).collect());
        fs::write(folder.path().join("x.toml"), RECIPE).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, out: &str, arguments: &[&str]) -> Command {
        let mut command = w2s();
        command.arg("run").arg(self.path("x.toml")).arg("--out").arg(self.path(out));
        command.args(arguments);
        command
    }

    fn log(&self, out: &str, arguments: &[&str]) -> String {
        let run = output(&mut self.run(out, arguments));
        let log = stderr(&run);
        assert!(run.status.success(), "{log}");
        log
    }

    /// Tasks that a run again begins.
    fn redone(&self, arguments: &[&str]) -> BTreeSet<String> {
        let log = self.log("run", arguments);
        let starting = log.lines().filter_map(|line| line.strip_suffix(": starting"));
        starting.map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect()
    }
}

/// The pairs of a file that this program wrote are what the judge in `gold` says they are.
fn assert_judged_by(gold: &Path, file: &Path) -> Vec<Pair> {
    let pairs = read_pairs(file).unwrap();
    let [chosen, rejected] = rewards(gold, &pairs);
    assert!(!pairs.is_empty());
    for (pair, (chosen, rejected)) in pairs.iter().zip(chosen.iter().zip(&rejected)) {
        let near =
            |said: Option<f64>, ours: &f64| said.is_some_and(|said| (said - ours).abs() < 1e-4);
        assert!(near(pair.reward_chosen, chosen) && near(pair.reward_rejected, rejected));
    }
    pairs
}

#[test]
fn a_gold_learns_from_its_own_pairs_and_judges() {
    let project = Project::new();
    let log = project.log("run", &[]);
    let out = project.path("run");
    let report: PairAccuracy =
        serde_json::from_value(read_json(&out.join("gold/report.json"))).unwrap();
    assert!((100..=110).contains(&report.pairs) && report.accuracy > 0.9, "{report:?}\n{log}");
    assert!(report.beats_chance() && report.beats_length(), "{report:?}");
    assert!(log.contains(&format!("INFO gold: {}", report.words())), "{log}");
    let summary = read_json(&out.join("evaluate/summary.json"));
    assert_eq!(summary["gold"]["accuracy"], report.accuracy);
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("The gold reward model: accuracy "), "{page}");

    // It labels, judges, and is what another recipe's gold may be.
    assert_judged_by(&out.join("gold"), &out.join("preferences/train.jsonl"));
    assert_eq!(lines(&out.join("evaluate/gold/m/base/seed-1.jsonl")).len(), 20);
    let first = lines(&out.join("metrics.jsonl")).into_iter().find(|line| line["stage"] == "gold");
    let loss = first.unwrap()["loss"].as_f64().unwrap();
    assert!((loss - 2f64.ln()).abs() < 1e-6, "a head of zeros: {loss}");
    let named = format!("gold={{id='{}'}}", out.join("gold").display());
    project.log(
        "judged",
        &["--only", "pretrain", "--only", "gold", "--only", "preferences", "--set", &named],
    );
    assert_judged_by(&out.join("gold"), &project.path("judged/preferences/train.jsonl"));

    // A layout that the recipe gives is learned, too.
    let text = "gold.text=\"Q: {prompt} A: {response}\"";
    let redone = project.redone(&["--only", "gold", "--set", text]);
    assert_eq!(redone, BTreeSet::from(["gold", "gold/accuracy"].map(str::to_owned)));
    let laid_out = read_json(&out.join("gold/report.json"));
    assert!(laid_out["accuracy"].as_f64().unwrap() > 0.9, "{laid_out}");
}

#[test]
fn a_gold_that_is_killed_ends_as_one_that_is_not_and_is_made_anew_for_what_it_reads() {
    let project = Project::new();
    let steps = |out: &str| {
        let all = fs::read_to_string(project.path(out).join("metrics.jsonl")).unwrap_or_default();
        all.matches("\"stage\":\"gold\"").count()
    };
    let error = failure(&mut project.run("run", &["--only", "gold"]), 1);
    assert!(error.contains("stage `gold` reads the results of `pretrain`"), "{error}");
    success(&mut project.run("run", &[]));
    kill_when(&mut project.run("killed", &[]), "gold", || steps("killed") >= 5);
    assert!(project.path("killed/state/gold.safetensors").exists());
    let log = project.log("killed", &[]);
    assert!(log.contains("gold: continuing"), "{log}");
    for file in ["gold/model.safetensors", "gold/report.json", "preferences/train.jsonl"] {
        let of = |out: &str| fs::read(project.path(out).join(file)).unwrap();
        assert!(of("run") == of("killed"), "{file}");
    }

    assert_eq!(project.redone(&[]), BTreeSet::new());
    let of_gold =
        ["gold", "gold/accuracy", "preferences", "evaluate/gold/m/base/seed-1", "evaluate"];
    let with = |more: &[&str]| -> BTreeSet<String> {
        of_gold.iter().chain(more).map(|task| (*task).to_owned()).collect()
    };
    assert_eq!(project.redone(&["--set", "gold.reward_model.head_learning_rate=2e-2"]), with(&[]));
    project.redone(&[]);
    let prompt = ["--set", "models.m.prompt='> {prompt}'"];
    let redone = project.redone(&prompt);
    assert!(!redone.contains("gold") && redone.contains("preferences"), "{redone:?}");
    // The pairs decide which test prompts there are.
    project.redone(&[]);
    let pairs = fs::read_to_string(project.path("pairs.jsonl")).unwrap();
    fs::write(project.path("pairs.jsonl"), pairs.replace("Film 1 ", "Film 101 ")).unwrap();
    assert_eq!(project.redone(&[]), with(&["steer/m/base/seed-1"]));
}

#[test]
fn prompts_of_pairs_are_no_test_prompts() {
    let project = Project::new();
    let log = project.log("run", &[]);
    assert!(
        log.contains(
            " test prompts are passed over, for the pairs of `gold.reward_model` have them too"
        ),
        "{log}"
    );
    let known: BTreeSet<String> = (0..60).map(|number| format!("Film {number} was")).collect();
    let answers = lines(&project.path("run/steer/m/base/seed-1.jsonl"));
    assert_eq!(answers.len(), 20);
    for line in &answers {
        assert!(!known.contains(line["prompt"].as_str().unwrap()), "{line}");
    }

    // Too few are left: before any stage, and in the check.
    let many = ["--set", "steer.prompts=50"];
    let error = failure(&mut project.run("none", &many), 1);
    let said = "are left that nobody learns from, and `steer.prompts` asks for 50: ";
    assert!(
        error.contains(said) && error.contains("are prompts of the pairs of `gold.reward_model`"),
        "{error}"
    );
    assert!(!project.path("none/models").exists(), "before any stage");
    let error = failure(w2s().arg("check").arg(project.path("x.toml")).args(many), 2);
    assert!(error.contains(said), "{error}");
}
