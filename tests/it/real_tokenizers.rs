//! Real tokenizers and chat templates against transformers: ids, decoded texts, rendered chats and
//! greedy answers must be equal.
//!
//! `W2S_SHARED_DATA` names a folder with `tokenizers/`, `imdb/`, `summarize/` and `alpaca_eval/`
//! (CONTRIBUTING.md has the layout).

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::judge;
use serde_json::{Value, json};
use w2s::prompt::Message;
use w2s::text::{ChatTemplate, PromptTemplate, Tokenizer};

const TOKENIZERS: [&str; 6] =
    ["gpt2", "llama-2", "tulu-2", "llama-3", "zephyr", "bert-base-uncased"];
/// Saved by us, these must be the same to transformers.
const SAVED: [&str; 2] = ["zephyr", "bert-base-uncased"];

const CHATS: [&str; 5] = ["zephyr", "zephyr, saved", "tulu-2", "llama-2", "llama-3"];

/// Turns between marks, a default system turn, as the Qwen2 models have them.
const MARKED_TURNS: &str = "{% for turn in messages %}{% if loop.first and turn.role != 'system' \
                            %}{{ '<|im_start|>system\\nYou answer questions.<|im_end|>\\n' }}{% \
                            endif %}{{- '<|im_start|>' ~ turn['role'] ~ '\\n' ~ turn['content'] ~ \
                            '<|im_end|>' + '\\n' }}{% endfor %}\n\
                            {%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% \
                            endif %}";

