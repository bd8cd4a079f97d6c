//! Reward models: the head that is put on a language model, and the stage through the real program:
//! it learns the pairs, and what it leaves is a gold reward and a model of transformers.

use std::fs;
use std::path::Path;

use crate::common::{failure, lines, output, recipe, stderr, success, w2s};
use crate::golden;
use crate::judge;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use w2s::models::weights::{read_tensors, write_tensors};
use w2s::models::{Lm, RewardModel, reward_model_with_tokenizer};
use w2s::recipe::{Lora, LoraSave};
use w2s::score::JudgeModel;
use w2s::text::reviews::{Review, review};
use w2s::text::{Pair, Tokenizer, read_pairs};

const CPU: Device = Device::Cpu;

#[test]
fn a_head_of_zeros_stands_on_the_weights_of_the_language_model() {
    for (name, body) in [("gpt2", "transformer."), ("llama", "model.")] {
        let (lm, reward) = (
            Lm::open(&golden::folder(name), CPU, Kind::Float).unwrap(),
            RewardModel::from_lm(&golden::folder(name), CPU, Kind::Float).unwrap(),
        );
        let (mut seen, parameters) = (0, reward.parameters());
        for (parameter, tensor) in &parameters {
            assert!(tensor.requires_grad() && tensor.kind() == Kind::Float, "{parameter}");
            if RewardModel::is_head(parameter) {
                assert_eq!(
                    (tensor.size(), tensor.abs().max().double_value(&[])),
                    (vec![1, reward.info().hidden_size], 0.0),
                    "{name}"
                );
            } else {
                let own = lm
                    .parameters()
                    .into_iter()
                    .find(|(own, _)| own == parameter)
                    .unwrap_or_else(|| panic!("{name}: {parameter}"))
                    .1;
                assert!(parameter.starts_with(body) && tensor.equal(&own), "{name}: {parameter}");
                seen += 1;
            }
        }
        assert!(seen + 1 == parameters.len() && seen > 10, "{name}: {seen}");
        assert_eq!(
            Vec::<f32>::try_from(reward.rewards_of(&[&[1, 2, 3], &[4]])).unwrap(),
            [0.0, 0.0]
        );
    }
    let refusal = |name: &str| {
        RewardModel::from_lm(&golden::folder(name), CPU, Kind::Float)
            .err()
            .expect("it is no language model")
            .to_string()
    };
    assert!(
        refusal("distilbert").contains("`model_type` is `distilbert`; supported language models: "),
        "{}",
        refusal("distilbert")
    );
    assert!(
        refusal("gpt2-reward").contains("unexpected tensor `score.weight`"),
        "{}",
        refusal("gpt2-reward")
    );
    let classifier = reward_model_with_tokenizer(&golden::folder("distilbert"), CPU, Kind::Float)
        .err()
        .expect("it is no language model")
        .to_string();
    assert!(classifier.contains("supported language models"), "{classifier}");
}

#[test]
fn an_adapter_is_merged_below_the_head() {
    let settings =
        Lora { rank: 2, alpha: 4.0, targets: vec!["c_attn".into()], save: LoraSave::Adapter };
    let adapted = Lm::open_lora(&golden::folder("gpt2"), CPU, Kind::Float, &settings, 1).unwrap();
    tch::no_grad(|| {
        adapted
            .trainable_parameters()
            .iter()
            .for_each(|(_, tensor)| drop(tensor.shallow_clone().fill_(0.1)))
    });
    let folder = tempfile::tempdir().unwrap();
    adapted.save(folder.path()).unwrap();
    for kind in [Kind::Float, Kind::BFloat16] {
        let (merged, reward) = (
            Lm::open(folder.path(), CPU, kind).unwrap(),
            RewardModel::from_lm(folder.path(), CPU, kind).unwrap(),
        );
        let plain = Lm::open(&golden::folder("gpt2"), CPU, kind).unwrap();
        let mut changed = 0;
        for (((name, merged), (_, plain)), (same, ours)) in merged
            .parameters()
            .iter()
            .zip(plain.parameters())
            .zip(reward.parameters().iter().filter(|(name, _)| !RewardModel::is_head(name)))
        {
            assert!(
                name == same && ours.kind() == kind && ours.requires_grad() && ours.equal(merged),
                "{name} {kind:?}"
            );
            changed += usize::from(!ours.equal(&plain));
        }
        assert_eq!(changed, 2, "the adapted layer of both blocks");
    }
}

