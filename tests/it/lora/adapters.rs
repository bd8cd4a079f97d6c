//! What adapters train, and both ways of saving them.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};
use w2s::models::Lm;
use w2s::models::weights::read_tensors;
use w2s::recipe::{Lora, LoraSave};

use super::{CPU, MODELS, golden_ids, json_of, lora, open, plain, train};
use crate::golden::{difference, folder};

#[test]
fn a_fresh_adapter_leaves_the_model_as_it_is_and_only_a_and_b_learn() {
    for (name, targets) in MODELS {
        for kind in [Kind::Float, Kind::BFloat16] {
            let ids = golden_ids(name);
            let base = Lm::open(&folder(name), CPU, kind).unwrap();
            let lm = open(name, &lora(targets, LoraSave::Merged), kind);
            let before = plain(&base, &ids);
            assert!(plain(&lm, &ids).equal(&before), "{name} {kind:?}");

            train(&lm, &ids, 1);
            let gradient = |tensor: &Tensor| {
                tensor.grad().defined() && tensor.grad().abs().max().double_value(&[]) > 0.0
            };
            for (parameter, tensor) in lm.trainable_parameters() {
                // B is zero, so A has no gradient before B has moved.
                assert!(
                    tensor.requires_grad() && tensor.kind() == Kind::Float,
                    "{name} {parameter}"
                );
                assert_eq!(
                    gradient(&tensor),
                    parameter.ends_with("lora_B.weight"),
                    "{name} {parameter}"
                );
            }
            train(&lm, &ids, 5);
            assert!(lm.trainable_parameters().iter().all(|(_, tensor)| gradient(tensor)), "{name}");
            for ((parameter, ours), (_, theirs)) in lm.parameters().iter().zip(&base.parameters()) {
                assert!(
                    !ours.requires_grad() && !ours.grad().defined() && ours.equal(theirs),
                    "{name} {parameter} is frozen"
                );
                assert_eq!(ours.kind(), kind);
            }
            assert!(difference(&plain(&lm, &ids), &before) > 0.1, "{name}: it learns");
        }
    }
}

#[test]
fn both_ways_of_saving_give_the_trained_model() {
    for (name, targets) in MODELS {
        let ids = golden_ids(name);
        let target = tempfile::tempdir().unwrap();
        let mut trained = Vec::new();
        for save in [LoraSave::Merged, LoraSave::Adapter] {
            let lm = open(name, &lora(targets, save), Kind::Float);
            train(&lm, &ids, 6);
            let saved = target.path().join(format!("{save:?}"));
            lm.save(&saved).unwrap();
            assert_eq!(saved.join("model.safetensors").exists(), save == LoraSave::Merged);
            assert_eq!(saved.join("adapter_model.safetensors").exists(), save == LoraSave::Adapter);
            let (ours, again) =
                (plain(&lm, &ids), plain(&Lm::open(&saved, CPU, Kind::Float).unwrap(), &ids));
            let error = difference(&ours, &again) / ours.abs().max().double_value(&[]);
            assert!(error < 1e-5, "{name} {save:?}: {error}");
            assert!(
                difference(
                    &ours,
                    &plain(&Lm::open(&folder(name), CPU, Kind::Float).unwrap(), &ids)
                ) > 0.1
            );
            let opened = Lm::open_trainable(&saved, CPU, Kind::Float).unwrap();
            assert!(
                opened
                    .trainable_parameters()
                    .iter()
                    .all(|(_, tensor)| tensor.requires_grad() && tensor.is_leaf())
            );
            assert_eq!(
                opened.trainable_parameters().len(),
                opened.parameters().len(),
                "no adapter is left"
            );
            trained.push(ours);
        }
        assert!(trained[0].equal(&trained[1]), "{name}: the same seed trains the same adapter");

        // An adapter that was saved is trained on from where it stands, and saved as one of the
        // same base.
        let (saved, second) = (target.path().join("Adapter"), target.path().join("second"));
        let lm =
            Lm::open_lora(&saved, CPU, Kind::Float, &lora(targets, LoraSave::Adapter), 99).unwrap();
        assert!(plain(&lm, &ids).equal(&trained[1]), "{name}");
        train(&lm, &ids, 3);
        lm.save(&second).unwrap();
        let again = Lm::open(&second, CPU, Kind::Float).unwrap();
        assert!(difference(&plain(&again, &ids), &plain(&lm, &ids)) < 1e-4, "{name}");
        assert_eq!(json_of(&second)["base_model_name_or_path"], folder(name).to_str().unwrap());
    }
}

