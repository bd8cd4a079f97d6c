//! What headers alone tell.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tch::{Kind, Tensor};
use w2s::models::{Lm, RewardModel, check_lm_folder};
use w2s::score::JudgeModel;

use super::{CPU, QUANTISED, adapter, edit_weights, model, quantise};
use crate::golden::edit::{copy, edit_json, refusal};
use crate::golden::folder;

#[test]
fn misfits_are_named_up_to_a_bound() {
    let target = copy("gpt2");
    edit_json(&target.path().join("config.json"), |config| config["n_layer"] = json!(40));
    let message = refusal(target.path());
    assert_eq!(message.matches("missing tensor `").count(), 8, "{message}");
    assert!(
        message.contains(
            "\n  … and 448 more tensors are \
                              missing"
        ),
        "{message}"
    ); // 38 layers of 12
    edit_json(&target.path().join("config.json"), |config| config["n_layer"] = json!(1_u64 << 40));
    assert!(refusal(target.path()).contains("`n_layer` is 1099511627776, more than any model has"));
}

#[test]
fn quantised_tensors_are_told_as_such_without_a_word_in_the_config() {
    let target = copy("llama");
    edit_weights(target.path(), |tensors| {
        let name = "model.layers.0.mlp.up_proj";
        tensors.remove(&format!("{name}.weight"));
        tensors.insert(format!("{name}.qweight"), Tensor::zeros([2, 8], (Kind::Int, CPU)));
        tensors.insert(format!("{name}.qzeros"), Tensor::zeros([1, 8], (Kind::Int, CPU)));
        tensors.insert("model.norm.weight".into(), Tensor::zeros([16], (Kind::Int8, CPU)));
    });
    let message = refusal(target.path());
    for line in [
        "unexpected tensor `model.layers.0.mlp.up_proj.qweight` [2, 8]",
        "hint: these are quantised weights: name the folder of the model that they were made of",
        "missing tensor `model.layers.0.mlp.up_proj.weight`",
        "tensor `model.norm.weight` is stored as I8, which is not supported",
    ] {
        assert!(message.contains(line), "{line}\nis not in\n{message}");
    }
    // Old tools write a file beside the config.
    let target = copy("llama");
    fs::write(target.path().join("quantize_config.json"), r#"{"bits": 4}"#).unwrap();
    assert!(
        refusal(target.path())
            .contains("`quantize_config.json` lies beside it: the weights are quantised")
    );
}

#[test]
fn a_head_that_is_tied_and_another_is_refused() {
    let target = copy("gpt2");
    let with_head = |head: &dyn Fn(&Tensor) -> Tensor| {
        edit_weights(target.path(), |tensors| {
            let embedding = tensors["transformer.wte.weight"].shallow_clone();
            tensors.insert("lm_head.weight".into(), head(&embedding));
        });
    };
    with_head(&|embedding| embedding.copy());
    assert!(Lm::open(target.path(), CPU, Kind::BFloat16).is_ok(), "the same again");
    with_head(&|embedding| embedding * 1.5);
    let message = refusal(target.path());
    assert!(
        message.contains(
            "`tie_word_embeddings` in config.json is true, but its `lm_head.weight` is not the \
             embedding"
        ),
        "{message}"
    );
    assert!(
        message
            .contains("hint: transformers 5 takes them as two: set `tie_word_embeddings` to false"),
        "{message}"
    );
    with_head(&|embedding| embedding.narrow(0, 0, 90).copy());
    let message = refusal(target.path());
    assert!(
        message.contains(
            "tensor `lm_head.weight` has shape [90, 16], the embedding that it is tied to [97, 16]"
        ),
        "{message}"
    );
    // Without the tie the head must be there.
    let target = copy("gpt2");
    edit_json(&target.path().join("config.json"), |config| {
        config["tie_word_embeddings"] = json!(false)
    });
    assert!(refusal(target.path()).contains("missing tensor `lm_head.weight` [97, 16]"));
}

#[test]
fn judges_are_checked_by_their_headers() {
    let scratch = tempfile::tempdir().unwrap();
    let judge = |name: &str| {
        let target = model(scratch.path(), name);
        for file in ["config.json", "model.safetensors"] {
            fs::copy(folder(name).join(file), target.join(file)).unwrap();
        }
        target
    };
    let refused = |folder: &Path| {
        JudgeModel::check_folder(folder).expect_err("this folder must be refused").to_string()
    };
    let reward = judge("gpt2-reward");
    JudgeModel::check_folder(&reward).unwrap();
    edit_weights(&reward, |tensors| {
        drop(tensors.insert("score.weight".into(), Tensor::zeros([3, 16], (Kind::Float, CPU))));
        tensors.remove("transformer.h.0.ln_1.weight");
    });
    let message = refused(&reward);
    assert!(
        message.contains("`score.weight` gives 3 numbers for a text, a reward model gives one"),
        "{message}"
    );
    assert!(
        message.contains("missing tensor `transformer.h.0.ln_1.weight` [16]")
            && message.contains("2 problems"),
        "{message}"
    );
    assert_eq!(RewardModel::open(&reward, CPU, Kind::Float).err().unwrap().to_string(), message);
    for name in ["distilbert", "bert"] {
        let classifier = judge(name);
        JudgeModel::check_folder(&classifier).unwrap();
        edit_weights(&classifier, |tensors| drop(tensors.remove("classifier.bias")));
        assert!(refused(&classifier).contains("missing tensor `classifier.bias`"));
        quantise(&classifier);
        assert!(refused(&classifier).contains(QUANTISED));
    }
    let adapters = scratch.path().join("adapters");
    adapter(&folder("gpt2"), &adapters, |config| {
        config["base_model_name_or_path"] = json!(folder("distilbert"))
    });
    assert!(refused(&adapters).contains(
        "hint: it is a PEFT adapter, and only language and reward models may be one here: merge it"
    ));
    let adapters = scratch.path().join("adapters of a language model");
    adapter(&folder("gpt2"), &adapters, |_| {});
    let message = refused(&adapters);
    assert!(
        message.contains(
            "`task_type` is `CAUSAL_LM`, only adapters of reward models (`SEQ_CLS`) are supported"
        ),
        "{message}"
    );
    assert!(message.contains("hint: a language model's `lm_head` gives no reward"), "{message}");
}

/// 80 layers in 30 shards with real shapes, sparse on disk: 140 GB of zeros that nobody may read.
#[test]
fn the_shards_of_a_70b_model_are_checked_by_their_headers() {
    let scratch = tempfile::tempdir().unwrap();
    let target = model(scratch.path(), "large");
    fs::remove_file(target.join("model.safetensors")).unwrap();
    let config = json!({
        "model_type": "llama", "vocab_size": 32000, "hidden_size": 8192,
        "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64,
        "num_key_value_heads": 8, "max_position_embeddings": 4096, "eos_token_id": 0
    });
    fs::write(target.join("config.json"), config.to_string()).unwrap();
    let mut tensors: Vec<(String, Vec<u64>)> = ["model.embed_tokens", "lm_head"]
        .map(|name| (format!("{name}.weight"), vec![32000, 8192]))
        .to_vec();
    tensors.push(("model.norm.weight".into(), vec![8192]));
    for layer in 0..80 {
        let (wide, narrow) = (8192, 1024);
        for (name, shape) in [
            ("input_layernorm", vec![wide]),
            ("post_attention_layernorm", vec![wide]),
            ("self_attn.q_proj", vec![wide, wide]),
            ("self_attn.k_proj", vec![narrow, wide]),
            ("self_attn.v_proj", vec![narrow, wide]),
            ("self_attn.o_proj", vec![wide, wide]),
            ("mlp.gate_proj", vec![28672, wide]),
            ("mlp.up_proj", vec![28672, wide]),
            ("mlp.down_proj", vec![wide, 28672]),
        ] {
            tensors.push((format!("model.layers.{layer}.{name}.weight"), shape));
        }
    }
    let mut map = serde_json::Map::new();
    for (number, part) in tensors.chunks(25).enumerate() {
        let (mut header, mut end) = (serde_json::Map::new(), 0);
        for (name, shape) in part {
            let start = end;
            end += 2 * shape.iter().product::<u64>();
            header.insert(
                name.clone(),
                json!({ "dtype": "BF16", "shape": shape, "data_offsets": [start, end] }),
            );
            map.insert(name.clone(), json!(format!("model-{number:05}.safetensors")));
        }
        let mut bytes = Value::Object(header).to_string().into_bytes();
        bytes.resize(bytes.len().next_multiple_of(8), b' ');
        let path = target.join(format!("model-{number:05}.safetensors"));
        fs::write(&path, [&(bytes.len() as u64).to_le_bytes()[..], &bytes].concat()).unwrap();
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(8 + bytes.len() as u64 + end)
            .unwrap();
    }
    fs::write(
        target.join("model.safetensors.index.json"),
        json!({ "weight_map": map }).to_string(),
    )
    .unwrap();
    let started = std::time::Instant::now();
    check_lm_folder(&target, true).unwrap();
    edit_json(&target.join("config.json"), |config| config["num_key_value_heads"] = json!(64));
    let message = check_lm_folder(&target, true).err().unwrap().to_string();
    assert!(
        message.contains(
            "self_attn.k_proj.weight` has shape [1024, 8192], config.json asks for [8192, 8192]"
        ),
        "{message}"
    );
    assert!(message.contains("… and 152 more tensors have another shape"), "{message}");
    assert!(started.elapsed().as_secs_f64() < 5.0, "{:?}", started.elapsed());
}
