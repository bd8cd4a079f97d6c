//! Models come back bit by bit, here and in other programs.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tch::{Kind, Tensor};
use w2s::models::weights::read_metadata;
use w2s::models::{
    Classifier, ClassifierConfig, DistilBertConfig, Gpt2Config, Input, Lm, LmConfig, RewardHead,
    RewardModel, TokenIds,
};
use w2s::text::Tokenizer;

use super::{CPU, small};
use crate::golden::edit::{assert_same, open};
use crate::golden::{folder, logits};
use crate::{golden, judge};

#[test]
fn a_language_model_comes_back_bit_by_bit() {
    for (tied, kind, dtype, eos) in [
        (true, Kind::Float, "float32", vec![3]),
        (false, Kind::BFloat16, "bfloat16", vec![3, 9]),
        (true, Kind::Half, "float16", vec![]),
    ] {
        let eos_token_id = (!eos.is_empty()).then(|| TokenIds::Many(eos.clone()));
        let extra = json!({ "resid_pdrop": 0.1, "dtype": "float64" }).as_object().unwrap().clone();
        let config = Gpt2Config {
            tie_word_embeddings: tied,
            bos_token_id: Some(1),
            eos_token_id,
            extra,
            ..small()
        };
        let fresh = Lm::new(LmConfig::Gpt2(config), 11, CPU).unwrap();
        assert!(
            fresh
                .parameters()
                .iter()
                .all(|(_, parameter)| parameter.requires_grad() && parameter.kind() == Kind::Float)
        );
        assert_eq!(fresh.parameters().iter().any(|(name, _)| name == "lm_head.weight"), !tied);
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fresh.save(first.path()).unwrap();
        assert_same(
            &fresh.parameters(),
            &Lm::open_trainable(first.path(), CPU, Kind::Float).unwrap().parameters(),
        );

        let opened = Lm::open(first.path(), CPU, kind).unwrap();
        assert_eq!(
            (
                opened.kind(),
                opened.model.info().eos_token_ids.clone(),
                opened.model.info().bos_token_id
            ),
            (kind, eos, Some(1))
        );
        opened.save(second.path()).unwrap();
        let again = Lm::open(second.path(), CPU, kind).unwrap();
        assert_same(&opened.parameters(), &again.parameters());
        assert_eq!(opened.model.info(), again.model.info());
        let config: Value =
            serde_json::from_slice(&std::fs::read(second.path().join("config.json")).unwrap())
                .unwrap();
        let expected = [
            ("model_type", json!("gpt2")),
            ("architectures", json!(["GPT2LMHeadModel"])),
            ("torch_dtype", json!(dtype)),
            ("dtype", Value::Null),
            ("resid_pdrop", json!(0.1)),
            ("n_embd", json!(24)),
            ("n_ctx", json!(16)),
        ];
        assert!(expected.iter().all(|(key, value)| config[key] == *value), "{config}");
        assert_eq!(
            read_metadata(&second.path().join("model.safetensors")).unwrap()["format"],
            "pt"
        );
    }
}

#[test]
fn a_classifier_comes_back_bit_by_bit() {
    let config = DistilBertConfig {
        vocab_size: 50,
        dim: 24,
        n_layers: 2,
        n_heads: 4,
        hidden_dim: 30,
        ..DistilBertConfig::default()
    };
    let fresh = Classifier::new(ClassifierConfig::DistilBert(config), 11, CPU).unwrap();
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fresh.save(first.path()).unwrap();
    let config: Value =
        serde_json::from_slice(&std::fs::read(first.path().join("config.json")).unwrap()).unwrap();
    assert_eq!(config["label2id"], json!({ "NEGATIVE": 0, "POSITIVE": 1 }));
    let opened = Classifier::open_trainable(first.path(), CPU).unwrap();
    assert_same(&fresh.parameters(), &opened.parameters());
    opened.save(second.path()).unwrap();
    for file in ["config.json", "model.safetensors"] {
        assert_eq!(
            std::fs::read(first.path().join(file)).unwrap(),
            std::fs::read(second.path().join(file)).unwrap(),
            "{file}"
        );
    }
    assert!(
        Classifier::open(first.path(), CPU, Kind::Float)
            .unwrap()
            .parameters()
            .iter()
            .all(|(_, p)| !p.requires_grad())
    );
}