#[test]
fn an_adapter_finds_its_base_where_both_have_been_moved() {
    let (ids, scratch) = (golden_ids("gpt2"), tempfile::tempdir().unwrap());
    let [old, new] = ["old", "new"].map(|name| scratch.path().join(name));
    let base = old.join("models/base");
    std::fs::create_dir_all(&base).unwrap();
    for file in std::fs::read_dir(folder("gpt2")).unwrap() {
        let file = file.unwrap().path();
        std::fs::copy(&file, base.join(file.file_name().unwrap())).unwrap();
    }
    let lm =
        Lm::open_lora(&base, CPU, Kind::Float, &lora(&["c_attn"], LoraSave::Adapter), 1).unwrap();
    train(&lm, &ids, 2);
    lm.save(&old.join("run/sft")).unwrap();
    std::fs::rename(&old, &new).unwrap();
    let moved = Lm::open(&new.join("run/sft"), CPU, Kind::Float).unwrap();
    assert!(difference(&plain(&moved, &ids), &plain(&lm, &ids)) < 1e-4);
    assert_eq!(
        w2s::recipe::config_folder(&new.join("run/sft")),
        new.join("models/base").canonicalize().unwrap()
    );
    // A config that names another folder is believed.
    let config = new.join("run/sft/adapter_config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("models/base", "models/other")).unwrap();
    assert!(
        Lm::open(&new.join("run/sft"), CPU, Kind::Float)
            .err()
            .unwrap()
            .to_string()
            .contains("models/other`, which is no folder here")
    );
}

#[test]
fn merged_weights_over_a_bf16_base_keep_small_updates() {
    let (ids, target) = (golden_ids("gpt2"), tempfile::tempdir().unwrap());
    let lm = open("gpt2", &lora(&["c_attn"], LoraSave::Merged), Kind::BFloat16);
    train(&lm, &ids, 2);
    tch::no_grad(|| {
        lm.trainable_parameters()
            .iter()
            .for_each(|(_, tensor)| drop(tensor.shallow_clone().g_mul_scalar_(1e-4)))
    });
    lm.save(target.path()).unwrap();
    let base = Lm::open(&folder("gpt2"), CPU, Kind::BFloat16).unwrap();
    let before: BTreeMap<String, Tensor> = base.parameters().into_iter().collect();
    let saved = read_tensors(&target.path().join("model.safetensors")).unwrap();
    for (name, tensor) in &saved {
        let adapted = name.ends_with("c_attn.weight");
        assert_eq!(tensor.kind(), if adapted { Kind::Float } else { Kind::BFloat16 }, "{name}");
        assert_eq!(tensor.equal(&before[name].to_kind(tensor.kind())), !adapted, "{name}");
    }
}

#[test]
fn a_starts_as_peft_has_it_and_only_the_seed_decides() {
    let settings = Lora { rank: 16, ..lora(&["c_attn", "c_proj"], LoraSave::Merged) };
    let fresh = |seed| {
        Lm::open_lora(&folder("gpt2"), CPU, Kind::Float, &settings, seed)
            .unwrap()
            .trainable_parameters()
    };
    let (first, again, other) = (fresh(1), fresh(1), fresh(2));
    let mut drawn = Vec::new();
    for (((name, one), (_, same)), (_, different)) in first.iter().zip(&again).zip(&other) {
        assert!(one.equal(same), "{name}");
        if name.ends_with("lora_B.weight") {
            assert_eq!(one.abs().max().double_value(&[]), 0.0, "{name}");
            continue;
        }
        assert!(!one.equal(different), "{name}");
        let bound = (one.size()[1] as f64).powf(-0.5);
        drawn.extend(
            Vec::<f64>::try_from(one.detach().to_kind(Kind::Double).flatten(0, -1) / bound)
                .unwrap(),
        );
    }
    // Uniform in [-1, 1): mean 0, variance 1/3, within four standard errors.
    let count = drawn.len() as f64;
    let moment = |power| drawn.iter().map(|x| x.powi(power)).sum::<f64>() / count;
    assert!(drawn.iter().all(|x| x.abs() <= 1.0) && drawn.iter().any(|x| x.abs() > 0.99));
    assert!(moment(1).abs() < 4.0 / (3.0 * count).sqrt(), "{}", moment(1));
    assert!((moment(2) - 1.0 / 3.0).abs() < 4.0 * (4.0 / 45.0 / count).sqrt(), "{}", moment(2));
}
