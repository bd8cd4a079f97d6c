//! Prompts that are too long, and chats.

use std::fs;

use super::steer;
use crate::common::{failure, success, tiny_model, w2s};

#[test]
fn prompts_that_are_too_long_are_all_named_before_any_stage() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_model(folder.path());
    let text = |number: usize| match number % 3 {
        // One word, and so one of a prompt's few, but more tokens than the model reads.
        0 => format!("{{\"text\":\"{} b c d\",\"label\":0}}\n", "x".repeat(40)),
        _ => "{\"text\":\"a b c d\",\"label\":1}\n".to_owned(),
    };
    fs::create_dir(folder.path().join("data")).unwrap();
    for split in ["train", "validation", "test"] {
        fs::write(
            folder.path().join(format!("data/{split}.jsonl")),
            (0..9).map(text).collect::<String>(),
        )
        .unwrap();
    }
    let recipe = format!(
        "[run]\nname='long'\ndtype='float32'\n[data]\nsource='data'\ntrain=9\nvalidation=9\n\
         test=9\nprompt={{min_words=1,max_words=2}}\n\
         [models.base]\nid='{}'\n\
         [gold.scratch]\nn_layers=1\nn_heads=2\ndim=16\nhidden_dim=16\nmax_position_embeddings=32\n\
         vocab_size=200\n[gold.training]\nsteps=2\nbatch_size=2\n\
         [steer]\nbases=['base']\nprompts=9\nmax_new_tokens=8\nmethod=[{{kind='base'}}]\n",
        model.display()
    );
    let path = folder.path().join("long.toml");
    fs::write(&path, recipe).unwrap();
    let out = folder.path().join("run");
    let error = failure(w2s().arg("run").arg(&path).arg("--out").arg(&out), 1);
    assert!(
        error.contains("3 prompts are too long\n")
            && error.contains("new ones do not fit `base`'s context of 32"),
        "{error}"
    );
    assert_eq!(
        error.matches("prompt `test-").count() + error.matches("prompt `data").count(),
        3,
        "{error}"
    );
    assert!(!out.join("gold").exists(), "before any stage");
}

#[test]
fn a_prompt_longer_than_the_context_is_refused_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_model(folder.path());
    let error = failure(steer(&model).args(["ok", &"x".repeat(40)]), 1);
    assert!(
        error.contains(
            "prompt `prompt-1`: 40 tokens and 5 new ones do not fit the model's context of 32"
        ),
        "{error}"
    );
    let answers = success(steer(&model).args(["--json", "ok", "x"]));
    let lines: Vec<serde_json::Value> =
        answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0]["response_tokens"].as_u64().unwrap() <= 5
            && lines[0]["prompt"] == "ok"
            && lines[0]["score"].is_null()
    );
    assert_eq!(
        answers.replace(|c: char| c.is_ascii_digit(), ""),
        success(steer(&model).args(["--json", "ok", "x"]))
            .replace(|c: char| c.is_ascii_digit(), "")
    );
}

#[test]
fn prompts_of_files_and_of_standard_input_are_those_of_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_model(folder.path());
    let file = folder.path().join("prompts");
    let asked = |arguments: &[&str], bytes: &str| {
        fs::write(&file, bytes).unwrap();
        let mut command = steer(&model);
        command.args(["--json", "--prompts"]).args(arguments).stdin(fs::File::open(&file).unwrap());
        let lines = success(&mut command);
        let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap());
        let fields = |line: serde_json::Value| [line["id"].clone(), line["prompt"].clone()];
        lines.map(fields).collect::<Vec<_>>()
    };
    let path = file.to_str().unwrap();
    for (arguments, bytes) in [
        (vec!["-"], "ok\n\nx\n"),
        (vec!["-"], "\u{feff}[{\"prompt\": \"ok\"}, {\"prompt\": \"x\"}]"),
        (vec!["-", "--prompt-column", "q"], "{\"q\": \"ok\"}\n{\"q\": \"x\"}\n"),
        (vec![path], "[\"ok\",\n\"x\"]"),
        (vec![path], "ok\r\nx"),
    ] {
        assert_eq!(asked(&arguments, bytes), [["0", "ok"], ["1", "x"]], "{bytes}");
    }
    let both = asked(&[path, "first"], "x\n");
    assert_eq!(both, [["prompt-0", "first"], ["0", "x"]]);
    fs::write(&file, "{\"id\": \"prompt-0\", \"prompt\": \"x\"}\n").unwrap();
    let error = failure(steer(&model).args(["--prompts", path, "first"]), 2);
    assert!(error.contains("has the id `prompt-0`, which one of the command line has"), "{error}");
    failure(steer(&model).args(["--prompt-column", "q", "x"]), 2);
}

