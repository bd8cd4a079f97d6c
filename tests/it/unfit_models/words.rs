//! What is said of files that are no model, or another one than they seem, and of what their
//! configs ask for.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;
use tch::Tensor;

use super::{adapter, edit_weights, model};
use crate::common::{failure, output, stderr, stdout, success, w2s};
use crate::golden::edit::edit_json;

const POINTER: &str =
    "version https://git-lfs.github.com/spec/v1\noid sha256:abcdef\nsize 548118077\n";

fn doctor(folder: &Path) -> String {
    success(w2s().arg("doctor").arg(folder))
}

fn steer(base: &Path) -> std::process::Command {
    let mut command = w2s();
    command.args(["steer", "--method", "base", "--dtype", "float32", "--max-new-tokens", "3"]);
    command.arg("--base").arg(base).arg("AB");
    command
}

#[test]
fn a_link_to_nowhere_is_no_hub_id() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("owner/name");
    fs::create_dir(folder.path().join("owner")).unwrap();
    symlink("/nowhere", &link).unwrap();
    let mut command = w2s();
    command.current_dir(folder.path()).args([
        "steer",
        "--base",
        "owner/name",
        "--method",
        "base",
        "x",
    ]);
    let error = failure(&mut command, 1);
    assert!(error.contains("is a link to `/nowhere`, which is not there"), "{error}");
}

#[test]
fn pointers_of_git_lfs_and_links_to_nowhere_are_told_as_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let files = ["model.safetensors", "tokenizer.json", "config.json", "generation_config.json"];
    for (number, file) in files.into_iter().enumerate() {
        let model = model(folder.path(), &number.to_string());
        let path = model.join(file);
        fs::write(&path, POINTER).unwrap();
        let told = format!("{file}: is a git-lfs pointer, not the file that it stands for");
        let error = failure(&mut steer(&model), 1);
        assert!(error.contains(&told) && error.contains("hint: `git lfs pull`"), "{error}");
        assert!(doctor(&model).contains(&told), "{}", doctor(&model));

        fs::remove_file(&path).unwrap();
        symlink("/cache/hub/models--owner--tiny/blobs/abc", &path).unwrap();
        let told = format!(
            "{file}: is a link to `/cache/hub/models--owner--tiny/blobs/abc`, which is not there"
        );
        let error = failure(&mut steer(&model), 1);
        assert!(error.contains(&told), "{error}");
        assert!(error.contains("name the model by its id, `owner/tiny`"), "{error}");
        assert!(doctor(&model).contains(&told), "{}", doctor(&model));
    }
    // In a recipe too, and of data.
    let recipe = folder.path().join("r.toml");
    let text = "[run]\nname = \"words\"\n[data]\nsource = \"x.jsonl\"\ntrain = 1\n\
                validation = 1\ntest = 1\n[models.base]\nid = \"2/model\"\n[steer]\n\
                bases = [\"base\"]\nprompts = 1\nmax_new_tokens = 2\n\
                [[steer.method]]\nkind = \"base\"\n";
    fs::write(&recipe, text).unwrap();
    let data = folder.path().join("x.jsonl");
    symlink("nowhere.jsonl", &data).unwrap();
    let error = failure(w2s().arg("check").arg(&recipe), 2);
    let lost = "x.jsonl: is a link to `nowhere.jsonl`, which is not there";
    assert!(error.contains("`data.source`: ") && error.contains(lost), "{error}");
    assert!(error.contains("config.json: is a link to "), "{error}");
    assert!(!error.contains("holds no `config.json`"), "once: {error}");
    for name in ["x.jsonl", "x.csv", "x.json", "x.parquet", "x.jsonl.gz"] {
        let data = folder.path().join(name);
        let _ = fs::remove_file(&data);
        fs::write(&data, POINTER).unwrap();
        let error = w2s::text::load_dataset(
            &toml::from_str(&format!("source = {data:?}\ntrain = 1\nvalidation = 1\ntest = 1"))
                .unwrap(),
            1,
        );
        let error = error.err().unwrap().to_string();
        assert!(error.contains(&format!("{name}: is a git-lfs pointer")), "{error}");
    }
}

#[test]
fn a_shard_that_is_a_link_to_nowhere_is_told_with_its_target() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), "sharded");
    let weights = model.join("model.safetensors");
    fs::remove_file(&weights).unwrap();
    let index = json!({ "weight_map": { "a": "model-00001-of-00001.safetensors" } });
    fs::write(model.join("model.safetensors.index.json"), index.to_string()).unwrap();
    symlink("../blobs/abc", model.join("model-00001-of-00001.safetensors")).unwrap();
    let error = failure(&mut steer(&model), 1);
    assert!(
        error.contains("model-00001-of-00001.safetensors: is a link to `../blobs/abc`"),
        "{error}"
    );
}

