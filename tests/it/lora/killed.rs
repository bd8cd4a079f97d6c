//! A killed run that tunes by adapters.

use std::path::{Path, PathBuf};

use tch::Kind;
use w2s::models::open_with_tokenizer;
use w2s::models::weights::read_tensors;

use super::{CPU, json_of, run};
use crate::common::{failure, kill_when, lines, output, recipe, stderr, success, w2s};

fn steps(out: &Path, stage: &str) -> usize {
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap_or_default();
    text.lines().filter(|line| line.contains(&format!("\"stage\":\"{stage}\""))).count()
}

#[test]
fn a_killed_run_ends_like_an_untouched_one_and_its_adapters_steer() {
    let scratch = tempfile::tempdir().unwrap();
    let (whole, killed) = (scratch.path().join("whole"), scratch.path().join("killed"));
    let log = stderr(&output(&mut run(&whole, &[])));
    // c_attn of 2 layers: 4 · (64 + 3 · 64) numbers each.
    assert!(log.contains("sft: LoRA of rank 4, 2048 trainable parameters over "), "{log}");

    kill_when(&mut run(&killed, &[]), "dpo", || steps(&killed, "dpo") >= 4);
    kill_when(&mut run(&killed, &[]), "direct", || steps(&killed, "direct/base/dpo") >= 5);
    let checkpoint = read_tensors(&killed.join("state/direct-base-dpo.safetensors")).unwrap();
    assert!(
        !checkpoint.is_empty() && checkpoint.keys().all(|name| name.contains(".lora_")),
        "{:?}",
        checkpoint.keys()
    );
    success(&mut run(&killed, &[]));
    for file in [
        "sft/model.safetensors",
        "reward_model/adapter_model.safetensors",
        "dpo/adapter_model.safetensors",
        "direct/base/sft/adapter_model.safetensors",
        "direct/base/dpo/adapter_model.safetensors",
        "direct/base/dpo/training.json",
    ] {
        let (a, b) =
            (std::fs::read(whole.join(file)).unwrap(), std::fs::read(killed.join(file)).unwrap());
        assert!(a == b, "{file} differs");
    }
    assert!(
        !whole.join("dpo/model.safetensors").exists()
            && !whole.join("direct/base/dpo/model.safetensors").exists()
    );
    let base = |folder: &str| {
        PathBuf::from(json_of(&whole.join(folder))["base_model_name_or_path"].as_str().unwrap())
    };
    assert_eq!(
        (base("dpo"), base("direct/base/dpo")),
        (whole.join("sft"), whole.join("models/base"))
    );

    // DPO starts at its reference and moves the pairs apart, and what steered is not what was there
    // before.
    for stage in ["dpo", "direct/base/dpo"] {
        let margins: Vec<f64> = (lines(&whole.join("metrics.jsonl")).iter())
            .filter(|line| line["stage"] == stage)
            .filter_map(|line| line["rewards/margins"].as_f64())
            .collect();
        assert!(
            margins[0].abs() < 1e-5 && margins[margins.len() - 1] > 0.05,
            "{stage}: {margins:?}"
        );
    }
    let weights = |folder: &str| {
        open_with_tokenizer(&whole.join(folder), CPU, Kind::Float).unwrap().0.parameters()
    };
    let changed: Vec<String> = (weights("sft").into_iter().zip(weights("dpo")))
        .filter(|((_, sft), (_, dpo))| !sft.equal(dpo))
        .map(|((name, _), _)| name.replace("transformer.h.", ""))
        .collect();
    assert_eq!(
        changed,
        ["0.attn.c_proj.weight", "0.mlp.c_fc.weight", "1.attn.c_proj.weight", "1.mlp.c_fc.weight"]
    );
    for method in ["cbs", "direct"] {
        assert_eq!(lines(&whole.join(format!("steer/base/{method}/seed-1.jsonl"))).len(), 3);
    }

    // An adapter's folder stands wherever a model's does.
    let (adapter, merged) = (whole.join("direct/base/dpo"), scratch.path().join("merged"));
    let (lm, tokenizer) = open_with_tokenizer(&adapter, CPU, Kind::Float).unwrap();
    lm.save(&merged).unwrap();
    tokenizer.save(&merged).unwrap();
    let sample = |model: &Path| {
        success(
            w2s()
                .args(["steer", "--dtype", "float32", "--method", "base", "I saw it", "--base"])
                .arg(model),
        )
    };
    assert_eq!(sample(&adapter), sample(&merged));
    assert_ne!(sample(&adapter), sample(&whole.join("models/base")));
    let shown = success(
        w2s()
            .arg("check")
            .arg(recipe("smoke.toml"))
            .arg("--set")
            .arg(format!("models.other.id={}", adapter.display())),
    );
    assert!(shown.contains("other: 331,392 parameters, 2 layers × 96 wide"), "{shown}");
    std::fs::write(
        scratch.path().join("merged/adapter_config.json"),
        r#"{"base_model_name_or_path": "../gone"}"#,
    )
    .unwrap();
    for name in ["config.json", "tokenizer.json"] {
        std::fs::remove_file(merged.join(name)).unwrap();
    }
    let error = failure(
        w2s()
            .arg("check")
            .arg(recipe("smoke.toml"))
            .arg("--set")
            .arg(format!("models.other.id={}", merged.display())),
        2,
    );
    assert!(
        error.contains("is `../gone`, which is no folder here, seen from ")
            && error.contains("hint: if the base model was moved or renamed, write there"),
        "{error}"
    );

    // The settings are part of what a result is filed under; how it is saved too.
    let log = stderr(&output(&mut run(&whole, &["--set", "direct.lora.save=merged"])));
    assert!(
        log.contains(" dpo: done already") && log.contains(" direct/base/sft: starting"),
        "{log}"
    );
    assert!(
        whole.join("direct/base/dpo/model.safetensors").exists()
            && !whole.join("direct/base/dpo/adapter_config.json").exists()
    );
    let error = failure(&mut run(&whole, &["--set", "dpo.lora.targets=['c_fc','q_proj']"]), 2);
    assert!(
        error.contains(
            "`dpo.lora.targets` holds `q_proj`, but `models.guide` has no linear layer of that name"
        ),
        "{error}"
    );
}