#[test]
fn texts_are_read_at_their_last_token_and_padding_never() {
    for name in ["gpt2-reward", "llama-reward"] {
        let reward = RewardModel::open(&golden::folder(name), CPU, Kind::Float).unwrap();
        let texts: [&[i64]; 3] = [&[5, 9, 3, 7, 11, 2, 8], &[4], &[9, 9, 1]];
        let together =
            Vec::<f64>::try_from(reward.rewards_of(&texts).to_kind(Kind::Double)).unwrap();
        for (text, together) in texts.iter().zip(&together) {
            let alone = reward.rewards_of(&[text]).double_value(&[0]);
            let shorter = reward.rewards_of(&[&[text, &[6][..]].concat()]).double_value(&[0]);
            assert!(
                (alone - together).abs() < 1e-5 && (shorter - together).abs() > 1e-3,
                "{name}: {alone} {together} {shorter}"
            );
        }
    }
}

/// The smoke recipe with more pairs and little else. Its gold is hardly trained, but orders texts
/// all the same, without noise.
fn run(out: &Path, arguments: &[&str]) -> std::process::Command {
    let mut command = w2s();
    command.arg("run").arg(recipe("smoke.toml")).arg("--out").arg(out);
    for set in [
        "data.validation=200",
        "models.base.scratch.steps=1",
        "models.other.scratch.steps=1",
        "gold.training.steps=100",
        "sft.training.steps=8",
        "preferences.prompts=300",
        "preferences.validation_prompts=100",
        "preferences.samples_per_prompt=4",
        "preferences.label=argmax",
        "reward_model.training.epochs=2",
        "reward_model.training.learning_rate=1e-3",
        "reward_model.head_learning_rate=1e-2",
        "reward_model.training.eval_every=20",
    ] {
        command.args(["--set", set]);
    }
    for stage in ["pretrain", "gold", "preferences", "sft", "reward_model"] {
        command.args(["--only", stage]);
    }
    command.args(arguments);
    command
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// What the judge in `folder` says of chosen and rejected.
fn rewards(folder: &Path, pairs: &[Pair]) -> [Vec<f64>; 2] {
    let gold =
        JudgeModel::open(folder, CPU, Kind::Float, None).unwrap_or_else(|error| panic!("{error}"));
    let chosen: Vec<(&str, &str)> =
        pairs.iter().map(|pair| (pair.prompt.as_str(), pair.chosen.as_str())).collect();
    let rejected: Vec<(&str, &str)> =
        pairs.iter().map(|pair| (pair.prompt.as_str(), pair.rejected.as_str())).collect();
    [chosen, rejected].map(|answers| {
        answers.chunks(64).flat_map(|answers| gold.rewards(answers).unwrap()).collect()
    })
}

fn head(out: &Path) -> Tensor {
    let model = RewardModel::open(&out.join("reward_model"), CPU, Kind::Float).unwrap();
    model.parameters().into_iter().find(|(name, _)| RewardModel::is_head(name)).unwrap().1
}

/// Another recipe's gold: the rewards in its pairs are the model's.
fn assert_is_gold_of_another(judged: &Path, folder: &Path) {
    let gold = format!("gold.id={}", folder.display());
    let only = ["--only", "pretrain", "--only", "gold", "--only", "preferences", "--set", &gold];
    let fewer = [
        "--set",
        "pretrain.training.steps=5",
        "--set",
        "preferences.prompts=8",
        "--set",
        "preferences.validation_prompts=8",
    ];
    success(
        w2s().arg("run").arg(recipe("smoke.toml")).arg("--out").arg(judged).args(only).args(fewer),
    );
    assert_eq!(json(&judged.join("gold/report.json"))["accuracy"], Value::Null);
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
    let report = json(&folder.join("training.json"));
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
    let told = json(&folder.join("training.json"))["validation"].to_string();
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
         tokenizer = {{ kind = 'bpe', vocab_size = 1024 }}\n[pretrain.training]\nsteps = 20\n\
         [preferences]\nsource = {:?}\nvalidation_pairs = 150\nlabel = 'kept'\n\
         [reward_model]\nmodel = 'm'\nhead_learning_rate = \
         1e-2\n[reward_model.training]\nlearning_rate = 1e-3\nepochs = 2\nbatch_size = 16\n",
        file.display().to_string()
    );
    let path = scratch.path().join("file.toml");
    fs::write(&path, recipe).unwrap();
    let out = scratch.path().join("run");
    let log = stderr(&output(w2s().arg("run").arg(&path).arg("--out").arg(&out)));
    let report = json(&out.join("reward_model/training.json"));
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

#[test]
#[ignore = "needs Python with torch: make judge-heavy"]
fn transformers_gives_the_rewards_that_we_give() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("run");
    success(&mut run(&out, &[]));
    let folder = out.join("reward_model");
    let pairs = read_pairs(&out.join("preferences/validation.jsonl")).unwrap();
    let (model, tokenizer) =
        (RewardModel::open(&folder, CPU, Kind::Float).unwrap(), Tokenizer::open(&folder).unwrap());
    let encode =
        |pair: &Pair| tokenizer.encode(&format!("{}{}", pair.prompt, pair.chosen)).unwrap();
    let ids: Vec<Vec<i64>> = pairs
        .iter()
        .map(encode)
        .filter(|ids| ids.len() >= 20)
        .map(|ids| ids[..20].to_vec())
        .take(8)
        .collect();
    let rewards =
        tch::no_grad(|| model.rewards_of(&ids.iter().map(Vec::as_slice).collect::<Vec<_>>()));
    let rows: Vec<Vec<f64>> = Vec::try_from(rewards.to_kind(Kind::Double).unsqueeze(1)).unwrap();
    let target = tempfile::tempdir().unwrap();
    let copy = target.path().join("reward_model");
    fs::create_dir(&copy).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(folder.join(file), copy.join(file)).unwrap();
    }
    let expected = json!({ "reward_model": { "class": "GPT2ForSequenceClassification", "ids": ids, "logits": rows, "tolerance": 1e-4 } });
    fs::write(target.path().join("expected.json"), expected.to_string()).unwrap();
    assert_eq!(ids.len(), 8);
    judge::ask("golden/check_saved.py", &[target.path()]);
}

