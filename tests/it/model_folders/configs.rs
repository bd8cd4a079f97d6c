//! What config.json and the files beside it decide, and misfits.

use serde_json::{Value, json};
use tch::Kind;
use w2s::models::{Classifier, Gpt2Config, Lm, LmConfig, TokenIds, open_with_tokenizer};

use super::{CPU, small};
use crate::golden::edit::{assert_same, copy, edit_json, open, refusal};
use crate::golden::folder;

#[test]
fn new_models_start_as_gpt2_does_and_only_the_seed_decides() {
    let new =
        |seed| Lm::new(LmConfig::Gpt2(Gpt2Config { n_embd: 64, ..small() }), seed, CPU).unwrap();
    let lm = new(5);
    assert_same(&lm.parameters(), &new(5).parameters());
    let embedding = |lm: &Lm| {
        lm.parameters().into_iter().find(|(name, _)| name == "transformer.wte.weight").unwrap().1
    };
    assert!(!embedding(&lm).equal(&embedding(&new(6))));
    for (name, parameter) in lm.parameters() {
        let (mean, deviation) =
            (parameter.mean(Kind::Float).double_value(&[]), parameter.std(false).double_value(&[]));
        let (expected_mean, expected) = match name.as_str() {
            name if name.ends_with("bias") => (0.0, 0.0),
            name if name.contains("ln_") => (1.0, 0.0),
            name if name.contains("c_proj") => (0.0, 0.02 / 6f64.sqrt()),
            _ => (0.0, 0.02),
        };
        let standard_error = expected / (parameter.numel() as f64).sqrt();
        assert!((mean - expected_mean).abs() <= 4.5 * standard_error, "{name}: mean {mean}");
        assert!(
            (deviation - expected).abs() <= 4.5 * standard_error,
            "{name}: deviation {deviation}"
        );
    }
}

#[test]
fn generation_config_decides_where_sequences_end() {
    let target = copy("gpt2");
    edit_json(&target.path().join("config.json"), |config| config["eos_token_id"] = json!([4, 5]));
    edit_json(&target.path().join("generation_config.json"), |config| {
        config["eos_token_id"] = Value::Null
    });
    assert_eq!(open(target.path()).model.info().eos_token_ids, [4, 5]);
    edit_json(&target.path().join("generation_config.json"), |config| {
        config["eos_token_id"] = json!([6, 7, 8])
    });
    assert_eq!(open(target.path()).model.info().eos_token_ids, [6, 7, 8]);
    std::fs::remove_file(target.path().join("generation_config.json")).unwrap();
    assert_eq!(open(target.path()).model.info().eos_token_ids, [4, 5]);
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
    assert!(message(&|c| c["model_type"] = json!("bloom")).ends_with(
        "config.json: `model_type` is `bloom`; supported language models: `gpt2`, `llama`, \
         `mistral`, `qwen2`"
    ));
    assert!(message(&|c| c["model_type"] = Value::Null).ends_with(
        "there is no `model_type`; supported language models: `gpt2`, `llama`, `mistral`, `qwen2`"
    ));
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
    assert!(
        Lm::new(impossible, 1, CPU)
            .err()
            .unwrap()
            .to_string()
            .contains("`n_head` = 7 does not divide `n_embd` = 24")
    );
}

#[test]
fn the_positive_label_is_found_by_name_or_refused() {
    let target = copy("distilbert");
    let config = target.path().join("config.json");
    let open = |labels: Value| {
        edit_json(&config, |config| config["id2label"] = labels);
        Classifier::open(target.path(), CPU, Kind::Float)
            .map(|classifier| classifier.positive_label())
            .map_err(|error| error.to_string())
    };
    assert_eq!(open(json!({ "0": "positive", "1": "negative" })), Ok(0));
    assert_eq!(open(json!({ "0": "bad", "1": "very Positive" })), Ok(1));
    assert_eq!(open(json!({ "0": "LABEL_0", "1": "LABEL_1" })), Ok(1));
    for labels in
        [json!({ "0": "bad", "1": "good" }), json!({ "0": "not positive", "1": "positive!" })]
    {
        assert!(
            open(labels)
                .unwrap_err()
                .contains("`id2label` does not say which label is the positive one: ")
        );
    }
    assert!(
        open(json!({ "0": "NEGATIVE", "2": "POSITIVE" }))
            .unwrap_err()
            .contains("must name the labels 0, 1, …")
    );
    assert!(
        open(json!({ "zero": "NEGATIVE" }))
            .unwrap_err()
            .contains("key `zero`, which is not a number")
    );
    let three = open(json!({ "0": "NEGATIVE", "1": "POSITIVE", "2": "NEUTRAL" })).unwrap_err();
    assert!(
        three
            .contains("tensor `classifier.weight` has shape [2, 16], config.json asks for [3, 16]"),
        "{three}"
    );
    assert!(refusal(target.path()).contains(
        "`model_type` is `distilbert`; supported language models: `gpt2`, `llama`, `mistral`, \
         `qwen2`"
    ));
}

