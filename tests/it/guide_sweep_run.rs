//! `dpo.sweep` through the real program: several guides from one recipe, and what each steers.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{output, recipe, stderr, success, w2s};
use serde_json::Value;

/// The smoke recipe for few prompts, with little PPO, which is rewarded by named guides.
fn run(out: &Path, sweep: &str) -> Command {
    let mut command = w2s();
    command.arg("run").arg(recipe("smoke.toml")).arg("--out").arg(out);
    let stages = ["pretrain", "gold", "preferences", "sft", "dpo", "ppo", "steer", "evaluate"];
    command.args(stages.iter().flat_map(|stage| ["--only", stage]));
    let sets = [
        "pretrain.training.steps=30",
        "gold.training.steps=4",
        "ppo.training.steps=1",
        "ppo.chunk_len=5",
        "ppo.tuned=base",
        "ppo.untuned=guide",
        "steer.bases=['base']",
        "steer.prompts=3",
        "steer.method=[{kind='base'},{kind='best_of_n',n=2},{kind='tuned'}]",
        sweep,
    ];
    command.args(sets.iter().flat_map(|set| ["--set", set]));
    command
}

#[test]
fn each_setting_tunes_a_guide_that_steers_for_itself() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let table = success(&mut run(&out, "dpo.sweep={learning_rate=[1e-3,1e-2]}"));
    let weights = |setting: &str| fs::read(out.join(format!("dpo/{setting}/model.safetensors")));
    let [slow, fast] = ["learning_rate-0.001", "learning_rate-0.01"];
    assert_ne!(weights(slow).unwrap(), weights(fast).unwrap());
    assert!(!out.join("dpo/model.safetensors").exists());
    let rewards = table.split("\n\n").next().unwrap();
    for name in [slow, fast] {
        for row in [format!("| best_of_n-{name} "), format!("| tuned-{name} ")] {
            assert_eq!(rewards.matches(&row).count(), 1, "{row}\n{table}");
        }
    }
    let summary = fs::read(out.join("evaluate/summary.json")).unwrap();
    let summary: Value = serde_json::from_slice(&summary).unwrap();
    let trained = summary["guide"]["sweep"].as_object().unwrap();
    assert_eq!(trained.keys().collect::<Vec<_>>(), [slow, fast]);
    let rows = summary["rows"].as_array().unwrap();
    let guides = rows.iter().map(|row| row["settings"]["guide"].as_str());
    assert_eq!(guides.collect::<Vec<_>>(), [None, Some(slow), Some(fast), Some(slow), Some(fast)]);
    assert!(rows[0]["score"].is_null(), "no pair of several scores what none guides");

    // One setting more is one training more.
    let more = "dpo.sweep={learning_rate=[1e-3,1e-2,5e-3]}";
    let log = stderr(&output(&mut run(&out, more)));
    for done in [
        "dpo/learning_rate-0.001",
        "steer/base/base/seed-1",
        "steer/guide/tuned-learning_rate-0.01/seed-1",
    ] {
        assert!(log.contains(&format!("{done}: done already")), "{done}\n{log}");
    }
    assert!(log.contains("dpo/learning_rate-0.005: starting"), "{log}");
}
