//! Models that cannot be used: told before any work, by headers alone, all of them at once, and by
//! every command alike.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{failure, success, tiny_model, w2s};
use crate::golden::edit::{copy, edit_json, refusal};
use crate::golden::folder;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use w2s::models::weights::{read_tensors, write_tensors};
use w2s::models::{Lm, RewardModel, check_lm_folder};
use w2s::recipe::{Lora, LoraSave};
use w2s::score::JudgeModel;

const CPU: Device = Device::Cpu;

fn edit_weights(folder: &Path, edit: impl FnOnce(&mut BTreeMap<String, Tensor>)) {
    let path = folder.join("model.safetensors");
    let mut tensors = read_tensors(&path).unwrap();
    edit(&mut tensors);
    write_tensors(&path, &tensors.into_iter().collect::<Vec<_>>(), &[]).unwrap();
}

/// A copy of the tiny model below `folder`.
fn model(folder: &Path, name: &str) -> PathBuf {
    tiny_model(&folder.join(name))
}

/// As a repository on the hub cuts it: every tensor of a block in its own shard, named by an index.
fn shard(model: &Path) {
    let tensors = read_tensors(&model.join("model.safetensors")).unwrap();
    fs::remove_file(model.join("model.safetensors")).unwrap();
    let mut map = serde_json::Map::new();
    for (number, block) in ["h.0", "h.1", ""].into_iter().enumerate() {
        let of_block =
            |name: &str| name.contains(block) && (!block.is_empty() || !name.contains(".h."));
        let part: Vec<_> = tensors
            .iter()
            .filter(|(name, _)| of_block(name))
            .map(|(name, t)| (name.clone(), t.shallow_clone()))
            .collect();
        let file = format!("model-0000{}-of-00003.safetensors", number + 1);
        map.extend(part.iter().map(|(name, _)| (name.clone(), json!(file))));
        write_tensors(&model.join(file), &part, &[]).unwrap();
    }
    fs::write(model.join("model.safetensors.index.json"), json!({ "weight_map": map }).to_string())
        .unwrap();
}

fn cut(file: &Path) {
    let whole = fs::read(file).unwrap();
    fs::write(file, &whole[..whole.len() - 8]).unwrap();
}

/// An adapter of the model `base`.
fn adapter(base: &Path, folder: &Path, edit: impl FnOnce(&mut Value)) {
    let lora =
        Lora { rank: 4, alpha: 6.0, targets: vec!["c_attn".to_owned()], save: LoraSave::Adapter };
    Lm::open_lora(base, CPU, Kind::Float, &lora, 1).unwrap().save(folder).unwrap();
    edit_json(&folder.join("adapter_config.json"), edit);
}

fn quantise(model: &Path) {
    edit_json(&model.join("config.json"), |config| {
        config["quantization_config"] =
            json!({ "quant_method": "bitsandbytes", "load_in_4bit": true });
    });
}

const QUANTISED: &str = "`quantization_config`: the weights are quantised by bitsandbytes to 4 \
                         bits, and only F16, BF16, F32 and F64 are read";

