//! Every problem of every model at once, by a recipe and by the shell.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use tch::{Kind, Tensor};
use w2s::models::weights::{read_tensors, write_tensors};

use super::{CPU, QUANTISED, adapter, edit_weights, model, quantise};
use crate::common::{failure, success, w2s};
use crate::golden::edit::edit_json;
use crate::golden::folder;

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
        format!("`models.no-embedding.id`: {}: missing tensor `transformer.wte.weight` [97, \
                 16]", no_embedding.display()),
        "model-00002-of-00003.safetensors`".to_owned(),
        "model-00001-of-00003.safetensors: not a whole safetensors file".to_owned(),
        "the tokenizer has ids up to 200, the embedding of config.json has 97 rows".to_owned(),
        "the end-of-sequence id 99 is not among the 97 of the embedding".to_owned(),
        "tensor `transformer.ln_f.bias` is stored as I32, which is not supported: weights are F16, \
         BF16, F32 or F64".to_owned(),
        "`target_modules` takes in the output layer, `lm_head`: only layers of blocks are adapted".to_owned(),
        "`use_dora` = true is not supported".to_owned(),
        format!("`gold.id`: {}: its weights are of 2 labels, `id2label` in config.json names \
                 3", gold.display()),
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
