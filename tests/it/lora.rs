//! LoRA: adapters on the golden models, the folders they are saved in, and a run of the real
//! program that tunes by it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::common::{failure, kill_when, lines, output, recipe, stderr, success, w2s};
use crate::golden::{difference, folder, ids, logits, values};
use crate::judge;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use w2s::models::weights::{read_tensors, write_tensors};
use w2s::models::{Lm, open_with_tokenizer};
use w2s::recipe::{Lora, LoraSave};
use w2s::train::{AdamW, AdamWSettings};

const CPU: Device = Device::Cpu;
const ALL_LLAMA: [&str; 7] =
    ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
const MODELS: [(&str, &[&str]); 4] = [
    ("gpt2", &["c_attn"]),
    ("gpt2", &["c_attn", "c_proj", "c_fc"]),
    ("llama", &["q_proj", "v_proj"]),
    ("qwen2", &ALL_LLAMA),
];

fn lora(targets: &[&str], save: LoraSave) -> Lora {
    Lora {
        rank: 4,
        alpha: 6.0,
        targets: targets.iter().map(|target| target.to_string()).collect(),
        save,
    }
}

fn open(name: &str, settings: &Lora, kind: Kind) -> Lm {
    Lm::open_lora(&folder(name), CPU, kind, settings, 5).unwrap()
}

/// A few steps of cross-entropy on the ids themselves, large enough to show.
fn train(lm: &Lm, ids: &Tensor, steps: usize) {
    let mut optimizer = AdamW::new(lm.trainable_parameters(), AdamWSettings::with_decay(0.0));
    for _ in 0..steps {
        optimizer.zero_gradients();
        let logps = logits(lm, ids).log_softmax(-1, Kind::Float);
        let targets = ids.narrow(1, 1, ids.size()[1] - 1).unsqueeze(-1);
        (-logps.narrow(1, 0, ids.size()[1] - 1).gather(-1, &targets, false).mean(Kind::Float))
            .backward();
        optimizer.finish_gradients(1.0, f64::INFINITY).unwrap();
        optimizer.step(0.02).unwrap();
    }
}

/// Logits without a graph.
fn plain(lm: &Lm, ids: &Tensor) -> Tensor {
    tch::no_grad(|| logits(lm, ids))
}

fn golden_ids(name: &str) -> Tensor {
    ids(&values(name))
}

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

fn json_of(adapter: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(adapter.join("adapter_config.json")).unwrap()).unwrap()
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

#[test]
fn adapter_folders_have_pefts_names() {
    let target = tempfile::tempdir().unwrap();
    for (name, targets, expected) in [
        (
            "gpt2",
            &["attn.c_proj"][..],
            "base_model.model.transformer.h.0.attn.c_proj.lora_A.weight",
        ),
        ("llama", &["down_proj"], "base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"),
    ] {
        let saved = target.path().join(name);
        open(name, &lora(targets, LoraSave::Adapter), Kind::Float).save(&saved).unwrap();
        let tensors = read_tensors(&saved.join("adapter_model.safetensors")).unwrap();
        assert!(tensors.contains_key(expected) && tensors.len() == 4, "{:?}", tensors.keys());
        let config = json_of(&saved);
        for (key, value) in [
            ("peft_type", json!("LORA")),
            ("task_type", json!("CAUSAL_LM")),
            ("r", json!(4)),
            ("lora_alpha", json!(6.0)),
            ("target_modules", json!(targets)),
            ("fan_in_fan_out", json!(name == "gpt2")),
            ("bias", json!("none")),
        ] {
            assert_eq!(config[key], value, "{key}");
        }
    }
}