#[test]
fn one_check_tells_every_problem_of_every_model() {
    let scratch = tempfile::tempdir().unwrap();
    let of = |name: &str| model(scratch.path(), name);
    let (quantised, no_embedding, truncated, foreign, integers) =
        (of("quantised"), of("no-embedding"), of("truncated"), of("foreign"), of("integers"));
    quantise(&quantised);
    edit_weights(&no_embedding, |tensors| drop(tensors.remove("transformer.wte.weight")));
    shard(&truncated);
    cut(&truncated.join("model-00001-of-00003.safetensors"));
    fs::remove_file(truncated.join("model-00002-of-00003.safetensors")).unwrap();
    edit_json(&foreign.join("tokenizer.json"), |tokenizer| {
        tokenizer["model"]["vocab"]["beyond"] = json!(200)
    });
    edit_json(&foreign.join("generation_config.json"), |config| config["eos_token_id"] = json!(99));
    edit_weights(&integers, |tensors| {
        drop(tensors.insert("transformer.ln_f.bias".into(), Tensor::zeros([16], (Kind::Int, CPU))))
    });
    let (sound, on_head, magnitudes) =
        (of("sound"), scratch.path().join("on-head"), scratch.path().join("magnitudes"));
    adapter(&sound, &on_head, |config| config["target_modules"] = json!(["c_attn", "lm_head"]));
    adapter(&sound, &magnitudes, |config| config["use_dora"] = json!(true));
    for (adapter, file) in [&on_head, &magnitudes]
        .into_iter()
        .flat_map(|adapter| [(adapter, "tokenizer.json"), (adapter, "tokenizer_config.json")])
    {
        fs::copy(sound.join(file), adapter.join(file)).unwrap();
    }
    let rule = of("rule");
    edit_json(&rule.join("config.json"), |config| {
        drop(config.as_object_mut().unwrap().remove("vocab_size"))
    });
    let gold = of("gold");
    for file in ["config.json", "model.safetensors"] {
        fs::copy(folder("distilbert").join(file), gold.join(file)).unwrap();
    }
    edit_json(&gold.join("config.json"), |config| {
        config["id2label"] = json!({ "0": "bad", "1": "so-so", "2": "positive" })
    });

    let models = [
        ("quantised", &quantised),
        ("no-embedding", &no_embedding),
        ("truncated", &truncated),
        ("foreign", &foreign),
        ("integers", &integers),
        ("on-head", &on_head),
        ("magnitudes", &magnitudes),
        ("sound", &sound),
    ];
    let recipe = scratch.path().join("recipe.toml");
    let write = |models: &[(&str, &PathBuf)]| {
        let tables: Vec<String> = models
            .iter()
            .map(|(name, folder)| format!("[models.{name}]\nid = \"{}\"\n", folder.display()))
            .collect();
        let text = format!(
            "[run]\nname = \"x\"\n[data]\nsource = \"builtin:reviews\"\ntrain = 8\nvalidation = \
             8\ntest = 8\n[data.prompt]\nmax_words = 4\n\
             {}[gold]\nid = \"{}\"\n[steer]\nbases = [\"quantised\", \"sound\"]\nprompts = \
             2\nmax_new_tokens = 8\n[[steer.method]]\nkind = \"base\"\n",
            tables.concat(),
            gold.display()
        );
        fs::write(&recipe, text).unwrap();
    };
    let expected = [
        format!("`models.quantised.id`: {}/config.json: {QUANTISED}", quantised.display()),
        format!("`models.no-embedding.id`: {}: missing tensor `transformer.wte.weight` [97, 16]", no_embedding.display()),
        "model-00002-of-00003.safetensors`".to_owned(),
        "model-00001-of-00003.safetensors: not a whole safetensors file".to_owned(),
        "the tokenizer has ids up to 200, the embedding of config.json has 97 rows".to_owned(),
        "the end-of-sequence id 99 is not among the 97 of the embedding".to_owned(),
        "tensor `transformer.ln_f.bias` is stored as I32, which is not supported: weights are F16, \
         BF16, F32 or F64".to_owned(),
        "`target_modules` takes in `lm_head`, which is no linear layer of a block".to_owned(),
        "`use_dora` = true is not supported".to_owned(),
        format!("`gold.id`: {}: its weights are of 2 labels, `id2label` in config.json names 3", gold.display()),
    ];
    write(&models);
    let (check, run) = (&mut w2s(), &mut w2s());
    check.arg("check").arg(&recipe);
    run.arg("run").arg(&recipe).arg("--out").arg(scratch.path().join("out"));
    for command in [&mut *check, &mut *run] {
        let error = failure(command, 2);
        for line in &expected {
            assert!(error.contains(line), "{line}\nis not in\n{error}");
        }
        assert!(error.contains("8 problems") && !error.contains("models.sound"), "{error}");
        assert!(
            !error.contains("missing tensor `transformer.h."),
            "what lies in shards that are gone is not missing: {error}"
        );
    }
    // What the recipe's own rules find hides nothing.
    write(&[&models[..], &[("rule", &rule)]].concat());
    for command in [check, run] {
        let error = failure(command, 2);
        assert!(error.contains("`models.rule.id`: its config.json has no `vocab_size`"), "{error}");
        assert!(
            expected.iter().all(|line| error.contains(line)) && error.contains("9 problems"),
            "{error}"
        );
    }
    assert!(!scratch.path().join("out/manifest.json").exists(), "before any work");
}

