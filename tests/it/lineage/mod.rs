//! What a finished run does again, and what it does not: keys that change no result, keys that do,
//! more and fewer prompts, and projects that are moved while they are killed again and again.

mod keys;
mod more;
mod moved;
mod outputs;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use w2s::stages::tasks;

use crate::common::{output, stderr, tiny_model, w2s};

/// Every stage, at a size at which all of them together take seconds.
const EVERY_STAGE: &str = r#"
[run]
name = "every"
dtype = "float32"
[data]
source = "texts"
train = 16
validation = 4
test = 8
prompt = { min_words = 1, max_words = 2 }
[models.base]
id = "model"
[models.small.scratch]
architecture = "gpt2"
n_layer = 1
n_head = 2
n_embd = 16
n_positions = 32
tokenizer = { kind = "bpe", vocab_size = 280 }
[pretrain.training]
steps = 3
batch_size = 4
checkpoint_every = 1
[gold.scratch]
n_layers = 1
n_heads = 2
dim = 16
hidden_dim = 32
max_position_embeddings = 32
vocab_size = 120
[gold.training]
steps = 3
batch_size = 4
checkpoint_every = 1
[preferences]
policy = "base"
prompts = 16
validation_prompts = 4
max_new_tokens = 6
[sft]
lora = { rank = 2, save = "adapter" }
[sft.training]
steps = 3
batch_size = 4
learning_rate = 1e-3
checkpoint_every = 1
eval_every = 2
[reward_model.training]
steps = 3
batch_size = 4
checkpoint_every = 1
[dpo]
lora = { rank = 2, save = "adapter" }
[dpo.training]
steps = 4
batch_size = 4
learning_rate = 1e-3
checkpoint_every = 1
eval_every = 2
[direct]
models = ["small"]
[ppo]
policy = "small"
prompts = 8
validation_prompts = 2
max_new_tokens = 4
[ppo.training]
steps = 2
batch_size = 4
checkpoint_every = 1
eval_every = 1
[steer]
bases = ["small"]
prompts = 5
max_new_tokens = 5
prompts_in_flight = 1
trace = true
method = [
    { kind = "base" },
    { kind = "best_of_n", n = 2 },
    { kind = "direct" },
    { kind = "ppo" },
    { kind = "tuned" },
]
[judges.kind]
id = "reward"
[evaluate]
"#;

/// In the place of `[gold.scratch]` and all behind it: a base with guides of another vocabulary and
/// a judge.
const GUIDED: &str = r#"
[gold]
id = "reward"
[models.other.scratch]
architecture = "gpt2"
n_layer = 1
n_head = 2
n_embd = 8
n_positions = 32
tokenizer = { kind = "same_as", model = "small" }
[steer]
bases = ["base"]
tuned = "small"
untuned = "other"
prompts = 5
max_new_tokens = 5
prompts_in_flight = 1
method = [{ kind = "base" }, { kind = "best_of_n", n = 2 }]
[evaluate]
"#;

/// A folder with a recipe, data, a model and what runs leave; all paths in the recipe are relative
/// to it.
struct Project {
    folder: tempfile::TempDir,
    name: String,
}

impl Project {
    fn new() -> Self {
        let project = Self { folder: tempfile::tempdir().unwrap(), name: "project".into() };
        let path = project.path("");
        tiny_model(&path);
        fs::create_dir(path.join("texts")).unwrap();
        fs::create_dir(path.join("reward")).unwrap();
        let reward = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gpt2-reward");
        for (from, file) in [
            (&reward, "config.json"),
            (&reward, "model.safetensors"),
            (&path.join("model"), "tokenizer.json"),
            (&path.join("model"), "tokenizer_config.json"),
        ] {
            fs::copy(from.join(file), path.join("reward").join(file)).unwrap();
        }
        for (split, rows) in [("train", 16), ("validation", 4), ("test", 12)] {
            let row = |i: usize| {
                json!({
                    "text": format!("{} day {i} was {} to see", split, ["good", "bad"][i % 2]),
                    "label": i % 2
                })
            };
            let rows: String = (0..rows).map(|i| format!("{}\n", row(i))).collect();
            fs::write(path.join(format!("texts/{split}.jsonl")), rows).unwrap();
        }
        fs::write(path.join("every.toml"), EVERY_STAGE).unwrap();
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(&self.name).join(name)
    }

    fn out(&self) -> PathBuf {
        self.path("checkpoints/every")
    }

    /// The project under another path; nothing in it changes.
    fn move_to(&mut self, name: &str) {
        let to = self.folder.path().join(name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::rename(self.path(""), &to).unwrap();
        name.clone_into(&mut self.name);
    }

    /// As its owner starts it, in the folder.
    fn run(&self, sets: &[&str]) -> Command {
        let mut command = w2s();
        command.current_dir(self.path("")).args([
            "run",
            "every.toml",
            "--out",
            "checkpoints/every",
        ]);
        command.args(sets.iter().flat_map(|set| ["--set", set]));
        command
    }

    /// Runs to the end and returns the tasks that were begun or continued.
    fn redone(&self, sets: &[&str]) -> BTreeSet<String> {
        let run = output(&mut self.run(sets));
        let log = stderr(&run);
        assert!(run.status.success(), "{sets:?}\n{log}");
        tasks(&log, &["starting", "continuing"])
    }

    fn summary(&self) -> Value {
        serde_json::from_slice(&fs::read(self.out().join("evaluate/summary.json")).unwrap())
            .unwrap()
    }
}

/// The tasks of which the log says one of these things.
fn tasks(log: &str, what: &[&str]) -> BTreeSet<String> {
    let said = log
        .lines()
        .filter_map(|line| line.rsplit_once(": ").filter(|(_, said)| what.contains(said)));
    said.map(|(before, _)| before.rsplit(' ').next().unwrap().to_owned()).collect()
}

fn set_of(tasks: &[&str]) -> BTreeSet<String> {
    tasks.iter().map(|task| (*task).to_owned()).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Steps of each training that the metrics hold.
fn steps(out: &Path) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(out.join("metrics.jsonl")).unwrap_or_default();
    let whole = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    whole
        .map(|line| (line["stage"].as_str().unwrap().to_owned(), line["step"].as_u64().unwrap()))
        .collect()
}