#[test]
fn a_reward_model_comes_back_as_transformers_names_it() {
    for name in ["llama-reward", "ultrarm", "starling"] {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let opened = RewardModel::open(&folder(name), CPU, Kind::Float).unwrap();
        opened.save(first.path()).unwrap();
        let again = RewardModel::open_trainable(first.path(), CPU).unwrap();
        assert_eq!(again.head, RewardHead::Score, "{name}");
        assert_same(&opened.parameters(), &again.parameters());
        again.save(second.path()).unwrap();
        for file in ["config.json", "model.safetensors"] {
            assert_eq!(
                std::fs::read(first.path().join(file)).unwrap(),
                std::fs::read(second.path().join(file)).unwrap(),
                "{name} {file}"
            );
        }
    }
}

/// transformers reads a reward before the padding that ends a text: model and tokenizer must mean
/// the same token by it.
#[test]
fn a_reward_model_and_its_tokenizer_pad_alike() {
    let folder = tempfile::tempdir().unwrap();
    let texts = ["a story that is never boring"].map(str::to_owned);
    let plain = Tokenizer::train_bpe(texts.clone().into_iter(), 270).unwrap();
    let (rows, pieces) = (270, Tokenizer::train_wordpiece(texts.into_iter(), 60).unwrap());
    for (tokenizer, rows, pad) in [(plain, rows, "<|endoftext|>"), (pieces, 60, "[PAD]")] {
        let tokenizer = tokenizer.padding_within(rows);
        tokenizer.save(folder.path()).unwrap();
        let config = Gpt2Config { vocab_size: rows, eos_token_id: None, ..small() };
        let model = RewardModel::new(LmConfig::Gpt2(config), 3, CPU).unwrap();
        let weights = model.trainable_parameters();
        model.save_trained(folder.path(), &weights, tokenizer.pad_id()).unwrap();
        let read = |name: &str| -> Value {
            serde_json::from_slice(&std::fs::read(folder.path().join(name)).unwrap()).unwrap()
        };
        assert_eq!(read("config.json")["pad_token_id"], json!(0), "{pad}");
        let saved = read("tokenizer_config.json");
        assert_eq!(saved["pad_token"], json!(pad));
        assert_eq!(saved["model_input_names"], json!(["input_ids", "attention_mask"]));
    }
}

#[test]
fn every_family_comes_back_bit_by_bit() {
    for name in ["llama", "llama-31", "mistral", "qwen2"] {
        let target = tempfile::tempdir().unwrap();
        let opened = Lm::open(&folder(name), CPU, Kind::BFloat16).unwrap();
        opened.save(target.path()).unwrap();
        let again = Lm::open(target.path(), CPU, Kind::BFloat16).unwrap();
        assert_same(&opened.parameters(), &again.parameters());
        assert_eq!(opened.model.info(), again.model.info(), "{name}");
        let second = tempfile::tempdir().unwrap();
        again.save(second.path()).unwrap();
        let saved = [&target, &second]
            .map(|folder| std::fs::read(folder.path().join("config.json")).unwrap());
        assert_eq!(saved[0], saved[1], "{name}");
        let fresh = Lm::new(opened.config, 3, CPU).unwrap();
        assert!(
            fresh.parameters().iter().all(|(name, values)| name.ends_with("bias")
                || values.abs().max().double_value(&[]) > 0.0)
        );
    }
    assert_eq!(open(&folder("llama-31")).model.info().eos_token_ids, [2, 5]);
}

