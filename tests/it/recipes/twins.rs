//! The twins of the full-size recipes: each is built as its large one is, and runs to the end with
//! the rows that the large one promises.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use w2s::recipe::{MethodTable, Recipe, load};

use super::full_size::{CHAT, FULL_SIZE};
use super::{resolve, shipped};
use crate::common::{success, w2s};

fn large(name: &str) -> Recipe {
    load(&shipped(&format!("{name}.toml")), &[]).unwrap_or_else(|error| panic!("{error}"))
}

fn small(name: &str) -> Recipe {
    let path = shipped(&format!("small/{name}.toml"));
    resolve(&path, &[]).unwrap_or_else(|error| panic!("{error}")).recipe
}

/// The tables of a recipe's stages, but for the one that makes what a large recipe fetches.
fn stages(name: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(shipped(&format!("{name}.toml"))).unwrap();
    let tables: toml::Table = text.parse().unwrap();
    let others = ["run", "data", "models", "judges", "pretrain"];
    tables.keys().filter(|table| !others.contains(&table.as_str())).cloned().collect()
}

#[test]
fn a_twin_is_built_as_its_large_recipe() {
    for name in FULL_SIZE {
        let (large, small) = (large(name), small(name));
        assert_eq!(small.run.name, format!("small-{name}"));
        assert_eq!(large.run.name, name);
        assert_eq!(stages(&format!("small/{name}")), stages(name), "{name}");
        for model in large.models.keys() {
            assert!(small.models.contains_key(model), "{name}: no model {model}");
        }
        let (of_large, of_small) = (large.steer.unwrap(), small.steer.unwrap());
        assert_eq!(of_small.bases, of_large.bases, "{name}");
        assert_eq!(of_small.method, of_large.method, "{name}");
        assert_eq!(of_small.semantics, of_large.semantics, "{name}");
        if let (Some(large), Some(small)) = (large.ppo, small.ppo) {
            assert_eq!((small.policy, small.chunk_len), (large.policy, large.chunk_len), "{name}");
        }
    }
}

/// The rows that a recipe asks for: bases by methods, and the guides alone.
fn rows(recipe: &Recipe) -> BTreeSet<(String, String)> {
    let steer = recipe.steer.as_ref().unwrap();
    let (alone, steering): (Vec<&MethodTable>, Vec<_>) =
        steer.method.iter().partition(|method| ["tuned", "untuned"].contains(&method.kind()));
    let guide = |kind: &str| match kind {
        "tuned" => steer.tuned.clone(),
        _ => steer.untuned.clone(),
    };
    let tuned_here = || {
        let model = recipe.sft.as_ref().and_then(|sft| sft.model.clone());
        model.or_else(|| recipe.preferences.as_ref()?.policy.clone()).unwrap()
    };
    let of_base = |base: &String| {
        let methods = steering.iter().filter(|method| method.steers(base));
        let names = methods.flat_map(|method| method.names()).collect::<Vec<_>>();
        names.into_iter().map(|name| (base.clone(), name)).collect::<Vec<_>>()
    };
    let of_guides = alone
        .iter()
        .map(|method| (guide(method.kind()).unwrap_or_else(tuned_here), method.kind().to_owned()));
    steer.bases.iter().flat_map(of_base).chain(of_guides).collect()
}

/// Runs a twin to the end in `folder`; its summary.
fn run(name: &str, folder: &Path, sets: &[String]) -> Value {
    let mut command = w2s();
    command.arg("run").arg(shipped(&format!("small/{name}.toml"))).arg("--out").arg(folder);
    for set in sets {
        command.args(["--set", set]);
    }
    success(&mut command);
    let summary = std::fs::read(folder.join("evaluate/summary.json")).unwrap();
    serde_json::from_slice(&summary).unwrap()
}

fn rows_of(summary: &Value) -> BTreeSet<(String, String)> {
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let rows = summary["rows"].as_array().unwrap().iter();
    rows.map(|row| (text(row, "base"), text(row, "method"))).collect()
}

/// Runs the twin, and compares its rows with those that the large recipe asks for.
#[track_caller]
fn runs(name: &str, count: usize) -> (tempfile::TempDir, Value) {
    let folder = tempfile::tempdir().unwrap();
    let summary = run(name, folder.path(), &[]);
    let found = rows_of(&summary);
    assert_eq!(found, rows(&large(name)), "{name}");
    assert_eq!(found.len(), count, "{name}");
    (folder, summary)
}

#[test]
fn sentiment() {
    runs("sentiment", 2 * 9 + 2 * 3 + 2);
}

#[test]
fn released() {
    runs("released", 2 * 5 + 2 * 4 + 2);
}

#[test]
fn summarization() {
    runs("summarization", 2 * 9 + 2 * 3 + 2);
}

#[test]
fn ablation_wk() {
    runs("ablation-wk", 4 * 15);
}

#[test]
fn ablation_wk_summarization() {
    runs("ablation-wk-summarization", 4 * 15);
}

#[test]
fn ablation_l() {
    runs("ablation-l", 4 * 7 + 2);
}

#[test]
fn ablation_l_summarization() {
    runs("ablation-l-summarization", 4 * 7 + 2);
}

#[test]
fn eft_sweep() {
    runs("eft-sweep", 2 * 9 + 2);
}

#[test]
fn ppo_sentiment() {
    let (_folder, summary) = runs("ppo-sentiment", 2 * 6 + 2);
    assert_eq!(summary["ppo"].as_array().unwrap().len(), 2 * 4, "policies by chunk lengths");
}

#[test]
fn single_stage() {
    runs("single-stage", 2 * 8 + 2);
}

#[test]
fn instruction_zephyr() {
    runs("instruction-zephyr", 5 * 3 + 2 * 8 + 2);
}

#[test]
fn safety() {
    runs("safety", 2 * 3 + 2 + 2);
}

#[test]
fn truthfulness() {
    runs("truthfulness", 2 * 3 + 2);
}

/// The models that the twin made, with a chat template beside their tokenizers.
fn chat_models(run: &Path) -> Vec<String> {
    let models = std::fs::read_dir(run.join("models")).unwrap();
    let folders = models.map(|model| model.unwrap().path());
    folders
        .flat_map(|folder| {
            let path = folder.join("tokenizer_config.json");
            let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            config["chat_template"] = CHAT.into();
            std::fs::write(path, config.to_string()).unwrap();
            let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
            let chat = format!("models.{name}.chat={{}}");
            let prompt = format!("models.{name}.prompt={{prompt}}");
            [format!("models.{name}.id={}", folder.display()), chat, prompt]
        })
        .collect()
}

/// The twin as it is, and then its own models as chat models on prompts of several turns.
#[test]
fn instruction_tulu() {
    let (made, _) = runs("instruction-tulu", 5 * 3 + 2 * 8 + 2);
    let mut sets = chat_models(made.path());
    sets.push(format!("data.source={}", shipped("small/data/chats.jsonl").display()));
    let of_chats = ["data.columns.prompt=messages", "data.validation=2", "data.test=8"];
    sets.extend(of_chats.map(str::to_owned));
    let folder = tempfile::tempdir().unwrap();
    let summary = run("instruction-tulu", folder.path(), &sets);
    assert_eq!(rows_of(&summary), rows(&large("instruction-tulu")));
}