#[test]
fn a_reward_model_of_two_labels_is_neither_a_language_nor_a_reward_model() {
    let folder = tempfile::tempdir().unwrap();
    let [base, judge] = ["base", "judge"].map(|name| model(folder.path(), name));
    edit_weights(&judge, |tensors| {
        tensors.insert("score.weight".to_owned(), Tensor::zeros([2, 16], tch::kind::FLOAT_CPU));
    });
    let told = doctor(&judge);
    assert!(
        told.contains("is a classifier of 2 labels (by its `score.weight`), neither"),
        "{told}"
    );
    assert!(!told.contains("it can be the `gold`"), "{told}");
    let error = failure(steer(&base).arg("--gold").arg(&judge), 1);
    assert!(
        error.contains("`score.weight` gives 2 numbers for a text, a reward model gives one")
            && error.contains("hint: it was trained as a classifier of 2 labels: train it with"),
        "{error}"
    );
}

#[test]
fn an_adapter_on_the_output_layer_says_how_to_merge_it_rightly() {
    let folder = tempfile::tempdir().unwrap();
    let base = model(folder.path(), "base");
    let path = folder.path().join("adapter");
    adapter(&base, &path, |config| config["target_modules"] = json!(["c_attn", "lm_head"]));
    // GPT-2's output layer is its embedding, which a plain merge would change too.
    let told = doctor(&path);
    assert!(told.contains("takes in the output layer, `lm_head`"), "{told}");
    assert!(
        told.contains(
            "give it weights of its own first, `base.config.tie_word_embeddings = False;"
        ) && told.contains("merge it in PEFT"),
        "{told}"
    );
}

#[test]
fn weights_of_inf_in_float32_are_not_sent_to_float32() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), "inf");
    edit_weights(&model, |tensors| {
        let norm = tensors.get_mut("transformer.ln_f.weight").unwrap();
        *norm = &*norm * f64::INFINITY;
    });
    let error = failure(&mut steer(&model), 1);
    assert!(
        error.contains("hint: its weights hold inf or NaN, or overflow even in float32: fetch")
            && !error.contains("try dtype"),
        "{error}"
    );
}

#[test]
fn ends_and_wishes_of_the_configs_are_told_once_by_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(folder.path(), "base");
    let agreed = doctor(&model);
    assert!(
        agreed.contains("  answers end at 0 `<|endoftext|>` (generation_config.json)\n"),
        "{agreed}"
    );
    assert!(!agreed.contains("warning"), "{agreed}");
    edit_json(&model.join("generation_config.json"), |config| {
        config["eos_token_id"] = json!([5, 7]);
        config["repetition_penalty"] = json!(1.1);
        config["temperature"] = json!(0.6);
    });
    edit_json(&model.join("tokenizer_config.json"), |config| {
        *config = json!({ "eos_token": "<|endoftext|>" });
    });
    let ends = "answers end at 5 `%`, 7 `'`, as generation_config.json has it, not at the \
                tokenizer's EOS 0 `<|endoftext|>`";
    let wishes = "generation_config.json asks for `repetition_penalty` 1.1, which is not done here";
    let told = doctor(&model);
    for line in [
        "  eos            0 `<|endoftext|>`\n",
        "  answers end at 5 `%`, 7 `'` (generation_config.json)\n",
        ends,
        wishes,
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    let answered = output(&mut steer(&model));
    let recipe = folder.path().join("r.toml");
    let text = "[run]\nname = \"words\"\n[data]\nsource = \"builtin:reviews\"\ntrain = 4\n\
                validation = 2\ntest = 2\n[models.base]\nid = \"base/model\"\n[models.again]\nid = \
                \"base/model\"\n[steer]\nbases = [\"base\"]\nprompts = 1\nmax_new_tokens = 2\n\
                [[steer.method]]\nkind = \"base\"\n[data.prompt]\nmin_words = 1\nmax_words = 1\n";
    fs::write(&recipe, text).unwrap();
    let check = output(w2s().arg("check").arg(&recipe));
    let run = output(w2s().arg("run").arg(&recipe).arg("--out").arg(folder.path().join("out")));
    for told in [stderr(&answered), stdout(&check), stderr(&run)] {
        for note in [ends, wishes] {
            assert_eq!(told.matches(note).count(), 1, "{note}\n{told}");
        }
    }
}
