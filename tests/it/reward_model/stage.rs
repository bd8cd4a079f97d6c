//! The stage through the real program.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use w2s::text::read_pairs;
use w2s::text::reviews::{Review, review};

use super::{head, read_json, rewards, run};
use crate::common::{failure, lines, output, recipe, stderr, success, w2s};

/// Another recipe's gold: the rewards in its pairs are the model's.
fn assert_is_gold_of_another(judged: &Path, folder: &Path) {
    let gold = format!("gold.id={}", folder.display());
    let only = ["--only", "pretrain", "--only", "gold", "--only", "preferences", "--set", &gold];
    let fewer = [
        "--set",
        "pretrain.training.steps=4",
        "--set",
        "preferences.prompts=8",
        "--set",
        "preferences.validation_prompts=8",
    ];
    success(
        w2s().arg("run").arg(recipe("smoke.toml")).arg("--out").arg(judged).args(only).args(fewer),
    );
    assert_eq!(read_json(&judged.join("gold/report.json"))["accuracy"], Value::Null);
    let pairs = read_pairs(&judged.join("preferences/train.jsonl")).unwrap();
    let [chosen, rejected] = rewards(folder, &pairs);
    assert!(!pairs.is_empty());
    for (i, pair) in pairs.iter().enumerate() {
        let near = |reward: Option<f64>, ours: f64| {
            reward.is_some_and(|reward| (reward - ours).abs() < 1e-4)
        };
        assert!(
            near(pair.reward_chosen, chosen[i]) && near(pair.reward_rejected, rejected[i]),
            "{pair:?}"
        );
    }
}

#[test]
fn a_reward_model_learns_the_pairs_and_becomes_a_gold() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("run");
    let log = stderr(&output(&mut run(&out, &[])));
    let folder = out.join("reward_model");
    let pairs = read_pairs(&out.join("preferences/validation.jsonl")).unwrap();

    // Pairs that nobody trained on, scored as another recipe's gold would.
    let [chosen, rejected] = rewards(&folder, &pairs);
    let right =
        chosen.iter().zip(&rejected).filter(|(chosen, rejected)| chosen > rejected).count() as f64;
    let swapped =
        rejected.iter().zip(&chosen).filter(|(chosen, rejected)| chosen > rejected).count() as f64;
    let (count, accuracy) = (pairs.len() as f64, right / pairs.len() as f64);
    println!("accuracy {accuracy:.3} on {count} pairs");
    assert!(
        count >= 150.0 && accuracy > 0.5 + 4.0 * 0.5 / count.sqrt(),
        "{accuracy} of {count} is chance\n{log}"
    );
    assert_eq!(right + swapped, count, "swapped pairs turn the accuracy round");
    let report = read_json(&folder.join("training.json"));
    let told = |name: &str| {
        report["validation"].as_array().unwrap().iter().find(|entry| entry[0] == name).unwrap()[1]
            .as_f64()
            .unwrap()
    };
    assert!((told("validation/rewards/accuracies") - accuracy).abs() < 1e-9, "{report} {accuracy}");
    let margin =
        chosen.iter().zip(&rejected).map(|(chosen, rejected)| chosen - rejected).sum::<f64>()
            / count;
    assert!((told("validation/rewards/margins") - margin).abs() < 1e-4, "{report} {margin}");
    assert!(
        log.contains(&format!("reward_model: accuracy {accuracy:.4} on {count} held-out pairs")),
        "{log}"
    );

    let steps: Vec<Value> = lines(&out.join("metrics.jsonl"))
        .into_iter()
        .filter(|line| line["stage"] == "reward_model")
        .collect();
    let first = &steps[0];
    assert!(
        (first["loss"].as_f64().unwrap() - 2f64.ln()).abs() < 1e-6
            && first["rewards/accuracies"] == 0.0,
        "a head of zeros: {first}"
    );
    assert!(fs::read_dir(out.join("tensorboard/reward_model")).unwrap().next().is_some());

    assert_is_gold_of_another(&scratch.path().join("judged"), &folder);

    // The head has a rate of its own, which may also be the body's.
    let learned = head(&out);
    assert!(learned.abs().max().double_value(&[]) > 1e-2);
    let again = |set: &str| {
        let log = stderr(&output(&mut run(
            &out,
            &["--set", set, "--set", "reward_model.training.epochs=0.1"],
        )));
        assert!(
            log.contains("sft: done already")
                && log.contains("reward_model: starting")
                && log.contains("reward_model: done in"),
            "{log}"
        );
        head(&out).abs().max().double_value(&[])
    };
    let (slow, equal) = (
        again("reward_model.head_learning_rate=1e-9"),
        again("reward_model.head_learning_rate=1e-3"),
    );
    assert!(slow < 5e-9 && (1e-4..5e-3).contains(&equal), "{slow} {equal}");

    // Adapters learn too, and the head with them; saved alone or merged they are one judge.
    let pairs = read_pairs(&out.join("preferences/validation.jsonl")).unwrap();
    let adapted = |save: &str| {
        let lora = format!("reward_model.lora={{rank=4, save='{save}'}}");
        let sets = ["--set", &lora, "--set", "reward_model.training.activation_checkpointing=true"];
        let log = stderr(&output(&mut run(
            &out,
            &[&sets[..], &["--set", "reward_model.training.learning_rate=1e-2"]].concat(),
        )));
        // 2 layers · 4 · (64 + 192), and the head.
        assert!(
            log.contains("reward_model: LoRA of rank 4, 2112 trainable parameters over "),
            "{log}"
        );
        rewards(&folder, &pairs)
    };
    let merged = adapted("merged");
    assert!(!folder.join("adapter_config.json").exists());
    let alone = adapted("adapter");
    assert!(
        folder.join("adapter_config.json").exists() && !folder.join("model.safetensors").exists()
    );
    let differences = merged
        .iter()
        .flatten()
        .zip(alone.iter().flatten())
        .map(|(merged, alone)| (merged - alone).abs());
    assert!(differences.fold(0.0, f64::max) < 1e-4);
    let right =
        alone[0].iter().zip(&alone[1]).filter(|(chosen, rejected)| chosen > rejected).count()
            as f64;
    assert!(right / count > 0.5 + 4.0 * 0.5 / count.sqrt(), "{right} of {count} is chance");
    let told = read_json(&folder.join("training.json"))["validation"].to_string();
    assert!(
        told.contains(&format!("[\"validation/rewards/accuracies\",{}]", right / count)),
        "{told} {right}"
    );
    assert_is_gold_of_another(&scratch.path().join("judged by an adapter"), &folder);
    let error =
        failure(w2s().args(["steer", "--method", "base", "--base"]).arg(&folder).arg("A film"), 1);
    assert!(
        error.contains(
            "`task_type` is `SEQ_CLS`, only adapters of language models (`CAUSAL_LM`) are supported"
        ),
        "{error}"
    );

    let error = failure(&mut run(&out, &["--set", "reward_model.training.max_length=4"]), 1);
    let count = read_pairs(&out.join("preferences/train.jsonl")).unwrap().len();
    assert!(
        error.contains("reward_model: no pair of preferences/train.jsonl can be used"),
        "{error}"
    );
    assert!(error.contains("hint: raise `reward_model.training.max_length` = 4"), "{error}");
    let log = stderr(&output(&mut run(&out, &["--set", "reward_model.training.max_length=4"])));
    assert!(
        log.contains(&format!(
            "{count} of {count} pairs of preferences/train.jsonl are equal, empty or longer than \
             `max_length`"
        )),
        "{log}"
    );
}