/// A reward model on a golden language model whose adapters and head are far from zero.
fn adapted(name: &str, targets: &[&str]) -> RewardModel {
    let targets = targets.iter().map(|target| target.to_string()).collect();
    let settings = Lora { rank: 2, alpha: 5.0, targets, save: LoraSave::Adapter };
    let model =
        RewardModel::lora_on_lm(&golden::folder(name), CPU, Kind::Float, &settings, 1).unwrap();
    tch::no_grad(|| {
        for (number, (_, parameter)) in model.trainable_parameters().into_iter().enumerate() {
            let wave =
                Tensor::arange(parameter.numel() as i64, (Kind::Float, CPU)) * 0.7 + number as f64;
            parameter.shallow_clone().copy_(&(wave.sin() * 0.5).view(parameter.size().as_slice()));
        }
    });
    model
}

fn rewards_of(model: &RewardModel, ids: &[Vec<i64>]) -> Tensor {
    tch::no_grad(|| model.rewards_of(&ids.iter().map(Vec::as_slice).collect::<Vec<_>>()))
}

#[test]
fn an_adapter_of_a_reward_model_comes_back_with_its_head() {
    let ids = [vec![5, 9, 3, 7, 11, 2, 8], vec![4, 6], vec![9, 9, 1]];
    for (name, targets) in [("gpt2", ["c_attn", "c_fc"]), ("llama", ["q_proj", "down_proj"])] {
        let (model, folder) = (adapted(name, &targets), tempfile::tempdir().unwrap());
        model.save_trained(folder.path(), &model.trainable_parameters()).unwrap();
        RewardModel::check_folder(folder.path()).unwrap();
        let again = RewardModel::open(folder.path(), CPU, Kind::Float).unwrap();
        let (before, after) = (rewards_of(&model, &ids), rewards_of(&again, &ids));
        assert!(
            golden::difference(&before, &after) < 1e-4 * before.abs().max().double_value(&[]),
            "{name}: {before} {after}"
        );
        // Without the adapter the same head gives other rewards.
        let plain = RewardModel::from_lm(&golden::folder(name), CPU, Kind::Float).unwrap();
        let head = |model: &RewardModel| {
            model.parameters().into_iter().find(|(name, _)| RewardModel::is_head(name)).unwrap().1
        };
        tch::no_grad(|| head(&plain).copy_(&head(&again)));
        assert!(
            golden::difference(&before, &rewards_of(&plain, &ids))
                > 0.01 * before.abs().max().double_value(&[]),
            "{name}"
        );
        // An adapter without a head gives no rewards.
        let (path, width) =
            (folder.path().join("adapter_model.safetensors"), model.info().hidden_size);
        let without = read_tensors(&path)
            .unwrap()
            .into_iter()
            .filter(|(name, _)| !name.ends_with("score.weight"));
        write_tensors(&path, &without.collect::<Vec<_>>(), &[]).unwrap();
        let message = RewardModel::check_folder(folder.path()).unwrap_err().to_string();
        assert!(
            message
                .contains(&format!("missing tensor `base_model.model.score.weight` [1, {width}]")),
            "{message}"
        );
        assert!(RewardModel::open(folder.path(), CPU, Kind::Float).is_err());
    }
}

