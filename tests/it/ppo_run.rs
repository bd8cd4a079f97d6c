//! The PPO stage through the real program: resumed bit-equal, rewarded across vocabularies, with
//! adapters and a value model, and stopped by rewards that are not finite.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::OnceLock;

use crate::common::{failure, kill_when, lines, output, recipe, stderr, success, w2s};
use serde_json::Value;
use tch::{Device, Kind, Tensor};
use w2s::models::open_with_tokenizer;
use w2s::models::weights::{read_tensors, write_tensors};
use w2s::score::{GuidePair, PairScorer};
use w2s::search::{Finish, Response};
use w2s::text::PromptTemplate;

/// The smoke recipe's stages up to PPO.
fn run(out: &Path, stages: &[&str], sets: &[&str]) -> Command {
    let mut command = w2s();
    command.arg("run").arg(recipe("smoke.toml")).arg("--out").arg(out);
    command.args(stages.iter().flat_map(|stage| ["--only", stage]));
    let settled = [
        "pretrain.training.steps=40",
        "gold.training.steps=4",
        "ppo.training.steps=6",
        "steer.method=[{kind='base'}]",
    ];
    command.args(settled.iter().chain(sets).flat_map(|set| ["--set", set]));
    command
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => assert!(fs::copy(entry.path(), target).is_ok()),
        }
    }
}

/// A copy of a run directory in which all before PPO is done.
fn prepared() -> (tempfile::TempDir, PathBuf) {
    static DONE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let done = DONE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        success(&mut run(
            &folder.path().join("run"),
            &["pretrain", "gold", "preferences", "sft", "dpo"],
            &[],
        ));
        folder
    });
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    copy(&done.path().join("run"), &out);
    (folder, out)
}

fn without_seconds(path: &Path) -> Vec<Value> {
    let mut all = lines(path);
    all.iter_mut().for_each(|line| {
        drop(
            line.as_object_mut()
                .unwrap()
                .remove("seconds")
                .expect("every step says where its time went"),
        )
    });
    all
}

#[test]
fn a_killed_training_ends_like_an_unbroken_one() {
    let (_folder, whole) = prepared();
    // What adapts is part of what must be resumed.
    let sets = ["ppo.kl={coef=0.2, target=0.1, horizon=50}", "ppo.target_kl=0.01"];
    success(&mut run(&whole, &["ppo"], &sets));
    let (_folder, killed) = prepared();
    let task = "ppo/base/L-inf/seed-1";
    kill_when(&mut run(&killed, &["ppo"], &sets), "PPO", || {
        lines_so_far(&killed.join(task).join("steps.jsonl")) >= 3
    });
    assert!(
        killed.join("state/ppo-base-L-inf-seed-1.safetensors").exists()
            && !killed.join(task).join("model.safetensors").exists()
    );
    let log = stderr(&output(&mut run(&killed, &["ppo"], &sets)));
    assert!(
        log.contains("ppo/base/L-5/seed-1: done already")
            && log.contains(&format!("{task}: continues after step ")),
        "{log}"
    );
    assert!(log.contains("% of the time in rollouts"), "{log}");
    for cell in ["L-5", "L-inf"] {
        let [whole, killed] =
            [&whole, &killed].map(|run| run.join("ppo/base").join(cell).join("seed-1"));
        for file in ["model.safetensors", "rollouts.jsonl", "validation.jsonl", "tokenizer.json"] {
            assert!(
                fs::read(whole.join(file)).unwrap() == fs::read(killed.join(file)).unwrap(),
                "{cell}/{file} differs"
            );
        }
        let steps = without_seconds(&whole.join("steps.jsonl"));
        assert_eq!(steps, without_seconds(&killed.join("steps.jsonl")));
        assert_eq!(
            steps.iter().map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>(),
            [1, 2, 3, 4, 5, 6]
        );
        assert_eq!(
            lines(&whole.join("validation.jsonl")).len(),
            4,
            "before the first step and after each second one"
        );
    }
    let metrics = |run: &Path| -> Vec<f64> {
        let lines = lines(&run.join("metrics.jsonl"));
        lines
            .iter()
            .filter(|line| line["stage"] == task)
            .filter_map(|line| line["objective/kl_coef"].as_f64())
            .collect()
    };
    let coefficients = metrics(&whole);
    assert!(
        coefficients.len() == 6 && coefficients[0] == 0.2 && coefficients[5] != 0.2,
        "{coefficients:?}"
    );
    assert_eq!(coefficients, metrics(&killed));
}

fn lines_so_far(path: &Path) -> usize {
    fs::read(path).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count()
}

