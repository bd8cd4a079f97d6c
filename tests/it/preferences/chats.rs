//! Preference sets of chats, as the hub has them: read, rendered by the chat template of the model
//! that is tuned, and told where there is none.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::Bench;
use crate::common::{failure, lines, output, stderr, success, w2s};

/// Short, for contexts of few tokens.
const TEMPLATE: &str = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}|{% endfor %}\
                        {% if add_generation_prompt %}a:{% endif %}";

/// Runs `tables` on pairs that `row` makes of a prompt and two answers. No stage reads `[data]`,
/// and the recipe has none.
fn run<F>(bench: &Bench, out: &str, tables: &str, row: F) -> Command
where
    F: Fn(&str, &str, &str) -> Value,
{
    let rows = (0..24).map(|i| format!("{}\n", row(&format!("q{i}"), &format!("y{i}"), "no")));
    fs::write(bench.path(&format!("{out}.jsonl")), rows.collect::<String>()).unwrap();
    let recipe = bench.path(&format!("{out}.toml"));
    let head = "[run]\nname='chats'\ndtype='float32'\n[models.guide]\nid='model'\n";
    let pairs = format!(
        "[preferences]\nsource='{out}.jsonl'\nvalidation_pairs=4\npolicy='guide'\nlabel='kept'\n"
    );
    let training = "training={epochs=1,batch_size=4,micro_batch_size=4,max_length=32}\n";
    let stages = format!("[sft]\n{training}[dpo]\n{training}");
    fs::write(&recipe, format!("{head}{tables}{pairs}{stages}")).unwrap();
    let mut command = w2s();
    command.arg("run").arg(recipe).arg("--out").arg(bench.path(out));
    command
}

fn turns(all: &[(&str, &str)]) -> Value {
    all.iter().map(|(role, content)| json!({ "role": role, "content": content })).collect()
}

fn chat(prompt: &str, chosen: &str, rejected: &str) -> Value {
    json!({
        "prompt": prompt,
        "chosen": turns(&[("user", prompt), ("assistant", chosen)]),
        "rejected": turns(&[("user", prompt), ("assistant", rejected)]),
        "score_chosen": 8.5,
    })
}

fn texts(prompt: &str, chosen: &str, rejected: &str) -> Value {
    json!({ "prompt": prompt, "chosen": chosen, "rejected": rejected })
}

fn weights(bench: &Bench, out: &str) -> [Vec<u8>; 2] {
    ["sft", "dpo"]
        .map(|stage| fs::read(bench.path(out).join(stage).join("model.safetensors")).unwrap())
}

fn talking() -> Bench {
    let bench = Bench::new();
    fs::write(bench.path("model/chat_template.jinja"), TEMPLATE).unwrap();
    bench
}

#[test]
fn a_chat_of_one_turn_teaches_what_its_text_does_by_the_same_template() {
    let bench = talking();
    success(&mut run(&bench, "chats", "chat={}\n", chat));
    success(&mut run(&bench, "texts", "chat={}\n", texts));
    assert_eq!(weights(&bench, "chats"), weights(&bench, "texts"));
    let pairs = lines(&bench.path("chats/preferences/train.jsonl"));
    assert_eq!(pairs.len(), 20);
    let first = pairs[0]["prompt"].as_array().unwrap();
    assert_eq!((first.len(), &first[0]["role"]), (1, &json!("user")));
    // The system's turn is read, too.
    success(&mut run(&bench, "system", "chat={}\n", |prompt, chosen, rejected| {
        json!({
            "prompt": turns(&[("system", "be"), ("user", prompt)]),
            "chosen": turns(&[("assistant", chosen)]),
            "rejected": turns(&[("assistant", rejected)]),
        })
    }));
    success(&mut run(&bench, "given", "chat={system=\"be\"}\n", texts));
    assert_eq!(weights(&bench, "system"), weights(&bench, "given"));
    assert_ne!(weights(&bench, "system"), weights(&bench, "texts"));
}

#[test]
fn a_model_that_cannot_read_a_chat_is_told_before_anything_is_done() {
    let bench = talking();
    let error = failure(&mut run(&bench, "raw", "", chat), 2);
    assert!(
        error.contains("`models.guide.chat` is missing, but the pairs")
            && error.contains("hint: `chat = {}`"),
        "{error}"
    );
    fs::remove_file(bench.path("model/chat_template.jinja")).unwrap();
    let error = failure(&mut run(&bench, "none", "chat={}\n", chat), 2);
    assert!(error.contains("which has no chat template"), "{error}");
    let with_system = |prompt: &str, chosen: &str, rejected: &str| {
        let answer = |said| turns(&[("system", "s"), ("user", prompt), ("assistant", said)]);
        json!({ "chosen": answer(chosen), "rejected": answer(rejected) })
    };
    let error = failure(&mut run(&bench, "system", "", with_system), 2);
    assert!(
        error.contains("`models.guide` has no chat template, but the pairs")
            && error.contains("chats of several turns (`train-"),
        "{error}"
    );
    for out in ["raw", "none", "system"] {
        assert!(!bench.path(out).join("preferences/train.jsonl").exists());
    }
}

#[test]
fn to_a_model_without_any_template_a_single_turn_is_a_text() {
    let bench = Bench::new();
    let said = stderr(&output(&mut run(&bench, "chats", "prompt='Q: {prompt} A:'\n", chat)));
    assert!(said.contains("their turns are read as texts, by its `prompt`"), "{said}");
    success(&mut run(&bench, "texts", "prompt='Q: {prompt} A:'\n", texts));
    assert_eq!(weights(&bench, "chats"), weights(&bench, "texts"));
}

#[test]
fn chats_that_are_no_pair_are_left_out_and_counted() {
    let bench = talking();
    let mut command = run(&bench, "long", "chat={}\n", |prompt, chosen, rejected| {
        let (asked, answered) = (("user", prompt), ("assistant", chosen));
        let more: &[(&str, &str)] = match prompt {
            "q3" | "q5" => &[asked, answered, ("user", "and"), ("assistant", "so")],
            _ => &[asked, answered],
        };
        json!({ "chosen": turns(more), "rejected": turns(&[asked, ("assistant", rejected)]) })
    });
    success(command.args(["--only", "preferences"]));
    let report = bench.report("long");
    let count = |split: &str| report[split]["left_out_reasons"]["not_one_answer"].as_u64().unwrap();
    assert_eq!(count("train") + count("validation"), 2, "{report}");
}
