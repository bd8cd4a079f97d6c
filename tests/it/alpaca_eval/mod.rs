//! `[evaluate.alpaca_eval]` and `w2s export`: whole runs with a program that does what the
//! `alpaca_eval` package does, killed, refused and continued; and with the package itself.

mod exports;
mod faults;
mod package;
mod runs;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::common::{tiny_model, w2s};

const RECIPE: &str = r#"
[run]
name = "pairs"
dtype = "float32"
threads = 1
[data]
source = "texts"
splits = { test = "test" }
columns = { prompt = "instruction" }
test = 0
[models.base]
id = "model"
[gold]
command = ["python3", "reward.py"]
[steer]
bases = ["base"]
prompts = 4
max_new_tokens = 6
method = [{ kind = "base" }, { kind = "base", name = "again" }]
[evaluate]
[evaluate.alpaca_eval]
reference = "reference.json"
annotators = "longer"
command = ["python3", "fake.py"]
length_control = false
"#;

const GOLD: &str = r#"
import json, sys
for line in sys.stdin:
    print(len(json.loads(line)["response"]))
"#;

/// What the package does, as far as we see it: keeps verdicts where it is told to, and leaves a
/// leaderboard and annotations. A file `mode` says what goes wrong.
const FAKE: &str = r#"
import csv, json, os, sys
args = dict(word[2:].split("=", 1) for word in sys.argv[1:])
mode = open("mode").read() if os.path.exists("mode") else ""
open("calls", "a").write(json.dumps({"args": args, "env": {k: os.environ.get(k) for k in
    ("OPENAI_API_KEY", "OPENAI_CLIENT_CONFIG_PATH", "OPENAI_MAX_CONCURRENCY")}}) + "\n")
if mode == "fails":
    sys.stderr.write('Traceback\n  File "judge.py"\nAuthError: wrong key ' + os.environ["OPENAI_API_KEY"] + "\n")
    sys.exit(1)
ours = json.load(open(args["model_outputs"]))
theirs = json.load(open(args["reference_outputs"]))
cache = args["caching_path"]
known = json.load(open(cache)) if os.path.exists(cache) else []
verdicts = {(row["instruction"], row["output_1"], row["output_2"]): row for row in known}
rows = []
for reference, row in zip(theirs, ours):
    key = (row["instruction"], reference["output"], row["output"])
    if key not in verdicts:
        open("asked", "a").write(row["instruction"] + "\n")
        preference = 2 if len(row["output"]) > len(reference["output"]) else 1
        missing = mode == "silent" and row["instruction"] == ours[1]["instruction"]
        verdicts[key] = {"instruction": key[0], "output_1": key[1], "output_2": key[2],
                         "preference": -1 if missing else preference}
        json.dump(list(verdicts.values()), open(cache, "w"))
    rows.append(verdicts[key])
if mode == "no hub" and args["fn_metric"] == "get_length_controlled_winrate":
    sys.stderr.write("EntryNotFound: no table\n")
    sys.exit(1)
preferences = [row["preference"] - 1 for row in rows if row["preference"] > 0]
folder = os.path.join(args["output_path"], args["annotators_config"])
os.makedirs(folder, exist_ok=True)
json.dump(rows, open(os.path.join(folder, "annotations.json"), "w"))
columns = {"win_rate": 100 * sum(preferences) / len(preferences), "standard_error": 1.5,
           "n_total": len(preferences), "discrete_win_rate": 12.5}
if args["fn_metric"] == "get_length_controlled_winrate":
    columns |= {"length_controlled_winrate": 33.25, "lc_standard_error": 0.5}
with open(os.path.join(folder, "leaderboard.csv"), "w") as file:
    table = csv.writer(file)
    table.writerow(["", *columns])
    table.writerow([ours[0]["generator"], *columns.values()])
"#;

/// A recipe with its data, a model, a gold, and something in place of the package.
pub struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    /// With so many instructions; the reference's answer to the first is short, and those to the
    /// others are long.
    fn new(prompts: usize) -> Self {
        let project = Self { folder: tempfile::tempdir().unwrap() };
        tiny_model(&project.path(""));
        fs::create_dir(project.path("texts")).unwrap();
        let instruction = |i: usize| format!("What is {i} & more?");
        let rows: Vec<Value> =
            (0..prompts).map(|i| json!({ "instruction": instruction(i) })).collect();
        project.write("texts/test.json", &json!(rows).to_string());
        let reference = |i: usize| {
            let output = if i == 0 { "" } else { "a long answer, longer than six tokens are." };
            json!({ "dataset": "made", "instruction": instruction(i), "output": output,
                    "generator": "reference" })
        };
        let reference: Vec<Value> = (0..prompts).map(reference).collect();
        project.write("reference.json", &json!(reference).to_string());
        for (file, text) in [("reward.py", GOLD), ("fake.py", FAKE), ("recipe.toml", RECIPE)] {
            project.write(file, text);
        }
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn json(&self, name: &str) -> Value {
        let text = self.text(name);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}: {text}"))
    }

    /// What the fake wrote to a file of its own.
    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn run(&self, sets: &[&str]) -> Command {
        let mut command = w2s();
        command.current_dir("/").arg("run").arg(self.path("recipe.toml"));
        command.arg("--out").arg(self.path("out"));
        command.args(sets.iter().flat_map(|set| ["--set", set]));
        command
    }

    fn export(&self, words: &[&str]) -> Command {
        let mut command = w2s();
        command.arg("export").arg(self.path("out")).arg("--to").arg(self.path("exported"));
        command.args(words);
        command
    }

    /// Row by row: the method, and what the package said.
    fn rates(&self) -> Vec<(String, Value)> {
        let summary = self.json("out/evaluate/summary.json");
        let rows = summary["rows"].as_array().unwrap().iter();
        rows.map(|row| (row["method"].as_str().unwrap().to_owned(), row["alpaca_eval"].clone()))
            .collect()
    }
}