#[test]
#[ignore = "needs Python with torch: make judge-heavy"]
fn peft_opens_our_adapters_of_reward_models_and_we_open_its() {
    let target = tempfile::tempdir().unwrap();
    let ids: Vec<Vec<i64>> =
        (1..4).map(|row| (0..9).map(|place| (row * 17 + place * 5) % 90 + 1).collect()).collect();
    let numbers = |rewards: Tensor| Vec::<f64>::try_from(rewards.to_kind(Kind::Double)).unwrap();
    let mut ours = serde_json::Map::new();
    for (name, targets) in [("gpt2", ["c_attn", "c_fc"]), ("llama", ["q_proj", "down_proj"])] {
        let model = adapted(name, &targets);
        model.save_trained(&target.path().join(name), &model.trainable_parameters()).unwrap();
        let rewards = numbers(rewards_of(&model, &ids));
        ours.insert(name.to_owned(), json!({ "base": golden::folder(name), "ids": ids, "rewards": rewards, "tolerance": 1e-4 }));
    }
    fs::write(target.path().join("ours.json"), Value::Object(ours.clone()).to_string()).unwrap();
    judge::ask("golden/check_reward_adapter.py", &[target.path()]);

    let theirs = json(&target.path().join("theirs.json"));
    for name in ours.keys() {
        let expected: Vec<f64> = serde_json::from_value(theirs[name].clone()).unwrap();
        let model =
            RewardModel::open(&target.path().join(format!("peft-{name}")), CPU, Kind::Float)
                .unwrap_or_else(|error| panic!("{error}"));
        let found = numbers(rewards_of(&model, &ids));
        let largest = expected.iter().fold(0.0, |largest: f64, reward| largest.max(reward.abs()));
        let error = found
            .iter()
            .zip(&expected)
            .map(|(found, expected)| (found - expected).abs())
            .fold(0.0, f64::max)
            / largest;
        println!("{name}: an adapter of PEFT differs by {error:.1e} of the largest reward");
        assert!(error < 1e-4, "{name}: {error}");
    }
}