#[test]
fn the_shell_tells_all_models_at_once_too() {
    let scratch = tempfile::tempdir().unwrap();
    let (base, tuned, untuned) = (
        model(scratch.path(), "base"),
        model(scratch.path(), "tuned"),
        model(scratch.path(), "untuned"),
    );
    quantise(&base);
    edit_weights(&tuned, |tensors| drop(tensors.remove("transformer.wte.weight")));
    cut(&untuned.join("model.safetensors"));
    let expected = [
        QUANTISED,
        "missing tensor `transformer.wte.weight` [97, 16]",
        "not a whole safetensors file",
    ];
    let with_models = |command: &mut std::process::Command| {
        command.arg("--base").arg(&base).arg("--tuned").arg(&tuned).arg("--untuned").arg(&untuned);
        failure(command, 1)
    };
    let steer = with_models(w2s().args(["steer", "ok"]).arg("--gold").arg(&untuned));
    for error in [&steer, &with_models(w2s().args(["bench", "steer"]))] {
        assert!(expected.iter().all(|line| error.contains(line)), "{error}");
    }
    assert!(steer.contains("2 problems") || steer.contains("4 problems"), "{steer}");
    let error = failure(w2s().args(["bench", "sft", "--base"]).arg(&base), 1);
    assert!(error.contains(QUANTISED), "{error}");
    let report = success(w2s().arg("doctor").args([&base, &tuned, &untuned]));
    assert!(expected.iter().all(|line| report.contains(line)), "{report}");
    let sound = model(scratch.path(), "sound");
    let report = success(w2s().arg("doctor").arg(&sound));
    assert!(
        report.contains("  weights        their headers are as config.json asks for"),
        "{report}"
    );
}

#[test]
fn misfits_are_named_up_to_a_bound() {
    let target = copy("gpt2");
    edit_json(&target.path().join("config.json"), |config| config["n_layer"] = json!(40));
    let message = refusal(target.path());
    assert_eq!(message.matches("missing tensor `").count(), 8, "{message}");
    assert!(message.contains("\n  … and 448 more tensors are missing"), "{message}"); // 38 layers of 12
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

#[test]
fn an_adapter_that_training_cannot_go_on_with_is_told_before_any_work() {
    let scratch = tempfile::tempdir().unwrap();
    let (base, saved, recipe) = (
        model(scratch.path(), "base"),
        scratch.path().join("adapter"),
        scratch.path().join("recipe.toml"),
    );
    adapter(&base, &saved, |_| {});
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(base.join(file), saved.join(file)).unwrap();
    }
    let pair = |prompt: char| {
        format!("{{\"prompt\": \"{prompt}\", \"chosen\": \"B\", \"rejected\": \"C\"}}\n")
    };
    fs::write(scratch.path().join("pairs.jsonl"), "ABCDEFGH".chars().map(pair).collect::<String>())
        .unwrap();
    let check = |lora: &str| {
        let text = format!(
            "[run]\nname = \"x\"\n[data]\nsource = \"builtin:reviews\"\ntrain = 8\nvalidation = \
             8\ntest = 8\n[data.prompt]\nmax_words = 4\n\
             [models.guide]\nid = \"{}\"\n[preferences]\npolicy = \"guide\"\nsource = \
             \"pairs.jsonl\"\nlabel = \"kept\"\nvalidation_pairs = 2\n\
             [dpo]\nlora = {lora}\n[dpo.training]\nmax_length = 16\n",
            saved.display()
        );
        fs::write(&recipe, text).unwrap();
        let mut command = w2s();
        command.arg("check").arg(&recipe);
        command
    };
    let error = failure(&mut check("{ rank = 3, alpha = 6.0 }"), 2);
    assert!(
        error.contains("`models.guide.id`: ")
            && error.contains("holds an adapter of rank 4 and alpha 6"),
        "{error}"
    );
    let error = failure(&mut check("{ rank = 4, alpha = 6.0, targets = ['c_attn', 'c_fc'] }"), 2);
    assert!(
        error.contains(
            "that stands not on `transformer.h.0.mlp.c_fc`, and training would go on with it"
        ),
        "{error}"
    );
    edit_json(&saved.join("adapter_config.json"), |config| config["use_rslora"] = json!(true));
    let error = failure(&mut check("{ rank = 4, alpha = 6.0 }"), 2);
    assert!(
        error.contains("whose rank on `transformer.h.0.attn.c_attn` is 4 and its scale 3"),
        "{error}"
    );
    edit_json(&saved.join("adapter_config.json"), |config| config["use_rslora"] = json!(false));
    success(&mut check("{ rank = 4, alpha = 6.0 }"));
}

/// 80 layers in 30 shards with real shapes, sparse on disk: 140 GB of zeros that nobody may read.
#[test]
fn the_shards_of_a_70b_model_are_checked_by_their_headers() {
    let scratch = tempfile::tempdir().unwrap();
    let target = model(scratch.path(), "large");
    fs::remove_file(target.join("model.safetensors")).unwrap();
    let config = json!({ "model_type": "llama", "vocab_size": 32000, "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
                         "num_attention_heads": 64, "num_key_value_heads": 8, "max_position_embeddings": 4096, "eos_token_id": 0 });
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
