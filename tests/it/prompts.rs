//! What a model reads before a response, and greedy texts: the answers of transformers
//! (`tests/golden/generate.py`) on tiny models with tokenizers made as the published ones are. BOS
//! as the recipe and the shell ask for it, and what a saved tokenizer keeps.

use std::path::Path;

use crate::common::{failure, success, w2s};
use crate::golden;
use serde_json::{Value, json};
use w2s::text::{PromptTemplate, Tokenizer};
use w2s::train::Sequence;

/// The folders of generate.py: name, prompts and answers.
fn answers() -> serde_json::Map<String, Value> {
    serde_json::from_str(&std::fs::read_to_string(golden::folder("generate.json")).unwrap())
        .unwrap()
}

/// The model and the tokenizer of one in one folder.
fn folder(name: &str) -> tempfile::TempDir {
    let target = tempfile::tempdir().unwrap();
    let model = answers()[name]["model"].as_str().unwrap().to_owned();
    for source in [golden::folder(&model), golden::folder("tokenizers").join(name)] {
        for file in std::fs::read_dir(source).unwrap() {
            let path = file.unwrap().path();
            std::fs::copy(&path, target.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    target
}

fn ids(value: &Value) -> Vec<i64> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Of `prompt`, read as it is by default.
fn read(folder: &Path, bos: Option<bool>, prompt: &str) -> Vec<i64> {
    PromptTemplate::new("{prompt}", bos)
        .encode(&Tokenizer::open(folder).unwrap(), &prompt.into())
        .unwrap_or_else(|error| panic!("{error}"))
}

fn edit(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    edit(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

#[test]
fn greedy_texts_are_those_of_transformers() {
    for (name, values) in answers() {
        let folder = folder(&name);
        let answers = values["answers"].as_array().unwrap();
        let prompts: Vec<&str> =
            answers.iter().map(|answer| answer["prompt"].as_str().unwrap()).collect();
        assert!(prompts.len() == 10 && prompts.contains(&""), "{name}: {prompts:?}");
        let mut command = w2s();
        command.args([
            "steer",
            "--method",
            "base",
            "--temperature",
            "0",
            "--dtype",
            "f32",
            "--max-new-tokens",
            "8",
            "--json",
            "--base",
        ]);
        let said = success(command.arg(folder.path()).arg("--").args(&prompts));
        let said: Vec<Value> =
            said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(said.len(), prompts.len(), "{name}");
        for ((prompt, answer), said) in prompts.iter().zip(answers).zip(&said) {
            assert_eq!(
                read(folder.path(), None, prompt),
                ids(&answer["ids"]),
                "{name}: {prompt:?}"
            );
            assert_eq!(said["response"], answer["text"], "{name}: {prompt:?}");
        }
    }
}

#[test]
fn bos_stands_where_it_is_asked_for() {
    let [gpt2, llama] = ["gpt2", "llama-2"].map(folder);
    let [plain, begun] = [&gpt2, &llama].map(|folder| read(folder.path(), None, "a film"));
    assert_eq!(
        (read(gpt2.path(), Some(true), "a film"), read(gpt2.path(), Some(false), "a film")),
        ([&[0], &plain[..]].concat(), plain)
    );
    assert_eq!(
        (read(llama.path(), Some(true), "a film"), read(llama.path(), Some(false), "a film")),
        (begun.clone(), begun[1..].to_vec())
    );
    // A prompt that brings the token does not get another one, which is where we differ from
    // transformers.
    assert_eq!(read(llama.path(), None, "<s>a"), read(llama.path(), Some(false), "<s>a"));
    let empty = |folder: &Path, bos| {
        PromptTemplate::new("{prompt}", bos).encode(&Tokenizer::open(folder).unwrap(), &"".into())
    };
    for folder in [gpt2.path(), llama.path()] {
        let error = empty(folder, Some(false)).unwrap_err().to_string();
        assert!(
            error.contains("nothing to read\n\nhint: leave `bos = false` out, or give a prompt"),
            "{error}"
        );
    }
    // A post-processor that also puts an EOS behind texts: it does not part prompt and response.
    edit(&llama.path().join("tokenizer.json"), |tokenizer| {
        let post = &mut tokenizer["post_processor"];
        post["single"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "SpecialToken": { "id": "</s>", "type_id": 0 } }));
        post["special_tokens"]["</s>"] = json!({ "id": "</s>", "ids": [2], "tokens": ["</s>"] });
    });
    assert_eq!(
        (read(llama.path(), None, "a film"), read(llama.path(), None, "")),
        (begun, vec![1])
    );
    let tokenizer = Tokenizer::open(llama.path()).unwrap();
    assert_eq!(tokenizer.added().unwrap(), [[1], [2]]);
    assert_eq!(
        tokenizer.encode_with_special("a</s>").unwrap(),
        tokenizer.encode_with_special("a").unwrap(),
        "nor does it stand twice"
    );
    // No BOS token anywhere.
    for file in ["config.json", "generation_config.json"] {
        edit(&gpt2.path().join(file), |config| config["bos_token_id"] = Value::Null);
    }
    std::fs::write(gpt2.path().join("tokenizer_config.json"), r#"{"bos_token": null}"#).unwrap();
    let error = PromptTemplate::new("{prompt}", Some(true))
        .encode(&Tokenizer::open(gpt2.path()).unwrap(), &"a".into())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`bos = true` asks for a BOS token, but neither")
            && error.contains("\n\nhint: leave `bos` out"),
        "{error}"
    );
    assert!(empty(gpt2.path(), None).unwrap_err().to_string().ends_with("hint: give a prompt"));
}

#[test]
fn a_response_to_an_empty_prompt_begins_the_text() {
    let folder = folder("llama-2");
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    // transformers' ids of the text alone, where a space is put before it.
    let alone = ids(&answers()["llama-2"]["answers"][2]["ids"]);
    let template = PromptTemplate::new("{prompt}", None);
    let sequence = |prompt: &str| {
        Sequence::of_response(&tokenizer, &template, &prompt.into(), ("a film", true), &[2], 32)
            .unwrap()
            .unwrap()
            .ids
    };
    assert_eq!(sequence(""), [&alone[..], &[2]].concat());
    assert_eq!(
        sequence("a"),
        [&read(folder.path(), None, "a")[..], &read(folder.path(), None, "aa film")[2..], &[2]]
            .concat()
    );
    assert_eq!(
        (
            tokenizer.decode_response(&alone[1..], true).unwrap(),
            tokenizer.decode_response(&alone[1..], false).unwrap()
        ),
        ("a film".into(), " a film".into())
    );
}

#[test]
fn a_saved_tokenizer_reads_as_its_source_and_gains_no_bos() {
    for (name, values) in answers() {
        let folder = folder(&name);
        let (saved, model) =
            (tempfile::tempdir().unwrap(), golden::folder(values["model"].as_str().unwrap()));
        for file in ["config.json", "generation_config.json"] {
            std::fs::copy(model.join(file), saved.path().join(file)).unwrap();
        }
        let source = Tokenizer::open(folder.path()).unwrap();
        source.save(saved.path()).unwrap();
        let config: Value = serde_json::from_slice(
            &std::fs::read(saved.path().join("tokenizer_config.json")).unwrap(),
        )
        .unwrap();
        let bos = match name.as_str() {
            "qwen2" => Value::Null,
            name if name.starts_with("gpt2") => json!("<|endoftext|>"),
            "llama-31" => json!("<|begin_of_text|>"),
            _ => json!("<s>"),
        };
        assert_eq!(config["bos_token"], bos, "{name}");
        let opened = Tokenizer::open(saved.path()).unwrap();
        assert_eq!(
            (opened.bos_id(), opened.eos_id(), opened.pad_id()),
            (source.bos_id(), source.eos_id(), source.pad_id()),
            "{name}"
        );
        for answer in values["answers"].as_array().unwrap() {
            let prompt = answer["prompt"].as_str().unwrap();
            assert_eq!(
                read(saved.path(), None, prompt),
                ids(&answer["ids"]),
                "{name}, saved: {prompt:?}"
            );
            let new = ids(&answer["new_ids"]);
            assert_eq!(
                opened.decode_continuation(&new).unwrap(),
                source.decode_continuation(&new).unwrap(),
                "{name}, saved"
            );
        }
    }
}

#[test]
fn shell_doctor_and_check_say_and_do_the_same() {
    let [gpt2, llama, mistral] = ["gpt2", "llama-2", "mistral"].map(folder);
    let tokens = |folder: &Path, arguments: &[&str]| {
        let mut command = w2s();
        command.args(["steer", "--method", "base", "--base"]).arg(folder).args(arguments);
        let error = failure(command.arg("x".repeat(40)), 1);
        let counted = error.split("`prompt-0`: ").nth(1).unwrap_or_else(|| panic!("{error}"));
        counted.split(' ').next().unwrap().parse::<usize>().unwrap()
    };
    let (unset, with, without) = ([], ["--base-bos", "true"], ["--base-bos", "false"]);
    assert_eq!(
        [tokens(gpt2.path(), &unset), tokens(gpt2.path(), &with), tokens(gpt2.path(), &without)],
        [40, 41, 40]
    );
    // Of Llama, the mark of the space before every text is one more.
    assert_eq!(
        [tokens(llama.path(), &unset), tokens(llama.path(), &with), tokens(llama.path(), &without)],
        [42, 42, 41]
    );
    let guided = |bos: &str| {
        let mut command = w2s();
        command
            .args(["steer", "--json", "--max-new-tokens", "4", "--guide-bos", bos, "--base"])
            .arg(gpt2.path());
        command.arg("--tuned").arg(llama.path()).arg("--untuned").arg(mistral.path()).arg("a film");
        serde_json::from_str::<Value>(success(&mut command).trim()).unwrap()["score"]
            .as_f64()
            .unwrap()
    };
    assert_ne!(guided("true"), guided("false"));
    let told = success(w2s().arg("doctor").args([gpt2.path(), llama.path()]));
    assert!(told.contains("  bos            0 `<|endoftext|>`\n"), "{told}");
    assert!(told.contains("  before a text  nothing\n  after a text   nothing\n"), "{told}");
    assert!(told.contains("  before a text  1 `<s>`\n"), "{told}");
    let recipe = |bos: &str| {
        let head = "[run]\nname='x'\n[data]\nsource='builtin:reviews'\ntrain=1\nvalidation=1\n\
                    test=1\nprompt={min_words=1,max_words=1}\n";
        let models = format!(
            "[models.a]\nid='{}'\n{bos}[models.b]\nid='{}'\n",
            gpt2.path().display(),
            llama.path().display()
        );
        let path = gpt2.path().join("recipe.toml");
        std::fs::write(
            &path,
            format!(
                "{head}{models}[steer]\nbases=['a','b']\nprompts=1\nmax_new_tokens=4\n\
                     [[steer.method]]\nkind='base'\n"
            ),
        )
        .unwrap();
        let mut command = w2s();
        command.arg("check").arg(path);
        command
    };
    let plan = success(&mut recipe(""));
    assert!(
        plan.contains("before a prompt\n  a: nothing\n  b: 1 `<s>`\n")
            && plan.contains(", BOS as the tokenizer has it"),
        "{plan}"
    );
    let plan = success(&mut recipe("bos=true\n"));
    assert!(
        plan.contains("before a prompt\n  a: 0 `<|endoftext|>`\n") && plan.contains(", after BOS"),
        "{plan}"
    );
    for file in ["config.json", "generation_config.json"] {
        edit(&gpt2.path().join(file), |config| config["bos_token_id"] = Value::Null);
    }
    std::fs::write(gpt2.path().join("tokenizer_config.json"), r#"{"bos_token": null}"#).unwrap();
    let error = failure(&mut recipe("bos=true\n"), 2);
    assert!(
        error.contains("`models.a.bos`: ") && error.contains("asks for a BOS token, but neither"),
        "{error}"
    );
}
