//! What a run writes and reads, for every shipped recipe.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use w2s::artifacts::{Manifest, RunDir, atomic};
use w2s::recipe::{Plan, Stage, load};
use w2s::stages::{clear, tasks};

use super::{Project, names};
use crate::common::{output, stderr, success};

/// The recipes that need nothing from a hub; each stage is in one of them.
fn plans() -> Vec<Plan> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
    let recipes: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let recipes =
        recipes.iter().filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    recipes.filter_map(|path| Plan::new(load(path, &[]).unwrap(), path).ok()).collect()
}

#[test]
fn fresh_removes_what_a_run_of_every_shipped_recipe_writes_and_no_folder_stays() {
    let plans = plans();
    assert!(plans.len() >= 3, "{} recipes", plans.len());
    for stage in Stage::ALL {
        assert!(plans.iter().any(|plan| !tasks::tasks(plan, stage).unwrap().is_empty()), "{stage}");
    }
    for plan in plans {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        let dir = RunDir::open(&out).unwrap();
        let mut manifest = Manifest::load(&out).unwrap();
        for task in tasks::all(&plan).unwrap() {
            let outputs = task.outputs();
            assert!(!outputs.is_empty(), "{}", task.name());
            manifest.begin(&task.name(), "f", &outputs, &Value::Null).unwrap();
            for output in outputs {
                atomic::write(&out.join(output).join("deep/file"), b"").unwrap();
            }
        }
        for file in [
            "recipe.toml",
            "plan.json",
            "metrics.jsonl",
            "state/x.safetensors",
            "samples/sft.txt",
            "tensorboard/sft/events",
        ] {
            atomic::write(&out.join(file), b"").unwrap();
        }
        clear(&dir, Vec::new()).unwrap();
        assert_eq!(names(&out), [".lock"], "{}", plan.recipe.run.name);
    }
}

#[test]
fn a_stage_asks_only_for_what_it_reads() {
    let project = Project::new();
    // The guides are named, nothing is validated: neither the judge, nor the pairs, nor what is
    // tuned on them is opened.
    fs::create_dir(project.path("twin")).unwrap();
    for file in fs::read_dir(project.path("model")).unwrap().map(|file| file.unwrap().path()) {
        fs::copy(&file, project.path("twin").join(file.file_name().unwrap())).unwrap();
    }
    let named = [
        "models.twin.id=twin",
        "ppo.tuned=twin",
        "ppo.untuned=base",
        "ppo.policy=base",
        "steer.bases=['base']",
        "steer.method=[{kind='base'}]",
        "ppo.validation_prompts=0",
    ];
    success(project.run(&named).args(["--only", "ppo"]));
    let validated = stderr(&output(project.run(&named[..6]).args(["--only", "ppo"])));
    assert!(
        validated.contains(
            "stage `ppo` reads the results of `gold`, and `gold` has not been done with these \
             settings"
        ),
        "{validated}"
    );
    let pairs = stderr(&output(project.run(&named).args(["--only", "sft"])));
    assert!(pairs.contains("stage `sft` reads the results of `preferences`"), "{pairs}");
}