#[test]
fn adapters_that_do_not_fit_are_one_clear_error() {
    let target = tempfile::tempdir().unwrap();
    let error = |lora: &Lora| {
        Lm::open_lora(&folder("gpt2"), CPU, Kind::Float, lora, 1).err().unwrap().to_string()
    };
    let message = error(&lora(&["c_attn", "q_proj"], LoraSave::Merged));
    assert!(
        message.starts_with("LoRA's target `q_proj` is no linear layer of the model"),
        "{message}"
    );
    assert!(
        message
            .contains("hint: its layers: `attn.c_attn`, `attn.c_proj`, `mlp.c_fc`, `mlp.c_proj`"),
        "{message}"
    );

    let saved = target.path().join("adapter");
    open("gpt2", &lora(&["c_attn"], LoraSave::Adapter), Kind::Float).save(&saved).unwrap();
    let other = Lora { rank: 3, ..lora(&["c_attn"], LoraSave::Adapter) };
    let message = Lm::open_lora(&saved, CPU, Kind::Float, &other, 1).err().unwrap().to_string();
    assert!(
        message.contains("holds an adapter of rank 4 and alpha 6")
            && message.contains("asks for rank 3 and alpha 6"),
        "{message}"
    );

    let config = saved.join("adapter_config.json");
    let original = std::fs::read(&config).unwrap();
    let with = |key: &str, value: Value| {
        let mut edited: Value = serde_json::from_slice(&original).unwrap();
        edited[key] = value;
        std::fs::write(&config, edited.to_string()).unwrap();
        Lm::open(&saved, CPU, Kind::Float).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let base = folder("gpt2");
    for (key, value, expected) in [
        ("use_dora", json!(true), "`use_dora` = true is not supported"),
        ("init_lora_weights", json!("pissa"), "`init_lora_weights` = \"pissa\" is not supported"),
        (
            "alora_invocation_tokens",
            json!([1, 2]),
            "`alora_invocation_tokens` = [1,2] is not supported",
        ),
        (
            "rank_pattern",
            json!({"c_attn": 2}),
            "lora_A.weight` has shape [4, 16], adapter_config.json asks for [2, 16]",
        ),
        (
            "target_modules",
            json!(["c_attn", "lm_head"]),
            "`target_modules` takes in `lm_head`, which is no linear layer of a block",
        ),
        (
            "target_modules",
            json!(["wte", "c_attn"]),
            "`target_modules` takes in `transformer.wte`, which is no linear layer of a block",
        ),
        (
            "target_modules",
            json!(["ln_1", "c_attn"]),
            "`target_modules` takes in `transformer.h.0.ln_1`",
        ),
        (
            "target_modules",
            json!("transformer.*"),
            "`target_modules` takes in `transformer.h.0.ln_1`",
        ),
        (
            "target_modules",
            json!(["q_proj"]),
            "it stands on no layer of its base: LoRA's target `q_proj` is no linear layer of the \
             model",
        ),
        (
            "target_modules",
            json!(["c_attn", "c_fc"]),
            "missing tensor `base_model.model.transformer.h.0.mlp.c_fc.lora_A.weight` [4, 16]",
        ),
        (
            "target_modules",
            json!(["attn.c_proj"]),
            "unexpected tensor `base_model.model.transformer.h.0.attn.c_attn.lora_A.weight` [4, \
             16]",
        ),
        ("r", json!(2), "lora_A.weight` has shape [4, 16], adapter_config.json asks for [2, 16]"),
        ("r", json!(0), "`r` is 0"),
        ("r", json!("4"), "invalid type: string"),
        (
            "base_model_name_or_path",
            json!("meta-llama/Llama-2-7b"),
            "is `meta-llama/Llama-2-7b`, which is no folder here\n\nhint: ",
        ),
        ("base_model_name_or_path", Value::Null, "is ``, which is no folder here"),
        ("base_model_name_or_path", json!("../adapter"), "which is an adapter itself"),
        (
            "base_model_name_or_path",
            json!(folder("llama")),
            "LoRA's target `c_attn` is no linear layer",
        ),
        ("base_model_name_or_path", json!(base), ""),
    ] {
        let message = with(key, value.clone());
        assert!(
            message.contains(expected) && message.is_empty() == expected.is_empty(),
            "{key} = {value}: {message}"
        );
    }
    // What PEFT 0.21 reads as the same adapter is the same adapter.
    for (key, value) in [
        ("target_modules", json!(".*attn")),
        ("target_modules", json!(["c_attn", "q_proj"])),
        ("rank_pattern", json!({"attn": 2})),
        ("exclude_modules", json!(["c_proj"])),
        ("layers_to_transform", json!([0, 1])),
    ] {
        assert_eq!(with(key, value.clone()), "", "{key} = {value}");
    }
    let all = target.path().join("all");
    open("gpt2", &lora(&["c_attn", "c_proj", "c_fc"], LoraSave::Adapter), Kind::Float)
        .save(&all)
        .unwrap();
    let mut everywhere = json_of(&all);
    everywhere["target_modules"] = json!("all-linear");
    std::fs::write(all.join("adapter_config.json"), everywhere.to_string()).unwrap();
    Lm::open(&all, CPU, Kind::Float).unwrap();
    // PEFT saves an embedding that was resized beside the adapter.
    let path = saved.join("adapter_model.safetensors");
    let matrices = read_tensors(&path).unwrap();
    let embedding = (
        "base_model.model.transformer.wte.weight".to_owned(),
        Tensor::zeros([97, 16], (Kind::Float, CPU)),
    );
    write_tensors(&path, &matrices.into_iter().chain([embedding]).collect::<Vec<_>>(), &[])
        .unwrap();
    let message = with("r", json!(4));
    assert!(
        message.contains(
            "unexpected tensor `base_model.model.transformer.wte.weight` [97, 16]\n\nhint: merge \
             it in PEFT"
        ),
        "{message}"
    );
    std::fs::remove_file(path).unwrap();
    assert!(
        with("r", json!(4))
            .contains("has `adapter_config.json`, but no `adapter_model.safetensors`")
    );
}

/// An adapter whose weights do not answer to its scale alone: of each option that is followed, what
/// it makes of the logits.
#[test]
fn scales_of_layers_are_followed() {
    let (target, ids) = (tempfile::tempdir().unwrap(), golden_ids("gpt2"));
    let saved = target.path().join("adapter");
    let lm = open("gpt2", &lora(&["c_attn"], LoraSave::Adapter), Kind::Float);
    train(&lm, &ids, 6);
    lm.save(&saved).unwrap();
    let tensors = |scales: [f64; 2]| {
        let matrices = read_tensors(&saved.join("adapter_model.safetensors")).unwrap();
        let base: BTreeMap<String, Tensor> =
            Lm::open(&folder("gpt2"), CPU, Kind::Float).unwrap().parameters().into_iter().collect();
        let layer = |index: usize| {
            let of = |matrix: &str| {
                &matrices
                    [&format!("base_model.model.transformer.h.{index}.attn.c_attn.{matrix}.weight")]
            };
            &base[&format!("transformer.h.{index}.attn.c_attn.weight")]
                + of("lora_B").matmul(of("lora_A")).transpose(0, 1) * scales[index]
        };
        [layer(0), layer(1)]
    };
    for (key, value, scales) in [
        ("lora_alpha", json!(6), [1.5, 1.5]),
        ("use_rslora", json!(true), [3.0, 3.0]),
        ("alpha_pattern", json!({ "h.1.attn.c_attn": 2 }), [1.5, 0.5]),
        ("alpha_pattern", json!({ r".*\.0\..*": 20, "c_attn": 8 }), [5.0, 2.0]),
    ] {
        let original = json_of(&saved);
        let mut config = original.clone();
        config[key] = value.clone();
        std::fs::write(saved.join("adapter_config.json"), config.to_string()).unwrap();
        let found: BTreeMap<String, Tensor> =
            Lm::open(&saved, CPU, Kind::Float).unwrap().parameters().into_iter().collect();
        for (index, expected) in tensors(scales).iter().enumerate() {
            let error =
                difference(&found[&format!("transformer.h.{index}.attn.c_attn.weight")], expected);
            assert!(error < 1e-6, "{key} = {value}, layer {index}: {error}");
        }
        // Training on with one rank and scale for all is only for an adapter that has them.
        let resumed =
            Lm::open_lora(&saved, CPU, Kind::Float, &lora(&["c_attn"], LoraSave::Adapter), 1)
                .err()
                .map(|error| error.to_string());
        assert_eq!(resumed.is_none(), scales == [1.5, 1.5], "{key} = {value}: {resumed:?}");
        assert!(
            resumed.is_none_or(|message| message.contains("whose rank on `transformer.h.")),
            "{key} = {value}"
        );
        std::fs::write(saved.join("adapter_config.json"), original.to_string()).unwrap();
    }
}

#[test]
#[ignore = "needs Python with torch: make judge-heavy"]
fn every_option_of_peft_gives_its_answer_or_is_refused_by_name() {
    let target = tempfile::tempdir().unwrap();
    judge::ask("golden/adapters.py", &[target.path()]);
    let read = |name: &str| -> BTreeMap<String, Value> {
        serde_json::from_slice(&std::fs::read(target.path().join(name)).unwrap()).unwrap()
    };
    let ids = Tensor::arange(24, (Kind::Int64, CPU)).view([2, 12]);
    let accepted = read("accepted.json");
    assert!(accepted.len() > 20);
    for (name, logits) in accepted {
        let batches: Vec<Vec<Vec<f64>>> = serde_json::from_value(logits).unwrap();
        let expected = Tensor::from_slice2(&batches.concat()).to_kind(Kind::Float);
        let found = plain(
            &Lm::open(&target.path().join(&name), CPU, Kind::Float)
                .unwrap_or_else(|error| panic!("{name}: {error}")),
            &ids,
        );
        let error = difference(&found, &expected) / expected.abs().max().double_value(&[]);
        println!("{name}: differs from PEFT by {error:.1e} of the largest logit");
        assert!(error < 1e-5, "{name}: {error}");
    }
    for (name, option) in read("refused.json") {
        let message = Lm::open(&target.path().join(&name), CPU, Kind::Float)
            .err()
            .unwrap_or_else(|| panic!("{name} opens"))
            .to_string();
        assert!(
            message.contains(&format!("`{}`", option.as_str().unwrap()))
                && message.contains("hint: "),
            "{name}: {message}"
        );
    }
    let keys: Vec<String> =
        serde_json::from_slice(&std::fs::read(target.path().join("keys.json")).unwrap()).unwrap();
    let golden: Value =
        serde_json::from_slice(&std::fs::read(folder("adapters.json")).unwrap()).unwrap();
    let known = golden["defaults"].as_object().unwrap();
    let new: Vec<&String> = keys.iter().filter(|key| !known.contains_key(*key)).collect();
    assert!(
        new.is_empty(),
        "this PEFT has options that 0.21 has not: {new:?}; remake adapters.json and decide on each"
    );
}

#[test]
#[ignore = "needs Python with torch: make judge-heavy"]
fn peft_opens_our_adapters_and_we_open_its() {
    let target = tempfile::tempdir().unwrap();
    let rows = |tensor: &Tensor| {
        Vec::<Vec<f64>>::try_from(tensor.to_kind(Kind::Double).flatten(0, 1)).unwrap()
    };
    let ids = Tensor::arange(24, (Kind::Int64, CPU)).view([2, 12]);
    let mut ours = serde_json::Map::new();
    for (index, (name, targets)) in MODELS.into_iter().enumerate() {
        let lm = open(name, &lora(targets, LoraSave::Adapter), Kind::Float);
        train(&lm, &ids, 6);
        let saved = format!("{name}-{index}");
        lm.save(&target.path().join(&saved)).unwrap();
        let ids = Vec::<Vec<i64>>::try_from(&ids).unwrap();
        ours.insert(
            saved,
            json!({ "base": folder(name), "ids": ids, "logits": rows(&plain(&lm, &Tensor::from_slice2(&ids))), "tolerance": 1e-4 }),
        );
    }
    std::fs::write(target.path().join("ours.json"), Value::Object(ours.clone()).to_string())
        .unwrap();
    judge::ask("golden/check_adapter.py", &[target.path()]);

    let theirs: Value =
        serde_json::from_slice(&std::fs::read(target.path().join("theirs.json")).unwrap()).unwrap();
    for name in ours.keys() {
        let batches: Vec<Vec<Vec<f64>>> = serde_json::from_value(theirs[name].clone()).unwrap();
        let expected = Tensor::from_slice2(&batches.concat()).to_kind(Kind::Float);
        let found = plain(
            &Lm::open(&target.path().join(format!("peft-{name}")), CPU, Kind::Float).unwrap(),
            &ids,
        );
        let error = difference(&found, &expected) / expected.abs().max().double_value(&[]);
        println!(
            "{name}: an adapter of PEFT merged here differs by {error:.1e} of the largest logit"
        );
        assert!(error < 1e-4, "{name}: {error}");
    }
}

/// The smoke recipe tuned by LoRA: the guide's SFT saved merged and its DPO as an adapter, the
/// bases' both as adapters.
fn run(out: &Path, arguments: &[&str]) -> std::process::Command {
    let mut command = w2s();
    command.arg("run").arg(recipe("smoke.toml")).arg("--out").arg(out);
    for set in [
        "pretrain.training.steps=20",
        "gold.training.steps=20",
        "sft.lora={rank=4}",
        "dpo.lora={rank=2, alpha=8, targets=['attn.c_proj','c_fc'], save='adapter'}",
        "reward_model.lora={rank=3, save='adapter'}",
        "reward_model.training.activation_checkpointing=true",
        "reward_model.training.checkpoint_every=1",
        "dpo.training.learning_rate=2e-2",
        "dpo.training.epochs=6",
        "dpo.training.checkpoint_every=2",
        "direct.lora={rank=4, save='adapter'}",
        "direct.models=['base']",
        "direct.dpo.learning_rate=2e-2",
        "direct.dpo.checkpoint_every=3",
        "steer.bases=['base']",
        "steer.prompts=3",
        "steer.method=[{kind='cbs', beam_width=2, successors=2, chunk_len=5}, {kind='direct'}]",
    ] {
        command.args(["--set", set]);
    }
    command.args(arguments);
    command
}

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
        r#"{"base_model_name_or_path": "owner/base"}"#,
    )
    .unwrap();
    let error = failure(
        w2s()
            .arg("check")
            .arg(recipe("smoke.toml"))
            .arg("--set")
            .arg(format!("models.other.id={}", merged.display())),
        2,
    );
    assert!(
        error.contains(
            "holds no `config.json`\n\nhint: it is a PEFT adapter: its adapter_config.json must \
             name"
        ),
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
