//! PEFT's folders: names, scales and options, ours in its hands and its in ours.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tch::{Kind, Tensor};
use w2s::models::Lm;
use w2s::models::weights::{read_tensors, write_tensors};
use w2s::recipe::{Lora, LoraSave};

use super::{CPU, MODELS, golden_ids, json_of, lora, open, plain, train};
use crate::golden::{difference, folder};
use crate::judge;

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
            "`target_modules` takes in the output layer, `lm_head`: only layers of blocks are adapted",
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
            "is `meta-llama/Llama-2-7b`, which is no folder here and not in the hub's cache\n\nhint: ",
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
            json!({
                "base": folder(name),
                "ids": ids,
                "logits": rows(&plain(&lm, &Tensor::from_slice2(&ids))),
                "tolerance": 1e-4
            }),
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