#[test]
fn a_chat_is_rendered_by_the_models_own_template() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_model(folder.path());
    // Told by the tokens that do not fit: the template's own are among them, and BOS only where the
    // template puts it.
    let long = "x".repeat(40);
    let tokens = |arguments: &[&str]| {
        let error = failure(steer(&model).args(arguments).arg(&long), 1);
        let counted = error.split("`prompt-0`: ").nth(1).unwrap_or_else(|| panic!("{error}"));
        counted.split(' ').next().unwrap().parse::<usize>().unwrap()
    };
    assert_eq!((tokens(&[]), tokens(&["--base-bos", "true"])), (40, 41));
    let weights = model.join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::remove_file(&weights).unwrap();
    let error = failure(steer(&model).args(["--base-chat", "hi"]), 1);
    assert!(
        error.contains("2 problems") && error.contains("model: holds neither `model.safetensors`"),
        "before any weights are read: {error}"
    );
    assert!(
        error.contains("model: a chat was asked of it, but it has no chat template"),
        "{error}"
    );
    let template = "{% for m in messages %}{% if m.role == 'system' %}({{ m.content }}){% elif \
                    m.content == 'no' %}{{ raise_exception('not that') }}{% else %}<{{ m.content \
                    }}>{% endif %}{% endfor %}";
    fs::write(model.join("chat_template.jinja"), template).unwrap();
    let error = failure(steer(&model).args(["--base-chat", "no"]), 1);
    assert!(
        error.ends_with("chat_template.jinja: the chat template refuses this chat: not that"),
        "{error}"
    );
    fs::write(&weights, bytes).unwrap();
    assert_eq!((tokens(&["--base-chat"]), tokens(&["--base-chat", "--base-system", ""])), (42, 44));
    assert_eq!(
        tokens(&["--base-chat", "--base-system", "yes", "--base-template", "a{prompt}"]),
        48
    );
    failure(steer(&model).args(["--base-system", "x", "hi"]), 2);
}

#[test]
fn a_file_of_chats_is_answered_as_their_texts_are() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_model(folder.path());
    let template = "{% for m in messages %}{{ m.role[0] }}{{ m.content }}|{% endfor %}";
    fs::write(model.join("chat_template.jinja"), template).unwrap();
    let file = folder.path().join("chats.jsonl");
    let row = "{\"id\":\"prompt-0\",\"messages\":[{\"role\":\"system\",\"content\":\"s\"},\
               {\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"assistant\",\"content\":\"no\"}]}";
    fs::write(&file, row).unwrap();
    let answer = |arguments: &[&str]| {
        let out = success(steer(&model).args(["--json", "--base-chat"]).args(arguments));
        serde_json::from_str::<serde_json::Value>(&out).unwrap()
    };
    let chat = answer(&["--prompts", file.to_str().unwrap()]);
    let text = answer(&["--base-system", "s", "hi"]);
    assert_eq!(chat["response"], text["response"], "the answer that the file has is none of it");
    assert_eq!(chat["base_logprob_per_token"], text["base_logprob_per_token"]);
    assert_eq!(chat["prompt"][1]["content"], "hi", "{chat}");
    let error = failure(steer(&model).args(["--prompts", file.to_str().unwrap()]), 1);
    assert!(
        error.contains("the prompt is a chat of several turns, but this model is given texts\n")
            && error.contains("`--base-chat`"),
        "{error}"
    );
}
