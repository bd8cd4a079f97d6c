//! `--shard`: shares of the prompts answered apart and merged are the unsharded run, whatever is
//! killed, repeated or left over.

mod layouts;
mod not_applicable;
mod runs;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use w2s::models::weights::{read_tensors, write_tensors};

use crate::common::{assert_same, lines, success, tiny_model, w2s};

const PROMPTS: usize = 7;

/// What differs from run to run.
const TIMES: [&str; 2] = ["seconds", "guide_seconds"];

/// A recipe that steers one tiny model with two others and has a third judge it: nothing to train,
/// two methods, two seeds.
pub(crate) struct Tiny {
    pub(crate) folder: tempfile::TempDir,
}

impl Tiny {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["base", "tuned", "untuned"] {
            let weights = tiny_model(&folder.path().join(name)).join("model.safetensors");
            let mut tensors: Vec<_> = read_tensors(&weights).unwrap().into_iter().collect();
            let norm =
                tensors.iter_mut().find(|(name, _)| name == "transformer.ln_f.weight").unwrap();
            norm.1 = &norm.1 * if name == "untuned" { 0.5 } else { 1.0 };
            write_tensors(&weights, &tensors, &[]).unwrap();
        }
        let gold = folder.path().join("gold");
        fs::create_dir(&gold).unwrap();
        let reward = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gpt2-reward");
        let tokenizer = folder.path().join("base/model");
        for (from, file) in [
            (&reward, "config.json"),
            (&reward, "model.safetensors"),
            (&tokenizer, "tokenizer.json"),
            (&tokenizer, "tokenizer_config.json"),
        ] {
            fs::copy(from.join(file), gold.join(file)).unwrap();
        }
        let model = |name: &str| format!("[models.{name}]\nid = \"{name}/model\"\n");
        let text = format!(
            "[run]\nname = \"tiny\"\nseeds = [1, 2]\ndtype = \"float32\"\n\
             [data]\nsource = \"builtin:reviews\"\ntrain = 1\nvalidation = 1\ntest = 32\nprompt = \
             {{ min_words = 1, max_words = 2 }}\n\
             {}{}{}[gold]\nid = \"gold\"\n\
             [steer]\nbases = [\"base\"]\ntuned = \"tuned\"\nuntuned = \"untuned\"\nprompts = \
             {PROMPTS}\nmax_new_tokens = 8\nprompts_in_flight = 2\n\
             method = [{{ kind = \"base\" }}, {{ kind = \"best_of_n\", n = 4 }}]\n[evaluate]\n",
            model("base"),
            model("tuned"),
            model("untuned")
        );
        fs::write(folder.path().join("tiny.toml"), text).unwrap();
        Self { folder }
    }

    /// A run directory in which all is done that shards read.
    fn prepared(&self, out: &str) -> PathBuf {
        success(&mut self.run(out, &["--only", "gold"]));
        self.out(out)
    }

    pub(crate) fn out(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn run(&self, out: &str, arguments: &[&str]) -> Command {
        let mut command = w2s();
        command
            .arg("run")
            .arg(self.folder.path().join("tiny.toml"))
            .arg("--out")
            .arg(self.out(out))
            .args(arguments);
        command
    }
}

/// Every journal below `steer/`, by its path there.
fn journals(out: &Path) -> Vec<String> {
    let steer = out.join("steer");
    let mut found = BTreeSet::new();
    let mut folders = vec![steer.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(&steer).unwrap().display().to_string());
            }
        }
    }
    found.into_iter().collect()
}

/// The same answers to the same prompts in every journal, and no journal more.
fn assert_same_answers(whole: &Path, merged: &Path) {
    assert_eq!(journals(whole), journals(merged));
    for journal in journals(whole) {
        let sorted = |out: &Path| {
            let mut lines = lines(&out.join("steer").join(&journal));
            for line in &mut lines {
                let line = line.as_object_mut().unwrap();
                TIMES.iter().for_each(|time| drop(line.remove(*time)));
            }
            lines.sort_by_key(|line| line["id"].as_str().unwrap().to_owned());
            json!(lines)
        };
        assert_same(&sorted(whole), &sorted(merged), &journal);
    }
}

pub(crate) fn assert_same_summary(whole: &str, merged: &str) {
    let without_time = |text: &str| {
        let mut summary: Value = serde_json::from_str(text).unwrap();
        for row in summary["rows"].as_array_mut().unwrap() {
            let row = row.as_object_mut().unwrap();
            TIMES.iter().for_each(|time| drop(row.remove(*time)));
        }
        for row in summary.get_mut("ppo").and_then(Value::as_array_mut).into_iter().flatten() {
            row.as_object_mut().unwrap().remove("rollouts_per_second").unwrap();
        }
        summary
    };
    assert_same(&without_time(whole), &without_time(merged), "summary");
}