#[test]
fn what_comes_out_is_a_base_and_each_training_stands_for_itself() {
    let (_folder, out) = prepared();
    success(&mut run(&out, &["ppo"], &[]));
    let cell = |name: &str| out.join("ppo/base").join(name).join("seed-1");
    // The first rollouts come from the same policy by the same streams, whenever they are paid.
    let first = |name: &str| -> Vec<Value> {
        lines(&cell(name).join("rollouts.jsonl"))
            .into_iter()
            .filter(|line| line["step"] == 1)
            .collect()
    };
    assert_eq!(first("L-5").len(), 16);
    assert_eq!(first("L-5"), first("L-inf"));
    assert_ne!(
        fs::read(cell("L-5").join("model.safetensors")).unwrap(),
        fs::read(cell("L-inf").join("model.safetensors")).unwrap()
    );
    let ratios: Vec<f64> = (lines(&out.join("metrics.jsonl")).iter())
        .filter_map(|line| line["val/first_ratio_error"].as_f64())
        .collect();
    assert!(ratios.len() == 12 && ratios.iter().all(|error| *error == 0.0), "{ratios:?}");
    let svg = fs::read_to_string(out.join("ppo/base/curves.svg")).unwrap();
    assert!(svg.contains("L = 5") && svg.contains("L = inf") && svg.contains("gold reward"));
    let report: Value =
        serde_json::from_slice(&fs::read(out.join("ppo/base/report.json")).unwrap()).unwrap();
    assert!(
        report["rows"][1]["chunk_len"] == "inf"
            && report["rows"][0]["last_gold_reward"][0].is_f64(),
        "{report}"
    );
    assert!(fs::read_dir(out.join("tensorboard/ppo/base/L-5/seed-1")).unwrap().next().is_some());

    // As a base of `w2s steer`, and sampled by the method `ppo`.
    let answer = success(
        w2s()
            .args(["steer", "--method", "base", "--max-new-tokens", "8", "--base"])
            .arg(cell("L-5"))
            .arg("A film"),
    );
    assert!(!answer.trim().is_empty());
    let method = "steer.method=[{kind='base'}, {kind='ppo', chunk_len=[5, 'inf']}]";
    let table = success(&mut run(&out, &["steer", "evaluate"], &[method]));
    assert!(
        table.contains("ppo-5")
            && table.contains("ppo-inf")
            && table.contains("| base | ppo-5   | base |"),
        "{table}"
    );
    assert!(!out.join("steer/other/ppo-5").exists(), "only what `[ppo]` trained");
    assert!(fs::read_to_string(out.join("report.html")).unwrap().contains("<svg"));
    let summary: Value =
        serde_json::from_slice(&fs::read(out.join("evaluate/summary.json")).unwrap()).unwrap();
    assert_eq!(summary["ppo"], report["rows"]);

    // Another chunk length beside it changes no training; another setting changes all, and what
    // samples them is no longer valid.
    let log = stderr(&output(&mut run(&out, &["ppo"], &["ppo.chunk_len=5"])));
    assert!(log.contains("ppo/base/L-5/seed-1: done already"), "{log}");
    let error = failure(&mut run(&out, &["steer"], &[method, "ppo.scale=2"]), 1);
    assert!(
        error.contains(
            "reads the results of `ppo`, and `ppo/base/L-5/seed-1` has not been done with these \
             settings"
        ),
        "{error}"
    );
    success(&mut run(&out, &["steer"], &["ppo.scale=2"]));
}

#[test]
fn across_vocabularies_a_rollout_earns_the_guides_score_of_its_text() {
    let (_folder, out) = prepared();
    success(&mut run(
        &out,
        &["ppo"],
        &[
            "ppo.policy=other",
            "ppo.chunk_len=1",
            "ppo.training.steps=3",
            "ppo.missing_eos_penalty=0.25",
            "ppo.scale=0.5",
        ],
    ));
    let open = |folder: &str| {
        let (lm, tokenizer) =
            open_with_tokenizer(&out.join(folder), Device::Cpu, Kind::Float).unwrap();
        (Rc::new(lm), Rc::new(tokenizer))
    };
    let ((tuned, tokenizer), (untuned, _)) = (open("dpo"), open("sft"));
    let guide = GuidePair {
        tuned,
        untuned,
        tokenizer,
        template: PromptTemplate::new("{prompt}", Some(true)),
    };
    let (_, policy) = open("models/other");
    assert_ne!(policy.vocabulary(), guide.tokenizer.vocabulary());
    let pair = PairScorer::new(Rc::new(guide), false).unwrap();
    let rollouts = lines(&out.join("ppo/other/L-1/seed-1/rollouts.jsonl"));
    let (mut ended, mut cut) = (0, 0);
    for line in &rollouts {
        let ends = line["finish"] == "eos";
        let response = Response {
            text: line["response"].as_str().unwrap().into(),
            ids: Vec::new(),
            finish: ends.then_some(Finish::Eos),
        };
        let full: f32 = pair
            .token_rewards_in_full(&(line["prompt"].as_str().unwrap()).into(), &response, ends)
            .unwrap()
            .iter()
            .sum();
        let paid = 0.5 * f64::from(full) - if ends { 0.0 } else { 0.25 };
        for (key, expected) in [("score", paid), ("guide_score", f64::from(full))] {
            let found = line[key].as_f64().unwrap();
            assert!((found - expected).abs() < 1e-4, "{key} {found}, {expected}: {line}");
        }
        *(if ends { &mut ended } else { &mut cut }) += 1;
    }
    assert!(rollouts.len() == 48 && ended > 0 && cut > 0, "{ended} {cut}");
}