/// Pairs of a file, labelled by people, with neither a gold nor a policy: the good review of two is
/// chosen.
#[test]
fn a_file_of_pairs_is_enough() {
    let scratch = tempfile::tempdir().unwrap();
    let (good, bad): (Vec<_>, Vec<_>) =
        (0..1600).map(|i| review(3, "pairs", i)).partition(|review| review.label == 1);
    let pair = |(good, bad): (Review, Review)| {
        json!({ "prompt": "", "chosen": good.text, "rejected": bad.text }).to_string()
    };
    let pairs: Vec<String> = good.into_iter().zip(bad).map(pair).collect();
    let file = scratch.path().join("pairs.jsonl");
    fs::write(&file, pairs.join("\n")).unwrap();
    let recipe = format!(
        "[run]\nname = 'file'\ndtype = 'float32'\n[data]\nsource = 'builtin:reviews'\ntrain = \
         300\nvalidation = 20\ntest = 20\n\
         [models.m.scratch]\narchitecture = 'gpt2'\nn_layer = 2\nn_head = 2\nn_embd = \
         64\nn_positions = 192\n\
         tokenizer = {{ kind = 'bpe', vocab_size = 1024 }}\n[pretrain.training]\nsteps = 4\n\
         [preferences]\nsource = {:?}\nvalidation_pairs = 150\nlabel = 'kept'\n\
         [reward_model]\nmodel = 'm'\nhead_learning_rate = \
         1e-2\n[reward_model.training]\nlearning_rate = 1e-3\nepochs = 2\nbatch_size = 16\n",
        file.display().to_string()
    );
    let path = scratch.path().join("file.toml");
    fs::write(&path, recipe).unwrap();
    let out = scratch.path().join("run");
    let log = stderr(&output(w2s().arg("run").arg(&path).arg("--out").arg(&out)));
    let report = read_json(&out.join("reward_model/training.json"));
    let accuracy = &report["validation"].as_array().unwrap_or_else(|| panic!("{log}"))[4];
    println!("{accuracy} on reviews");
    assert!(
        accuracy[0] == "validation/rewards/accuracies" && accuracy[1].as_f64().unwrap() > 0.7,
        "{report}"
    );
    assert!(log.contains("reward_model: 620 training and 150 validation pairs"), "{log}");

    let text = fs::read_to_string(&path).unwrap().replace("model = 'm'\n", "");
    fs::write(&path, text).unwrap();
    let error = failure(w2s().arg("check").arg(&path), 2);
    assert!(
        error.contains(
            "`[reward_model]` has no model to stand on, because `preferences.source` has no policy"
        ),
        "{error}"
    );
}