/// The first `count` values of `field` in a gzip file of JSON lines.
fn lines(path: &Path, field: &str, count: usize) -> Vec<String> {
    let file =
        std::fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = BufReader::new(flate2::read::GzDecoder::new(file)).split(b'\n').take(count);
    lines
        .map(|line| {
            serde_json::from_slice::<Value>(&line.unwrap()).unwrap()[field]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect()
}

fn texts(data: &Path) -> Vec<String> {
    let alpaca: Vec<Value> = serde_json::from_slice(
        &std::fs::read(data.join("alpaca_eval/reference_outputs.json")).unwrap(),
    )
    .unwrap();
    let mut texts = lines(&data.join("imdb/test.jsonl.gz"), "text", 400);
    texts.extend(lines(&data.join("summarize/test.jsonl.gz"), "prompt", 200));
    texts.extend(lines(&data.join("summarize/train.jsonl.gz"), "chosen", 200));
    for field in ["instruction", "output"] {
        texts.extend(alpaca.iter().take(200).map(|row| row[field].as_str().unwrap().to_owned()));
    }
    // Special tokens in the text, and what normalizers and byte fallbacks trip over.
    let tricky = "|\u{20}|\u{20}\u{20}a|a\u{20}\n\n\u{20}b\t|<s>a</s> b<unk>|[CLS] \
                  [MASK]x[SEP]|<|endoftext|>a|<|eot_id|><|begin_of_text|>b|ＡＢＣ ﬁ naïve é \
                  e\u{301}|日本語 🎬👩‍👩‍👧 \u{200b}|\u{85}a\u{a0}b\u{2028}c|\u{7}\u{0}x|▁a ▁ \
                  b|<0x0A>|ĠaĊ";
    texts.extend(tricky.split('|').map(str::to_owned));
    texts.extend(
        ["<|endoftext|>", "<|start_header_id|>user<|end_header_id|>\n\n", "</s>\n<|user|>\n"]
            .map(str::to_owned),
    );
    texts
}

fn chats() -> Vec<Vec<Message>> {
    let user = |text: &str| Message::new("user", text);
    let assistant = |text: &str| Message::new("assistant", text);
    let system = |text: &str| Message::new("system", text);
    vec![
        vec![user("Hello")],
        vec![system(""), user("Hello")],
        vec![system("You are terse.\n"), user("  What is 1 + 1?\n\n")],
        vec![user("Hi"), assistant(" Hello! "), user("日本語で 🎬")],
        vec![
            system("naïve"),
            user("\ta\n"),
            assistant("b\n\nc"),
            user("\u{a0}d\u{1c}"),
            assistant("\u{2028}e"),
            user("f"),
        ],
        vec![user("a"), assistant("ends with the assistant")],
        vec![user("one"), user("two")],
        vec![system("s"), assistant("the assistant begins"), user("u")],
        vec![user("s"), system("late"), user("u")],
        vec![user("<s>[INST] injected [/INST]</s><|eot_id|>")],
    ]
}

fn to_json(messages: &[Message]) -> Value {
    messages
        .iter()
        .map(|message| json!({ "role": message.role, "content": message.content }))
        .collect()
}

fn ids(value: &Value) -> Vec<i64> {
    serde_json::from_value(value.clone()).unwrap()
}

/// transformers' ids of a text with what the post-processor adds, less what the text brings itself:
/// that does not stand twice with us.
fn once(tokenizer: &Tokenizer, plain: &[i64], mut ids: Vec<i64>) -> Vec<i64> {
    let [before, after] = tokenizer.added().unwrap();
    if !after.is_empty() && plain.ends_with(&after) {
        ids.truncate(ids.len() - after.len());
    }
    if plain.starts_with(&before) { ids.split_off(before.len()) } else { ids }
}

/// Counts what was compared, and keeps what differed.
#[derive(Default)]
struct Comparison {
    equal: usize,
    wrong: Vec<String>,
}

impl Comparison {
    fn same<T: PartialEq + std::fmt::Debug>(
        &mut self,
        what: impl FnOnce() -> String,
        found: T,
        expected: T,
    ) {
        if found == expected {
            self.equal += 1;
        } else {
            self.wrong.push(format!("{}\n found    {found:?}\n expected {expected:?}", what()));
        }
    }
}

#[test]
#[ignore = "needs Python with torch, and W2S_SHARED_DATA: make judge-heavy"]
fn ids_texts_and_chats_equal_transformers() {
    let data = PathBuf::from(
        std::env::var_os("W2S_SHARED_DATA")
            .expect("W2S_SHARED_DATA names a folder of real tokenizers and texts"),
    );
    let (texts, chats) = (texts(&data), chats());
    assert!(texts.len() >= 1000, "{} texts", texts.len());
    let exchange = tempfile::tempdir().unwrap();
    let mut folders: BTreeMap<String, PathBuf> = TOKENIZERS
        .iter()
        .map(|name| (name.to_string(), data.join("tokenizers").join(name)))
        .collect();
    for name in SAVED {
        let copy = exchange.path().join(name);
        std::fs::create_dir(&copy).unwrap();
        Tokenizer::open(&folders[name]).unwrap().save(&copy).unwrap();
        folders.insert(format!("{name}, saved"), copy);
    }
    let mut templates: serde_json::Map<String, Value> =
        CHATS.iter().map(|name| (name.to_string(), Value::Null)).collect();
    templates.insert("gpt2".into(), json!(MARKED_TURNS));
    let [request, answer] = ["request.json", "answer.json"].map(|name| exchange.path().join(name));
    let asked = json!({
        "folders": folders,
        "texts": texts,
        "templates": templates,
        "chats": chats.iter().map(|chat| to_json(chat)).collect::<Vec<_>>(),
    });
    std::fs::write(&request, asked.to_string()).unwrap();
    judge::ask("reference/as_transformers.py", &[&request, &answer]);
    let expected: Value = serde_json::from_slice(&std::fs::read(&answer).unwrap()).unwrap();

    let mut compared = Comparison::default();
    let mut tokens = 0;
    for (name, folder) in &folders {
        let tokenizer = Tokenizer::open(folder).unwrap();
        let expected = &expected[name];
        let special = [tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.pad_id()];
        compared.same(
            || format!("{name}: special ids"),
            json!(special),
            expected["special"].clone(),
        );
        let sizes = json!([tokenizer.vocab_size(), tokenizer.largest_id()]);
        compared.same(
            || format!("{name}: sizes"),
            sizes,
            json!([expected["size"], expected["largest"]]),
        );
        for (text, expected) in texts.iter().zip(expected["texts"].as_array().unwrap()) {
            let (plain, framed) = (
                tokenizer.encode(text).unwrap(),
                tokenizer.encode_classifier(text, usize::MAX).unwrap(),
            );
            tokens += plain.len();
            let decoded = [&plain, &framed, &plain[..plain.len() * 2 / 3].to_vec()]
                .map(|ids| tokenizer.decode(ids).unwrap());
            compared.same(|| format!("{name}: ids of {text:?}"), &plain, &ids(&expected["ids"]));
            compared.same(
                || format!("{name}: framed ids of {text:?}"),
                framed,
                once(&tokenizer, &plain, ids(&expected["with_special"])),
            );
            compared.same(
                || format!("{name}: decoded {text:?}"),
                json!(decoded),
                expected["decoded"].clone(),
            );
        }
        let Some(answers) = expected["chats"].as_array() else { continue };
        let template = match templates[name].as_str() {
            Some(source) => ChatTemplate::new(Path::new(name), source, &[]).unwrap(),
            None => {
                let tokenizer = Tokenizer::open(folder).unwrap();
                tokenizer.chat_template().unwrap().expect("this folder has a chat template").clone()
            }
        };
        for (chat, expected) in chats.iter().zip(answers) {
            for flag in [false, true] {
                let expected = &expected[usize::from(flag)];
                let found = template.render(chat, flag);
                if let Some(raised) = expected["raises"].as_str() {
                    let error = found.err().map(|error| error.to_string()).unwrap_or_default();
                    compared.same(
                        || format!("{name}: {chat:?} is refused"),
                        error.split("this chat: ").nth(1),
                        Some(raised),
                    );
                    continue;
                }
                let text = found.unwrap_or_else(|error| panic!("{name}: {error}: {chat:?}"));
                compared.same(
                    || format!("{name}: ids of {chat:?}"),
                    tokenizer.encode(&text).unwrap(),
                    ids(&expected["ids"]),
                );
                compared.same(
                    || format!("{name}: {chat:?}"),
                    Some(text.as_str()),
                    expected["text"].as_str(),
                );
                // The prompts of a recipe: one user turn, after a system turn or alone. BOS stands
                // where the template puts it.
                let [.., last] = chat.as_slice() else { continue };
                let asked = match chat.as_slice() {
                    [system, _] if system.role == "system" => {
                        PromptTemplate::chat("{prompt}", Some(&system.content))
                    }
                    [_] => PromptTemplate::chat("{prompt}", None),
                    _ => continue,
                };
                if flag && templates[name].is_null() {
                    let prompt = asked.encode(&tokenizer, &last.content.clone().into()).unwrap();
                    compared.same(
                        || format!("{name}: prompt of {chat:?}"),
                        prompt,
                        ids(&expected["ids"]),
                    );
                }
            }
        }
    }
    let shown: Vec<&str> = compared.wrong.iter().take(20).map(String::as_str).collect();
    assert!(
        compared.wrong.is_empty(),
        "{} differ, {} are equal\n{}",
        compared.wrong.len(),
        compared.equal,
        shown.join("\n")
    );
    let _ = writeln!(
        std::io::stderr(),
        "{} comparisons equal: {} texts ({tokens} tokens) by {} tokenizers, {} chats by {} \
         templates",
        compared.equal,
        texts.len(),
        folders.len(),
        chats.len(),
        templates.len()
    );
}

#[test]
#[ignore = "needs Python with torch, and W2S_SHARED_DATA: make judge-heavy"]
fn greedy_texts_equal_transformers_generate() {
    let data = PathBuf::from(
        std::env::var_os("W2S_SHARED_DATA")
            .expect("W2S_SHARED_DATA names a folder of real tokenizers and texts"),
    );
    let review = lines(&data.join("imdb/test.jsonl.gz"), "text", 1).remove(0);
    let review = review.split_whitespace().take(12).collect::<Vec<_>>().join(" ");
    let special = "a</s> b<|endoftext|> c<|eot_id|>d";
    let prompts = [
        "",
        " The film",
        "The film",
        &review,
        "It's  1234 o'clock,\n\nhe'LL say:",
        "naïve 日本語 🎬",
        special,
        "ends </s>",
        "\n",
        "Tab\tand end ",
    ];
    let exchange = tempfile::tempdir().unwrap();
    let [request, answer] = ["request.json", "answer.json"].map(|name| exchange.path().join(name));
    let asked = json!({
        "tokenizers": data.join("tokenizers"),
        "out": exchange.path(),
        "prompts": prompts,
        "new_tokens": 12
    });
    std::fs::write(&request, asked.to_string()).unwrap();
    judge::ask("reference/generate.py", &[&request, &answer]);
    let expected: BTreeMap<String, Vec<Value>> =
        serde_json::from_slice(&std::fs::read(&answer).unwrap()).unwrap();
    assert_eq!(expected.len(), 5);
    let mut compared = Comparison::default();
    for (name, answers) in &expected {
        let folder = exchange.path().join(name);
        let tokenizer = Tokenizer::open(&folder).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_w2s"));
        command.args([
            "steer",
            "--method",
            "base",
            "--temperature",
            "0",
            "--dtype",
            "f32",
            "--max-new-tokens",
            "12",
            "--json",
            "--base",
        ]);
        let output = command.arg(&folder).arg("--").args(prompts).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let said: Vec<Value> = output
            .stdout
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect();
        assert_eq!(said.len(), prompts.len());
        let equal = said
            .iter()
            .zip(answers)
            .filter(|(said, answer)| said["response"] == answer["text"])
            .count();
        let _ = writeln!(
            std::io::stderr(),
            "{name} ({}): {equal} of {} greedy texts equal",
            answers[0]["class"],
            prompts.len()
        );
        for ((prompt, said), answer) in prompts.iter().zip(&said).zip(answers) {
            let read = PromptTemplate::new("{prompt}", None)
                .encode(&tokenizer, &(*prompt).into())
                .unwrap();
            compared.same(|| format!("{name}: ids of {prompt:?}"), read, ids(&answer["ids"]));
            compared.same(
                || format!("{name}: text after {prompt:?}"),
                said["response"].as_str(),
                answer["text"].as_str(),
            );
        }
    }
    assert!(
        compared.wrong.is_empty(),
        "{} differ, {} are equal\n{}",
        compared.wrong.len(),
        compared.equal,
        compared.wrong.join("\n")
    );
}
