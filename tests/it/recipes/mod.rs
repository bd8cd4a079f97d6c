//! What recipes mean, and what a wrong one is told, by tables and themes. The recipe that the tests
//! change is their own, `fixture.toml`.

mod chats;
mod described;
mod direct;
mod full_size;
mod gold;
mod guide_sweeps;
mod lora;
mod mangled;
mod memory;
mod overrides;
mod plans;
mod ppo;
mod ppo_rules;
mod preferences;
mod reading;
mod rules;
mod shipped;
mod steering;
mod sweeps;
mod twins;

use std::path::{Path, PathBuf};

use w2s::error::{Error, Result};
use w2s::recipe::{Plan, Stage, StageMemory, load};

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes").join(name)
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/recipes/fixture.toml")
}

fn sets(overrides: &[&str]) -> Vec<String> {
    overrides.iter().map(|text| (*text).to_owned()).collect()
}

fn resolve(path: &Path, overrides: &[&str]) -> Result<Plan> {
    Plan::new(load(path, &sets(overrides))?, path)
}

/// The problems, with the folder of the recipe cut off.
fn problems_of(path: &Path, overrides: &[&str]) -> Vec<String> {
    match resolve(path, overrides) {
        Err(Error::Recipe(problems)) => {
            let folder = format!("{}/", path.parent().unwrap().display());
            problems.iter().map(|problem| problem.replace(&folder, "")).collect()
        }
        other => panic!("expected recipe problems, got {other:?}"),
    }
}

/// The problems of the fixture with overrides.
fn problems(overrides: &[&str]) -> Vec<String> {
    problems_of(&fixture(), overrides)
}

/// The plan of the fixture with overrides.
#[track_caller]
fn plan(overrides: &[&str]) -> Plan {
    resolve(&fixture(), overrides).unwrap_or_else(|error| panic!("{error}"))
}

/// The fixture with overrides has exactly one problem, which starts like this.
#[track_caller]
fn only(overrides: &[&str], starts: &str) {
    let problems = problems(overrides);
    assert_eq!(problems.len(), 1, "{overrides:?}: {problems:#?}");
    assert!(
        problems[0].strip_prefix("fixture.toml: ").is_some_and(|what| what.starts_with(starts)),
        "{overrides:?}: {problems:#?}"
    );
}

/// What the plan says of the memory of a stage.
fn memory_of(plan: &Plan, stage: Stage) -> StageMemory {
    let mut all = plan.memory().into_iter();
    all.find(|(of, _)| *of == stage).map(|(_, memory)| memory).unwrap()
}

/// A recipe in a folder of its own.
struct Written {
    folder: tempfile::TempDir,
}

impl Written {
    fn new(text: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x.toml"), text).unwrap();
        Self { folder }
    }

    /// The text of the fixture with each of `edits` made once.
    fn edited(edits: &[(&str, &str)]) -> Self {
        let mut text = std::fs::read_to_string(fixture()).unwrap();
        for (from, to) in edits {
            assert!(text.contains(from), "the fixture has no {from:?}");
            text = text.replacen(from, to, 1);
        }
        Self::new(text)
    }

    /// The fixture without these tables.
    fn without(tables: &[&str]) -> Self {
        let mut recipe: toml::Table = std::fs::read_to_string(fixture()).unwrap().parse().unwrap();
        for table in tables {
            assert!(recipe.remove(*table).is_some(), "the fixture has no `[{table}]`");
        }
        Self::new(recipe.to_string())
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("x.toml")
    }

    fn problems(&self, overrides: &[&str]) -> Vec<String> {
        problems_of(&self.path(), overrides)
    }

    #[track_caller]
    fn plan(&self, overrides: &[&str]) -> Plan {
        resolve(&self.path(), overrides).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// The line of the fixture that holds a text.
fn line_of(text: &str) -> usize {
    1 + std::fs::read_to_string(fixture())
        .unwrap()
        .lines()
        .position(|line| line.contains(text))
        .unwrap()
}

fn model_folder(folder: &Path, config: &str) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("config.json"), config).unwrap();
    std::fs::write(folder.join("tokenizer.json"), "{}").unwrap();
}

const TINY_GPT2: &str =
    r#"{"model_type":"gpt2","vocab_size":300,"n_positions":64,"n_embd":8,"n_layer":1,"n_head":2}"#;

const TINY_DISTILBERT: &str = r#"{"vocab_size":300,"max_position_embeddings":64,"dim":8,
    "n_layers":1,"n_heads":2,"hidden_dim":16}"#;
