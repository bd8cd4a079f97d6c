//! Models that do not do their part, and what the machine lacks.

use std::fs;
use std::path::Path;

use super::steer;
use crate::common::{failure, recipe, success, tiny_model, w2s};

#[test]
fn weights_that_do_not_fit_are_listed_together() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_model(folder.path());
    let config = fs::read_to_string(model.join("config.json")).unwrap();
    let mut fields: serde_json::Value = serde_json::from_str(&config).unwrap();
    fields["n_layer"] = 3.into();
    fields["n_positions"] = 40.into();
    fs::write(model.join("config.json"), fields.to_string()).unwrap();
    let error = failure(steer(&model).arg("ok"), 1);
    assert!(
        error.contains("problems")
            && error.contains("h.2.attn.c_attn.weight")
            && error.contains("wpe.weight"),
        "{error}"
    );
    fs::write(model.join("config.json"), config).unwrap();
    let weights = model.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    bytes[..8].copy_from_slice(&[0xff; 8]);
    fs::write(&weights, bytes).unwrap();
    let error = failure(steer(&model).arg("ok"), 1);
    assert!(error.contains("model.safetensors"), "{error}");
    let error = failure(steer(&folder.path().join("absent")).arg("ok"), 1);
    assert!(error.contains("absent"), "{error}");
}

#[test]
fn cuda_where_there_is_none_says_why() {
    if Path::new("/proc/driver/nvidia/version").exists() {
        return; // a machine with a GPU
    }
    let folder = tempfile::tempdir().unwrap();
    let error = failure(steer(&tiny_model(folder.path())).args(["--device", "cuda", "ok"]), 1);
    assert!(error.contains("device = `cuda`") && error.contains("hint"), "{error}");
    let report = success(w2s().arg("doctor"));
    assert!(report.contains("libtorch") && report.contains("cuda"), "{report}");
}

#[test]
fn folders_that_cannot_do_their_part_are_refused_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_model(folder.path());
    let golden = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let out = folder.path().join("run");
    let refused = |sets: &[String]| {
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        let short = [
            "steer.max_new_tokens=8",
            "preferences.max_new_tokens=8",
            "ppo.max_new_tokens=8",
            "data.prompt.max_words=4",
        ];
        let small = short.into_iter().flat_map(|set| ["--set", set]).collect::<Vec<_>>();
        let check =
            failure(w2s().arg("check").arg(recipe("smoke.toml")).args(&small).args(&sets), 2);
        let run = failure(
            w2s()
                .arg("run")
                .arg(recipe("smoke.toml"))
                .arg("--out")
                .arg(&out)
                .args(&small)
                .args(&sets),
            2,
        );
        assert_eq!(
            check.lines().find(|line| line.starts_with("error")),
            run.lines().find(|line| line.starts_with("error"))
        );
        assert!(!out.join("manifest.json").exists(), "before any work");
        run
    };
    let reward = folder.path().join("reward");
    fs::create_dir(&reward).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(golden("gpt2-reward").join(file), reward.join(file)).unwrap();
    }
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(model.join(file), reward.join(file)).unwrap();
    }
    let error = refused(&[
        format!("models.base.id={}", reward.display()),
        format!("gold.id={}", model.display()),
    ]);
    assert!(error.contains("2 problems"), "{error}");
    assert!(
        error.contains("is a reward model (it has `score.weight`), not a language model"),
        "{error}"
    );
    assert!(
        error.contains("is no reward model: its weights hold none of `score.weight`"),
        "{error}"
    );
    let whole = fs::read(model.join("model.safetensors")).unwrap();
    fs::write(model.join("model.safetensors"), &whole[..whole.len() - 9]).unwrap();
    assert!(
        refused(&[format!("models.base.id={}", model.display())])
            .contains("not a whole safetensors file")
    );
    fs::remove_file(model.join("model.safetensors")).unwrap();
    assert!(
        refused(&[format!("models.base.id={}", model.display())])
            .contains("holds neither `model.safetensors`")
    );
    let error = failure(
        w2s()
            .args(["steer", "--method", "base", "--base"])
            .arg(folder.path().join("nowhere"))
            .arg("x"),
        1,
    );
    assert!(error.contains("nowhere` is not a folder, and not a hub id"), "{error}");
}

#[test]
fn logits_that_are_no_numbers_stop_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_model(folder.path());
    let path = model.join("model.safetensors");
    let mut tensors: Vec<_> =
        w2s::models::weights::read_tensors(&path).unwrap().into_iter().collect();
    let norm = tensors.iter_mut().find(|(name, _)| name == "transformer.ln_f.weight").unwrap();
    norm.1 = &norm.1 * f64::NAN;
    w2s::models::weights::write_tensors(&path, &tensors, &[]).unwrap();
    let error = failure(
        w2s()
            .args(["steer", "--method", "base", "--max-new-tokens", "4", "--base"])
            .arg(&model)
            .arg("AB"),
        1,
    );
    assert!(
        error.contains("the model's logits are not finite (their log-sum-exp is NaN)")
            && error.contains("hint: "),
        "{error}"
    );
}

#[test]
fn a_search_that_cannot_fit_into_memory_is_refused_with_the_arithmetic() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_model(folder.path());
    let mut command = w2s();
    command
        .args([
            "steer",
            "--method",
            "best_of_n",
            "--n",
            "4000000000",
            "--max-new-tokens",
            "5",
            "--base",
        ])
        .arg(&model);
    let other = tiny_model(&folder.path().join("other"));
    let error =
        failure(command.arg("--tuned").arg(&model).arg("--untuned").arg(&other).arg("ok"), 1);
    for part in [
        "one prompt takes",
        "prompt tokens + 2 × 4000000000 rows",
        "tuned guide 1: ",
        "hint: lower the rows",
    ] {
        assert!(error.contains(part), "{error}");
    }
}