#[test]
fn configs_of_the_llama_family_are_checked() {
    let target = copy("llama");
    let config = target.path().join("config.json");
    let original = std::fs::read(&config).unwrap();
    let message = |edit: &dyn Fn(&mut Value)| {
        std::fs::write(&config, &original).unwrap();
        edit_json(&config, edit);
        refusal(target.path())
    };
    for (key, value, expected) in [
        (
            "num_key_value_heads",
            json!(3),
            "`num_key_value_heads` = 3 does not divide `num_attention_heads` = 4",
        ),
        ("head_dim", json!(5), "`head_dim` = 5 must be even"),
        ("hidden_act", json!("relu"), "`hidden_act` = `relu` is not supported"),
        (
            "rope_parameters",
            json!({ "rope_type": "yarn" }),
            "rope scaling of type `yarn` is not supported",
        ),
        (
            "layer_types",
            json!(["full_attention"]),
            "`layer_types` names 1 layers, `num_hidden_layers` is 2",
        ),
        (
            "vocab_size",
            json!(96),
            "tensor `lm_head.weight` has shape [97, 16], config.json asks for [96, 16]",
        ),
        (
            "num_hidden_layers",
            json!(1),
            "unexpected tensor `model.layers.1.input_layernorm.weight` [16]",
        ),
        ("tie_word_embeddings", json!("yes"), "invalid type: string \"yes\""),
    ] {
        let found = message(&|c| c[key] = value.clone());
        assert!(found.contains(expected), "{key}: {expected} is not in\n{found}");
    }
}

#[test]
fn a_tokenizer_must_fit_its_model() {
    let target = copy("llama");
    let texts = ["one two three four five six seven eight".to_owned()];
    w2s::text::Tokenizer::train_bpe(texts.into_iter(), 262).unwrap().save(target.path()).unwrap();
    let open = || {
        open_with_tokenizer(target.path(), CPU, Kind::Float)
            .err()
            .expect("they do not fit")
            .to_string()
    };
    assert!(open().contains("the tokenizer has ids up to 26"), "{}", open());
    assert!(open().contains("the embedding of config.json has 97 rows"), "{}", open());
    let mut config = w2s::models::LmConfig::read(&folder("llama")).unwrap();
    let LmConfig::Llama(llama) = &mut config else { panic!("a llama") };
    (llama.vocab_size, llama.eos_token_id) = (300, None);
    Lm::new(config, 1, CPU).unwrap().save(target.path()).unwrap();
    let (lm, tokenizer) = open_with_tokenizer(target.path(), CPU, Kind::Float).unwrap();
    assert_eq!(
        Some(lm.model.info().eos_token_ids[0]),
        tokenizer.eos_id(),
        "the tokenizer's, where the configs name none"
    );
    edit_json(&target.path().join("generation_config.json"), |config| {
        config["eos_token_id"] = json!(300)
    });
    assert!(
        open().contains("the end-of-sequence id 300 is not among the 300 of the embedding"),
        "{}",
        open()
    );
    edit_json(&target.path().join("generation_config.json"), |config| {
        config["eos_token_id"] = Value::Null
    });
    edit_json(&target.path().join("tokenizer_config.json"), |config| {
        config["eos_token"] = Value::Null
    });
    assert!(open().contains("there is no end-of-sequence token"), "{}", open());
}

/// Many folders of tuned models hold a token for padding that was added without a row for it.
#[test]
fn a_token_that_is_never_read_needs_no_row() {
    let folder = tempfile::tempdir().unwrap();
    let texts = ["a story that is never boring".to_owned()];
    let tokenizer = w2s::text::Tokenizer::train_bpe(texts.into_iter(), 270).unwrap();
    tokenizer.save(folder.path()).unwrap();
    let rows = tokenizer.vocab_size() as i64;
    let config = Gpt2Config {
        vocab_size: rows,
        eos_token_id: Some(TokenIds::One(0)),
        bos_token_id: None,
        ..super::small()
    };
    Lm::new(LmConfig::Gpt2(config), 1, CPU).unwrap().save(folder.path()).unwrap();
    let plain = open_with_tokenizer(folder.path(), CPU, Kind::Float).unwrap().1;
    let config = folder.path().join("tokenizer_config.json");
    let named = |role: &str, token: &str| {
        let mut fields: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
        fields[role] = json!(token);
        std::fs::write(&config, fields.to_string()).unwrap();
    };
    named("pad_token", "<pad>");
    let (_, padded) = open_with_tokenizer(folder.path(), CPU, Kind::Float).unwrap();
    assert_eq!((padded.pad_id(), padded.largest_id()), (Some(rows), rows));
    assert_eq!(padded.vocabulary(), plain.vocabulary(), "ids still pass between them");
    assert_eq!(padded.encode("a story").unwrap(), plain.encode("a story").unwrap());
    for error in [padded.encode("a <pad> story"), padded.encode_continuation("<pad>")] {
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains(&format!("a text holds `<pad>` (id {rows}), and the embedding"))
                && error.contains(&format!("has {rows} rows, none for it\n\nhint: ")),
            "{error}"
        );
    }
    named("bos_token", "<begin>");
    let error = open_with_tokenizer(folder.path(), CPU, Kind::Float).err().unwrap().to_string();
    assert!(error.contains("puts `<begin>` (id"), "{error}");
}
