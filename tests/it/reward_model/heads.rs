//! The head on a language model, alone and with adapters.

use std::fs;

use serde_json::{Value, json};
use tch::{Kind, Tensor};
use w2s::models::weights::{read_tensors, write_tensors};
use w2s::models::{Lm, RewardModel, reward_model_with_tokenizer};
use w2s::recipe::{Lora, LoraSave};
use w2s::text::{Pair, Tokenizer, read_pairs};

use super::{CPU, adapted, read_json, run};
use crate::common::success;
use crate::{golden, judge};

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
    let expected = json!({
        "reward_model": {
            "class": "GPT2ForSequenceClassification",
            "ids": ids,
            "logits": rows,
            "tolerance": 1e-4,
        }
    });
    fs::write(target.path().join("expected.json"), expected.to_string()).unwrap();
    assert_eq!(ids.len(), 8);
    judge::ask("golden/check_saved.py", &[target.path()]);
}

fn rewards_of(model: &RewardModel, ids: &[Vec<i64>]) -> Tensor {
    tch::no_grad(|| model.rewards_of(&ids.iter().map(Vec::as_slice).collect::<Vec<_>>()))
}

#[test]
fn an_adapter_of_a_reward_model_comes_back_with_its_head() {
    let ids = [vec![5, 9, 3, 7, 11, 2, 8], vec![4, 6], vec![9, 9, 1]];
    for (name, targets) in [("gpt2", ["c_attn", "c_fc"]), ("llama", ["q_proj", "down_proj"])] {
        let (model, folder) = (adapted(name, &targets), tempfile::tempdir().unwrap());
        model.save_trained(folder.path(), &model.trainable_parameters(), None).unwrap();
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
        model.save_trained(&target.path().join(name), &model.trainable_parameters(), None).unwrap();
        let rewards = numbers(rewards_of(&model, &ids));
        ours.insert(
            name.to_owned(),
            json!({
                "base": golden::folder(name),
                "ids": ids,
                "rewards": rewards,
                "tolerance": 1e-4
            }),
        );
    }
    fs::write(target.path().join("ours.json"), Value::Object(ours.clone()).to_string()).unwrap();
    judge::ask("golden/check_reward_adapter.py", &[target.path()]);

    let theirs = read_json(&target.path().join("theirs.json"));
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