/// The golden folders' own files, as transformers wrote them, must come back to the byte.
#[test]
#[ignore = "needs Python: make judge"]
fn the_safetensors_package_reads_from_our_files_what_transformers_wrote() {
    let target = tempfile::tempdir().unwrap();
    let mut pairs = Vec::new();
    let mut saved = |name: &str, save: &dyn Fn(&Path, &Path)| {
        let (ours, theirs) = (target.path().join(name), folder(name));
        save(&theirs, &ours);
        pairs.extend([ours, theirs]);
    };
    for (name, kind) in [
        ("gpt2", Kind::Float),
        ("gpt2-scaled", Kind::Float),
        ("gpt2-bf16", Kind::BFloat16),
        ("llama", Kind::BFloat16),
        ("llama-31", Kind::BFloat16),
        ("mistral", Kind::BFloat16),
        ("qwen2", Kind::BFloat16),
    ] {
        saved(name, &|theirs, ours| Lm::open(theirs, CPU, kind).unwrap().save(ours).unwrap());
    }
    for name in ["bert", "distilbert"] {
        saved(name, &|theirs, ours| {
            Classifier::open(theirs, CPU, Kind::Float).unwrap().save(ours).unwrap()
        });
    }
    for name in ["gpt2-reward", "llama-reward"] {
        saved(name, &|theirs, ours| {
            RewardModel::open(theirs, CPU, Kind::Float).unwrap().save(ours).unwrap()
        });
    }
    judge::ask("judge/same_tensors.py", &pairs.iter().map(PathBuf::as_path).collect::<Vec<_>>());
}

#[test]
#[ignore = "needs Python with torch: make judge-heavy"]
fn transformers_opens_what_we_save() {
    let target = tempfile::tempdir().unwrap();
    let mut expected = serde_json::Map::new();
    let rows = |tensor: &Tensor| {
        Vec::<Vec<f64>>::try_from(
            tensor.to_kind(Kind::Double).view([-1, tensor.size()[tensor.dim() - 1]]),
        )
        .unwrap()
    };
    let ids = Tensor::arange(24, (Kind::Int64, CPU)).view([2, 12]);
    let ids_json = Vec::<Vec<i64>>::try_from(&ids).unwrap();
    for (name, tied, kind, tolerance) in [
        ("tied", true, Kind::Float, 1e-4),
        ("untied", false, Kind::Float, 1e-4),
        ("bf16", true, Kind::BFloat16, 2e-2),
    ] {
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
        expected.insert(
            name.into(),
            json!({
                "class": "AutoModelForCausalLM",
                "ids": ids_json,
                "logits": logits,
                "tolerance": tolerance
            }),
        );
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
    let classifier = Classifier::new(ClassifierConfig::DistilBert(config), 3, CPU).unwrap();
    classifier.save(&target.path().join("classifier")).unwrap();
    let answers = tch::no_grad(|| rows(&classifier.logits(&ids, &ids.ge(0))));
    expected.insert(
        "classifier".into(),
        json!({
            "class": "AutoModelForSequenceClassification",
            "ids": ids_json,
            "logits": answers,
            "tolerance": 1e-4
        }),
    );
    for name in ["llama", "llama-31", "mistral", "qwen2"] {
        let lm = open(&folder(name));
        lm.save(&target.path().join(name)).unwrap();
        let logits = rows(&golden::logits(&lm, &ids));
        expected.insert(
            name.into(),
            json!({
                "class": "AutoModelForCausalLM",
                "ids": ids_json,
                "logits": logits,
                "tolerance": 1e-4
            }),
        );
    }
    for name in ["llama-reward", "gpt2-reward", "ultrarm", "starling"] {
        let reward = RewardModel::open(&folder(name), CPU, Kind::Float).unwrap();
        reward.save(&target.path().join(name)).unwrap();
        let input =
            Input { ids: &ids, positions: &golden::positions(&ids), valid: None, packing: None };
        let rewards = rows(&reward.rewards(&input, &Tensor::from_slice(&[11i64, 11])).unsqueeze(1));
        let class = "AutoModelForSequenceClassification";
        expected.insert(
            name.into(),
            json!({ "class": class, "ids": ids_json, "logits": rewards, "tolerance": 1e-4 }),
        );
    }
    std::fs::write(target.path().join("expected.json"), Value::Object(expected).to_string())
        .unwrap();
    judge::ask("golden/check_saved.py", &[target.path()]);
}
