//! A run killed in pretraining, in a reward model, in DPO, in direct tuning and while steering ends
//! with the same weights and texts as one that nobody touched.

use std::path::Path;

use crate::common::{assert_same, kill_when, lines, output, recipe, stderr, success, w2s};
use serde_json::json;

/// The smoke recipe with few enough steps that the test is short, and checkpoints between which
/// there are steps to lose.
fn run(out: &Path) -> std::process::Command {
    let mut command = w2s();
    command.arg("run").arg(recipe("smoke.toml")).arg("--out").arg(out);
    for set in [
        "pretrain.training.steps=28",
        "gold.training.steps=4",
        "ppo.training.steps=1",
        "pretrain.training.checkpoint_every=7",
        "reward_model.training.batch_size=4",
        "reward_model.training.checkpoint_every=3",
        "dpo.training.checkpoint_every=3",
        "dpo.training.epochs=2",
        "steer.prompts=6",
        "steer.prompts_in_flight=2",
    ] {
        command.args(["--set", set]);
    }
    command
}

/// How many lines of the stage's metrics are on disk.
fn steps(out: &Path, stage: &str) -> usize {
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap_or_default();
    text.lines().filter(|line| line.contains(&format!("\"stage\":\"{stage}\""))).count()
}

#[test]
fn killed_runs_end_like_uninterrupted_ones() {
    let scratch = tempfile::tempdir().unwrap();
    let (whole, killed) = (scratch.path().join("whole"), scratch.path().join("killed"));
    let table = success(&mut run(&whole));
    assert!(table.contains("best_of_n") && table.contains("cbs"), "{table}");

    kill_when(&mut run(&killed), "pretrain", || steps(&killed, "pretrain/base") >= 17);
    assert!(
        killed.join("state/pretrain-base.safetensors").exists()
            && !killed.join("models/base/model.safetensors").exists()
    );
    kill_when(&mut run(&killed), "reward_model", || steps(&killed, "reward_model") >= 5);
    assert!(
        killed.join("state/reward_model.safetensors").exists()
            && !killed.join("reward_model/model.safetensors").exists()
    );
    kill_when(&mut run(&killed), "dpo", || steps(&killed, "dpo") >= 5);
    assert!(
        killed.join("state/dpo.safetensors").exists()
            && !killed.join("dpo/model.safetensors").exists()
    );
    kill_when(&mut run(&killed), "direct", || steps(&killed, "direct/other/dpo") >= 5);
    assert!(
        killed.join("state/direct-other-dpo.safetensors").exists()
            && killed.join("direct/other/sft/model.safetensors").exists()
    );
    assert!(!killed.join("direct/other/dpo/model.safetensors").exists());
    let journal = killed.join("steer/base/cbs/seed-1.jsonl");
    let complete = |path: &Path| {
        std::fs::read(path).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count()
    };
    kill_when(&mut run(&killed), "steer", || complete(&journal) >= 1);
    assert!(complete(&journal) < 6);
    success(&mut run(&killed));

    for file in [
        "models/guide/model.safetensors",
        "models/base/model.safetensors",
        "models/other/model.safetensors",
        "models/other/tokenizer.json",
        "gold/model.safetensors",
        "gold/tokenizer.json",
        "sft/model.safetensors",
        "reward_model/model.safetensors",
        "reward_model/training.json",
        "dpo/model.safetensors",
        "direct/base/dpo/model.safetensors",
        "direct/other/sft/model.safetensors",
        "direct/other/dpo/model.safetensors",
        "direct/other/dpo/training.json",
        "preferences/train.jsonl",
        "preferences/validation.jsonl",
    ] {
        let (a, b) =
            (std::fs::read(whole.join(file)).unwrap(), std::fs::read(killed.join(file)).unwrap());
        assert!(a == b, "{file} differs");
    }
    let mut journals = 0;
    for base in std::fs::read_dir(whole.join("steer")).unwrap() {
        let base = base.unwrap();
        // What guides answer alone has other prompts, and a report.
        if base.file_name() == "gap" {
            continue;
        }
        for method in std::fs::read_dir(base.path()).unwrap() {
            for journal in std::fs::read_dir(method.unwrap().path()).unwrap() {
                let path = journal.unwrap().path();
                let other = killed.join(path.strip_prefix(&whole).unwrap());
                // Lines come as responses are found; which prompts shared a batch decides the last
                // bits of their numbers.
                let without_time = |path: &Path| {
                    let mut lines = lines(path);
                    for line in &mut lines {
                        let line = line.as_object_mut().unwrap();
                        line.remove("seconds").unwrap();
                        line.remove("guide_seconds");
                    }
                    lines.sort_by_key(|line| line["id"].as_str().unwrap().to_owned());
                    lines
                };
                assert_same(
                    &json!(without_time(&path)),
                    &json!(without_time(&other)),
                    &path.display().to_string(),
                );
                assert_eq!(lines(&path).len(), 6);
                journals += 1;
            }
        }
    }
    assert!(journals >= 10, "{journals} journals");
    // Each step of each stage stands in the metrics once, though some were computed twice.
    for stage in ["pretrain/base", "reward_model", "dpo", "direct/other/dpo"] {
        let steps: Vec<u64> = (lines(&killed.join("metrics.jsonl")).iter())
            .filter(|line| line["stage"] == stage && line.get("grad_norm").is_some())
            .map(|line| line["step"].as_u64().unwrap())
            .collect();
        assert_eq!(steps, (1..=steps.len() as u64).collect::<Vec<_>>(), "{stage}");
    }
    // Nothing is left to do, and nothing is done again.
    let again = output(&mut run(&whole));
    let log = stderr(&again);
    assert!(
        again.status.success() && log.contains("done already") && !log.contains("starting"),
        "{log}"
    );
    // A changed setting redoes what depends on it and nothing else.
    let changed = output(run(&whole).args(["--set", "steer.max_new_tokens=5"]));
    let log = stderr(&changed);
    assert!(
        log.contains("dpo: done already") && log.contains("steer/base/cbs/seed-1: starting"),
        "{log}"
    );
}