#[test]
fn policies_beside_each_other_are_trainings_of_their_own() {
    let (_folder, out) = prepared();
    let short = ["ppo.training.steps=2", "ppo.chunk_len=5", "ppo.policy=['base','other']"];
    let methods = "steer.method=[{kind='ppo'}, {kind='tuned'}]";
    let table = success(&mut run(
        &out,
        &["ppo", "steer", "evaluate"],
        &[&short[..], &[methods, "steer.bases=['base','other']"]].concat(),
    ));
    let said = |base: &str| {
        table.lines().any(|line| line.starts_with(&format!("| {base}")) && line.contains("| ppo "))
    };
    assert!(said("base") && said("other"), "{table}");
    for policy in ["base", "other"] {
        let report = fs::read(out.join(format!("ppo/{policy}/report.json"))).unwrap();
        let report: Value = serde_json::from_slice(&report).unwrap();
        assert_eq!(
            (&report["policy"], report["rows"].as_array().unwrap().len()),
            (&policy.into(), 1)
        );
        assert_eq!(report["rows"][0]["policy"], policy);
    }
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("<h2>PPO of base</h2>") && page.contains("<h2>PPO of other</h2>"));
    assert_eq!(page.matches("the tuned guide").count(), 2, "a line in each figure");
    // One of them alone is as it was.
    let alone = [&short[..2], &["ppo.policy=other"]].concat();
    let log = stderr(&output(&mut run(&out, &["ppo"], &alone)));
    assert!(log.contains("ppo/other/L-5/seed-1: done already"), "{log}");
}

#[test]
fn adapters_and_a_value_model_learn_too() {
    let (_folder, out) = prepared();
    let base = fs::read(out.join("models/base/model.safetensors")).unwrap();
    let sets = [
        "ppo.chunk_len=5",
        "ppo.lora={rank=4}",
        "ppo.value=model",
        "ppo.training.activation_checkpointing=true",
    ];
    success(&mut run(&out, &["ppo"], &sets));
    let merged = out.join("ppo/base/L-5/seed-1");
    let learned = fs::read(merged.join("model.safetensors")).unwrap();
    assert!(
        learned.len().abs_diff(base.len()) < 1000 && learned != base,
        "the value model is no part of the policy"
    );
    assert!(open_with_tokenizer(&merged, Device::Cpu, Kind::Float).is_ok());
    success(&mut run(&out, &["ppo"], &[sets[0], "ppo.lora={rank=4, save='adapter'}"]));
    assert!(
        merged.join("adapter_model.safetensors").exists()
            && !merged.join("model.safetensors").exists()
    );
    assert!(open_with_tokenizer(&merged, Device::Cpu, Kind::Float).is_ok());
}

#[test]
fn rewards_that_are_no_numbers_stop_the_training_and_leave_the_batch() {
    let (folder, out) = prepared();
    let broken = folder.path().join("broken");
    copy(&out.join("dpo"), &broken);
    let file = broken.join("model.safetensors");
    let spoil = |(name, tensor): (String, Tensor)| {
        if name.ends_with("ln_f.bias") { (name, tensor * f64::NAN) } else { (name, tensor) }
    };
    let tensors: Vec<(String, Tensor)> =
        read_tensors(&file).unwrap().into_iter().map(spoil).collect();
    write_tensors(&file, &tensors, &[("format", "pt")]).unwrap();
    let model = format!("models.broken={{id='{}'}}", broken.display());
    let error =
        failure(&mut run(&out, &["ppo"], &[&model, "ppo.tuned=broken", "ppo.untuned=guide"]), 1);
    assert!(
        error.contains("`ppo/base/L-5/seed-1`: the response to prompt `train-")
            && error.contains("NaN"),
        "{error}"
    );
    assert!(error.contains("at step 1") && error.contains("hint: "), "{error}");
    let dump = fs::read_to_string(out.join("state/ppo-base-L-5-seed-1.bad-step-1.json")).unwrap();
    let dump: Value = serde_json::from_str(&dump).unwrap();
    assert!(
        dump["rollouts"].as_array().unwrap().len() == 16
            && dump["rollouts"][0]["rewards"][4] == "NaN",
        "{dump}"
    );
}
