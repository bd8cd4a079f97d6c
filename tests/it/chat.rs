//! Chat templates against what transformers renders: the goldens of `tests/golden/chat.py`, and
//! few-shot prompts as recipes write them.

use std::path::Path;

use serde_json::Value;
use w2s::prompt::Message;
use w2s::text::ChatTemplate;

use crate::judge;

fn goldens() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/chat.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn messages(chat: &Value) -> Vec<Message> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    chat.as_array()
        .unwrap()
        .iter()
        .map(|turn| Message { role: text(&turn[0]), content: text(&turn[1]) })
        .collect()
}

#[test]
fn every_template_and_chat_renders_as_in_transformers() {
    let goldens = goldens();
    let special: Vec<(String, String)> = goldens["special"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(role, token)| (role.clone(), token.as_str().unwrap().to_owned()))
        .collect();
    let (mut compared, mut wrong) = (0, Vec::new());
    for (name, source) in goldens["templates"].as_object().unwrap() {
        let template = ChatTemplate::new(Path::new("template"), source.as_str().unwrap(), &special)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        for (chat, turns) in goldens["chats"].as_object().unwrap() {
            for add_generation_prompt in [false, true] {
                let expected = &goldens["rendered"][name][chat][usize::from(add_generation_prompt)];
                let found = template.render(&messages(turns), add_generation_prompt);
                let equal = match (&found, expected["text"].as_str(), expected["raises"].as_str()) {
                    (Ok(text), Some(expected), _) => text == expected,
                    (Err(error), _, Some(raised)) => {
                        error.to_string()
                            == format!("template: the chat template refuses this chat: {raised}")
                    }
                    _ => false,
                };
                compared += 1;
                if !equal {
                    wrong.push(format!(
                        "{name}, {chat}, {add_generation_prompt}:\n found    {found:?}\n expected \
                         {expected}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(compared, 10 * 7 * 2);
}

/// The templates that llama.cpp ships, and those of the shared tokenizers.
#[test]
#[ignore = "needs Python with torch, W2S_SHARED_DATA and W2S_LLAMA_CPP: make judge-heavy"]
fn templates_of_others_render_as_in_transformers() {
    let of = |name: &str, below: &str| {
        std::path::PathBuf::from(std::env::var_os(name).expect(name)).join(below)
    };
    let (folder, shared) = (tempfile::tempdir().unwrap(), of("W2S_SHARED_DATA", "tokenizers"));
    let (out, llama_cpp) = (folder.path().join("out"), of("W2S_LLAMA_CPP", "models/templates"));
    judge::ask("judge/templates.py", &[&out, &llama_cpp, &shared]);
    let all: Vec<Value> = serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap();
    assert!(all.len() > 60, "{} templates", all.len());
    let (mut equal, mut refused, mut wrong) = (0, 0, Vec::new());
    for found in &all {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let special: Vec<_> = (found["special"].as_object().unwrap().iter())
            .map(|(role, token)| (role.clone(), text(token)))
            .collect();
        let source = text(&found["source"]);
        let template = ChatTemplate::new(Path::new("template"), &source, &special);
        for case in found["cases"].as_array().unwrap() {
            let turns: Vec<Message> = (case["messages"].as_array().unwrap().iter())
                .map(|turn| Message::new(&text(&turn["role"]), text(&turn["content"])))
                .collect();
            let ends = case["add_generation_prompt"] == true;
            let ours = match &template {
                Ok(template) => template.render(&turns, ends).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match (&ours, case["rendered"].as_str()) {
                (Ok(ours), Some(theirs)) if ours == theirs => equal += 1,
                (Err(_), None) => refused += 1,
                (ours, _) => wrong.push(format!(
                    "{} | {} | {ends}\n  ours   {ours:?}\n  theirs {} {}",
                    found["name"], case["name"], case["rendered"], case["error"]
                )),
            }
        }
    }
    println!("{} templates: {equal} texts equal, {refused} refused by both", all.len());
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
