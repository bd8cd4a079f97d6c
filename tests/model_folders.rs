//! Model folders: what is saved opens again bit by bit, here and in transformers, and what is wrong with a folder is said at once.

mod golden;

use std::collections::BTreeMap;
use std::path::Path;

use golden::{difference, folder, ids, logits, tensor, values};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use w2s::models::distilbert::DistilBertConfig;
use w2s::models::gpt2::{Gpt2Config, TokenIds};
use w2s::models::weights::{read_metadata, read_tensors, write_tensors};
use w2s::models::{Classifier, Lm, LmConfig};

const CPU: Device = Device::Cpu;

fn small() -> Gpt2Config {
    Gpt2Config { vocab_size: 50, n_positions: 16, n_embd: 24, n_layer: 3, n_head: 4, ..Gpt2Config::default() }
}

/// A copy of a golden folder in which tests may change things.
fn copy(name: &str) -> tempfile::TempDir {
    let target = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, target.path().join(path.file_name().unwrap())).unwrap();
    }
    target
}

fn edit_json(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    edit(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

fn edit_weights(folder: &Path, edit: impl FnOnce(&mut BTreeMap<String, Tensor>)) {
    let path = folder.join("model.safetensors");
    let mut tensors = read_tensors(&path).unwrap();
    edit(&mut tensors);
    write_tensors(&path, &tensors.into_iter().collect::<Vec<_>>(), &[]).unwrap();
}

fn open(folder: &Path) -> Lm {
    Lm::open(folder, CPU, Kind::Float).unwrap_or_else(|error| panic!("{error}"))
}

fn refusal(folder: &Path) -> String {
    Lm::open(folder, CPU, Kind::Float).err().expect("this folder must not open").to_string()
}

fn assert_same(left: &[(String, Tensor)], right: &[(String, Tensor)]) {
    assert_eq!(left.iter().map(|(name, _)| name).collect::<Vec<_>>(), right.iter().map(|(name, _)| name).collect::<Vec<_>>());
    for ((name, left), (_, right)) in left.iter().zip(right) {
        assert!(left.kind() == right.kind() && left.equal(right), "{name}");
    }
}

#[test]
fn a_language_model_comes_back_bit_by_bit() {
    for (tied, kind, dtype, eos) in
        [(true, Kind::Float, "float32", vec![3]), (false, Kind::BFloat16, "bfloat16", vec![3, 9]), (true, Kind::Half, "float16", vec![])]
    {
        let eos_token_id = (!eos.is_empty()).then(|| TokenIds::Many(eos.clone()));
        let extra = json!({ "resid_pdrop": 0.1, "dtype": "float64" }).as_object().unwrap().clone();
        let config = Gpt2Config { tie_word_embeddings: tied, bos_token_id: Some(1), eos_token_id, extra, ..small() };
        let fresh = Lm::new(LmConfig::Gpt2(config), 11, CPU).unwrap();
        assert!(fresh.parameters().iter().all(|(_, parameter)| parameter.requires_grad() && parameter.kind() == Kind::Float));
        assert_eq!(fresh.parameters().iter().any(|(name, _)| name == "lm_head.weight"), !tied);
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fresh.save(first.path()).unwrap();
        assert_same(&fresh.parameters(), &Lm::open_trainable(first.path(), CPU).unwrap().parameters());

        let opened = Lm::open(first.path(), CPU, kind).unwrap();
        assert_eq!((opened.kind(), opened.model.info().eos_token_ids.clone(), opened.model.info().bos_token_id), (kind, eos, Some(1)));
        opened.save(second.path()).unwrap();
        let again = Lm::open(second.path(), CPU, kind).unwrap();
        assert_same(&opened.parameters(), &again.parameters());
        assert_eq!(opened.model.info(), again.model.info());
        let config: Value = serde_json::from_slice(&std::fs::read(second.path().join("config.json")).unwrap()).unwrap();
        let expected = [
            ("model_type", json!("gpt2")),
            ("architectures", json!(["GPT2LMHeadModel"])),
            ("torch_dtype", json!(dtype)),
            ("dtype", Value::Null),
            ("resid_pdrop", json!(0.1)),
            ("n_embd", json!(24)),
        ];
        assert!(expected.iter().all(|(key, value)| config[key] == *value), "{config}");
        assert_eq!(read_metadata(&second.path().join("model.safetensors")).unwrap()["format"], "pt");
    }
}

#[test]
fn a_classifier_comes_back_bit_by_bit() {
    let config = DistilBertConfig { vocab_size: 50, dim: 24, n_layers: 2, n_heads: 4, hidden_dim: 30, ..DistilBertConfig::default() };
    let fresh = Classifier::new(config, 11, CPU).unwrap();
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fresh.save(first.path()).unwrap();
    let opened = Classifier::open_trainable(first.path(), CPU).unwrap();
    assert_same(&fresh.parameters(), &opened.parameters());
    opened.save(second.path()).unwrap();
    for file in ["config.json", "model.safetensors"] {
        assert_eq!(std::fs::read(first.path().join(file)).unwrap(), std::fs::read(second.path().join(file)).unwrap(), "{file}");
    }
    assert!(Classifier::open(first.path(), CPU, Kind::Float).unwrap().parameters().iter().all(|(_, p)| !p.requires_grad()));
}

#[test]
fn new_models_start_as_gpt2_does_and_only_the_seed_decides() {
    let new = |seed| Lm::new(LmConfig::Gpt2(Gpt2Config { n_embd: 64, ..small() }), seed, CPU).unwrap();
    let lm = new(5);
    assert_same(&lm.parameters(), &new(5).parameters());
    let embedding = |lm: &Lm| lm.parameters().into_iter().find(|(name, _)| name == "transformer.wte.weight").unwrap().1;
    assert!(!embedding(&lm).equal(&embedding(&new(6))));
    for (name, parameter) in lm.parameters() {
        let (mean, deviation) = (parameter.mean(Kind::Float).double_value(&[]), parameter.std(false).double_value(&[]));
        let (expected_mean, expected) = match name.as_str() {
            name if name.ends_with("bias") => (0.0, 0.0),
            name if name.contains("ln_") => (1.0, 0.0),
            name if name.contains("c_proj") => (0.0, 0.02 / 6f64.sqrt()),
            _ => (0.0, 0.02),
        };
        let standard_error = expected / (parameter.numel() as f64).sqrt();
        assert!((mean - expected_mean).abs() <= 4.5 * standard_error, "{name}: mean {mean}");
        assert!((deviation - expected).abs() <= 4.5 * standard_error, "{name}: deviation {deviation}");
    }
}

#[test]
fn names_with_and_without_prefix_old_masks_and_a_repeated_head_are_read() {
    let values = values("gpt2");
    let target = copy("gpt2");
    edit_weights(target.path(), |tensors| {
        let bare = std::mem::take(tensors).into_iter().map(|(name, tensor)| (name.replace("transformer.", ""), tensor));
        tensors.extend(bare);
        tensors.insert("h.0.attn.bias".into(), Tensor::ones([1, 1, 32, 32], (Kind::Uint8, CPU)).tril(0));
        tensors.insert("h.1.attn.masked_bias".into(), Tensor::from(-1e4));
        tensors.insert("lm_head.weight".into(), tensors["wte.weight"].copy());
    });
    let error = difference(&logits(&open(target.path()), &ids(&values)), &tensor(&values["logits"]));
    assert!(error < 1e-4, "{error}");
}

#[test]
fn shards_are_read_as_one() {
    let target = copy("gpt2");
    let tensors = read_tensors(&target.path().join("model.safetensors")).unwrap();
    std::fs::remove_file(target.path().join("model.safetensors")).unwrap();
    let mut map = serde_json::Map::new();
    for (shard, keep) in [("model-00001-of-00002.safetensors", true), ("model-00002-of-00002.safetensors", false)] {
        let part: Vec<_> =
            tensors.iter().filter(|(name, _)| name.contains(".h.0.") == keep).map(|(n, t)| (n.clone(), t.shallow_clone())).collect();
        map.extend(part.iter().map(|(name, _)| (name.clone(), json!(shard))));
        write_tensors(&target.path().join(shard), &part, &[]).unwrap();
    }
    let index = target.path().join("model.safetensors.index.json");
    std::fs::write(&index, json!({ "weight_map": map }).to_string()).unwrap();
    assert_same(&open(target.path()).parameters(), &open(&folder("gpt2")).parameters());

    edit_json(&index, |index| index["weight_map"]["transformer.wte.weight"] = json!("../elsewhere.safetensors"));
    assert!(refusal(target.path()).contains("which is no file of this folder"));
}

#[test]
fn generation_config_decides_where_sequences_end() {
    let target = copy("gpt2");
    edit_json(&target.path().join("config.json"), |config| config["eos_token_id"] = json!([4, 5]));
    edit_json(&target.path().join("generation_config.json"), |config| config["eos_token_id"] = Value::Null);
    assert_eq!(open(target.path()).model.info().eos_token_ids, [4, 5]);
    edit_json(&target.path().join("generation_config.json"), |config| config["eos_token_id"] = json!([6, 7, 8]));
    assert_eq!(open(target.path()).model.info().eos_token_ids, [6, 7, 8]);
    std::fs::remove_file(target.path().join("generation_config.json")).unwrap();
    assert_eq!(open(target.path()).model.info().eos_token_ids, [4, 5]);
}

#[test]
fn all_misfits_are_listed_together() {
    let target = copy("gpt2");
    edit_weights(target.path(), |tensors| {
        tensors.remove("transformer.h.1.ln_2.bias");
        tensors.insert("transformer.h.2.ln_2.bias".into(), Tensor::zeros([16], (Kind::Float, CPU)));
        tensors.insert("transformer.h.0.mlp.c_fc.weight".into(), Tensor::zeros([64, 16], (Kind::Float, CPU)));
        tensors.insert("transformer.wpe.weight".into(), Tensor::zeros([32, 16], (Kind::Int64, CPU)));
        tensors.insert("wte.weight".into(), Tensor::zeros([97, 16], (Kind::Float, CPU)));
    });
    let message = refusal(target.path());
    for line in [
        ": 5 problems",
        "\n  tensor `transformer.h.0.mlp.c_fc.weight` has shape [64, 16], config.json asks for [16, 64]",
        "\n  unexpected tensor `transformer.h.2.ln_2.bias` [16]",
        "\n  tensor `transformer.wpe.weight` is stored as I64, which is not supported",
        "\n  tensor `wte.weight` is there twice",
        "\n  missing tensor `transformer.h.1.ln_2.bias` [16]",
    ] {
        assert!(message.contains(line), "{line} is not in\n{message}");
    }
}

#[test]
fn damaged_weights_are_one_clear_error() {
    let target = copy("gpt2");
    let path = target.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for damaged in [&whole[..whole.len() / 2], &whole[..100], &[], &whole[8..]] {
        std::fs::write(&path, damaged).unwrap();
        let message = refusal(target.path());
        assert!(message.contains("model.safetensors: not a whole safetensors file: "), "{message}");
        assert!(message.ends_with("hint: it is damaged or cut short; download or copy it again"), "{message}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(refusal(target.path()).contains("holds neither `model.safetensors` nor"));
}

#[test]
fn configs_that_cannot_be_built_are_refused_with_every_reason() {
    let target = copy("gpt2");
    let config = target.path().join("config.json");
    let original = std::fs::read(&config).unwrap();
    let message = |edit: &dyn Fn(&mut Value)| {
        std::fs::write(&config, &original).unwrap();
        edit_json(&config, edit);
        refusal(target.path())
    };
    assert!(
        message(&|c| c["model_type"] = json!("bloom")).ends_with("config.json: `model_type` is `bloom`; supported language models: `gpt2`")
    );
    assert!(message(&|c| c["model_type"] = Value::Null).ends_with("there is no `model_type`; supported language models: `gpt2`"));
    assert!(message(&|c| c["n_embd"] = json!("wide")).contains("invalid type: string \"wide\""));
    let several = message(&|c| {
        c["n_head"] = json!(3);
        c["activation_function"] = json!("relu");
        c["n_layer"] = json!(0);
    });
    for line in [
        "3 problems",
        "`n_layer` must be positive, not 0",
        "`n_head` = 3 does not divide `n_embd` = 16",
        "`activation_function` = `relu` is not supported, only `gelu_new`, `gelu_pytorch_tanh`",
    ] {
        assert!(several.contains(line), "{line} is not in\n{several}");
    }
    std::fs::write(&config, "{\n\"model_type\": \"gpt2\",,}").unwrap();
    assert!(refusal(target.path()).contains("config.json:2: "));
    std::fs::remove_file(&config).unwrap();
    assert!(refusal(target.path()).contains("there is no `config.json`\n\nhint: "));
    let impossible = LmConfig::Gpt2(Gpt2Config { n_head: 7, ..small() });
    assert!(Lm::new(impossible, 1, CPU).err().unwrap().to_string().contains("`n_head` = 7 does not divide `n_embd` = 24"));
}

#[test]
fn the_positive_label_is_found_by_name_or_refused() {
    let target = copy("distilbert");
    let config = target.path().join("config.json");
    let open = |labels: Value| {
        edit_json(&config, |config| config["id2label"] = labels);
        Classifier::open(target.path(), CPU, Kind::Float).map(|classifier| classifier.positive_label()).map_err(|error| error.to_string())
    };
    assert_eq!(open(json!({ "0": "positive", "1": "negative" })), Ok(0));
    assert_eq!(open(json!({ "0": "bad", "1": "very Positive" })), Ok(1));
    assert_eq!(open(json!({ "0": "LABEL_0", "1": "LABEL_1" })), Ok(1));
    for labels in [json!({ "0": "bad", "1": "good" }), json!({ "0": "not positive", "1": "positive!" })] {
        assert!(open(labels).unwrap_err().contains("`id2label` does not say which label is the positive one: "));
    }
    assert!(open(json!({ "0": "NEGATIVE", "2": "POSITIVE" })).unwrap_err().contains("must name the labels 0, 1, …"));
    assert!(open(json!({ "zero": "NEGATIVE" })).unwrap_err().contains("key `zero`, which is not a number"));
    let three = open(json!({ "0": "NEGATIVE", "1": "POSITIVE", "2": "NEUTRAL" })).unwrap_err();
    assert!(three.contains("tensor `classifier.weight` has shape [2, 16], config.json asks for [3, 16]"), "{three}");
    assert!(refusal(target.path()).contains("`model_type` is `distilbert`; supported language models: `gpt2`"));
}

/// Runs only where W2S_PYTHON names a python with torch and transformers.
#[test]
fn transformers_opens_what_we_save() {
    let Some(python) = std::env::var_os("W2S_PYTHON") else {
        println!("SKIPPED: set W2S_PYTHON to a python with torch and transformers");
        return;
    };
    let target = tempfile::tempdir().unwrap();
    let mut expected = serde_json::Map::new();
    let rows =
        |tensor: &Tensor| Vec::<Vec<f64>>::try_from(tensor.to_kind(Kind::Double).view([-1, tensor.size()[tensor.dim() - 1]])).unwrap();
    let ids = Tensor::arange(24, (Kind::Int64, CPU)).view([2, 12]);
    let ids_json = Vec::<Vec<i64>>::try_from(&ids).unwrap();
    for (name, tied, kind, tolerance) in
        [("tied", true, Kind::Float, 1e-4), ("untied", false, Kind::Float, 1e-4), ("bf16", true, Kind::BFloat16, 2e-2)]
    {
        let config = Gpt2Config {
            tie_word_embeddings: tied,
            initializer_range: 0.2,
            bos_token_id: None,
            eos_token_id: Some(TokenIds::Many(vec![3, 9])),
            ..small()
        };
        let fresh = tempfile::tempdir().unwrap();
        Lm::new(LmConfig::Gpt2(config), 3, CPU).unwrap().save(fresh.path()).unwrap();
        let lm = Lm::open(fresh.path(), CPU, kind).unwrap();
        lm.save(&target.path().join(name)).unwrap();
        let logits = rows(&logits(&lm, &ids));
        expected.insert(name.into(), json!({ "class": "AutoModelForCausalLM", "ids": ids_json, "logits": logits, "tolerance": tolerance }));
    }
    let config = DistilBertConfig {
        vocab_size: 50,
        dim: 24,
        n_layers: 2,
        n_heads: 4,
        hidden_dim: 30,
        initializer_range: 0.2,
        ..DistilBertConfig::default()
    };
    let classifier = Classifier::new(config, 3, CPU).unwrap();
    classifier.save(&target.path().join("classifier")).unwrap();
    let answers = tch::no_grad(|| rows(&classifier.logits(&ids, &ids.ge(0))));
    expected.insert(
        "classifier".into(),
        json!({ "class": "AutoModelForSequenceClassification", "ids": ids_json, "logits": answers, "tolerance": 1e-4 }),
    );
    std::fs::write(target.path().join("expected.json"), Value::Object(expected).to_string()).unwrap();
    let output = std::process::Command::new(python).arg(folder("check_saved.py")).arg(target.path()).output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}
