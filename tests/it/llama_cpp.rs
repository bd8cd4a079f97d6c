//! A GPT-2 that we made, served by llama.cpp: `tests/judge/to_gguf.py` writes it as GGUF by the
//! `gguf` package, and greedy answers over HTTP must be what `w2s steer` gives, token by token.

use std::path::{Path, PathBuf};

use crate::common::{lines, success, w2s};
use crate::golden;
use crate::judge;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use w2s::models::{Lm, open_with_tokenizer};
use w2s::text::Tokenizer;
use w2s::text::reviews::review;

const MAX_NEW_TOKENS: usize = 24;
/// Two logits that are closer may change places by rounding alone; llama.cpp and libtorch are about
/// a hundredth of it apart.
const TIE: f64 = 1e-4;

/// Opening sentences of reviews and an outcry beyond ASCII, so short that the model learns to end
/// them.
fn corpus(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    for (split, count) in [("train", 400), ("validation", 40), ("test", 40)] {
        let row = |i: u64| {
            let review = review(1, split, i);
            let sentence = review.text.split_inclusive('.').next().unwrap().to_owned();
            json!({
                "text": format!("{sentence} {}", ["🎬", "Naïve!", "日本語"][i as usize % 3]),
                "label": review.label
            })
            .to_string()
        };
        std::fs::write(
            folder.join(format!("{split}.jsonl")),
            (0..count).map(row).collect::<Vec<_>>().join("\n"),
        )
        .unwrap();
    }
}

/// A model that the program trained from scratch on the corpus.
pub fn pretrained(scratch: &Path) -> PathBuf {
    corpus(&scratch.join("data"));
    let recipe = "[run]\nname = 'served'\ndtype = 'float32'\n[data]\nsource = 'data'\ntrain = \
                  0\nvalidation = 40\ntest = 40\n\
                  [models.m.scratch]\narchitecture = 'gpt2'\nn_layer = 2\nn_head = 2\nn_embd = \
                  64\nn_positions = 96\n\
                  tokenizer = { kind = 'bpe', vocab_size = 600 }\n[pretrain.training]\nsteps = \
                  400\nbatch_size = 8\nlearning_rate = 3e-3\n";
    std::fs::write(scratch.join("served.toml"), recipe).unwrap();
    success(
        w2s().arg("run").arg(scratch.join("served.toml")).arg("--out").arg(scratch.join("run")),
    );
    scratch.join("run/models/m")
}

/// The same model but for one number: a bias of the first layer's attention.
pub fn perturbed(model: &Path, target: &Path) -> PathBuf {
    let (lm, tokenizer) = open_with_tokenizer(model, Device::Cpu, Kind::Float).unwrap();
    let (_, bias) = lm
        .parameters()
        .into_iter()
        .find(|(name, _)| name == "transformer.h.0.attn.c_proj.bias")
        .unwrap();
    let _ = tch::no_grad(|| bias.get(0).g_add_scalar_(0.5));
    lm.save(target).unwrap();
    tokenizer.save(target).unwrap();
    target.to_owned()
}

/// What the model answers greedily: the ids, the end token among them, by full forward passes, and
/// the text and its end by `w2s steer`.
struct Answer {
    ids: Vec<i64>,
    text: String,
    ended: bool,
    /// Whether a tie cut the ids, behind which answers may differ.
    tie: bool,
}

/// The likeliest ids up to the end token, the limit or a tie, and whether it was a tie.
fn greedy(lm: &Lm, eos: i64, prompt: &[i64]) -> (Vec<i64>, bool) {
    let mut ids = prompt.to_vec();
    while ids.len() < prompt.len() + MAX_NEW_TOKENS
        && (ids.len() == prompt.len() || ids[ids.len() - 1] != eos)
    {
        let logits = golden::logits(lm, &Tensor::from_slice(&ids).unsqueeze(0)).get(0).get(-1);
        let (largest, order) = logits.topk(2, -1, true, true);
        if largest.double_value(&[0]) - largest.double_value(&[1]) < TIE {
            return (ids.split_off(prompt.len()), true);
        }
        ids.push(order.int64_value(&[0]));
    }
    (ids.split_off(prompt.len()), false)
}

fn ours(model: &Path, prompts: &Path) -> Vec<Answer> {
    let (lm, tokenizer) = open_with_tokenizer(model, Device::Cpu, Kind::Float).unwrap();
    let _no_grad = tch::no_grad_guard();
    let mut command = w2s();
    command.args([
        "steer",
        "--method",
        "base",
        "--temperature",
        "0",
        "--dtype",
        "float32",
        "--json",
        "--max-new-tokens",
    ]);
    let steered = success(
        command
            .arg(MAX_NEW_TOKENS.to_string())
            .arg("--base")
            .arg(model)
            .arg("--prompts")
            .arg(prompts),
    );
    let answer = |(line, prompt): (&str, Value)| {
        let line: Value = serde_json::from_str(line).unwrap();
        let (ids, tie) = greedy(
            &lm,
            tokenizer.eos_id().unwrap(),
            &tokenizer.encode(prompt["prompt"].as_str().unwrap()).unwrap(),
        );
        let ended = ids.last().copied() == tokenizer.eos_id();
        let text = line["response"].as_str().unwrap().to_owned();
        assert!(
            tie || (&text, line["finish"] != "length") == (&tokenizer.decode(&ids).unwrap(), ended),
            "{line} {ids:?}"
        );
        Answer { ids, text, ended, tie }
    };
    steered.lines().zip(lines(prompts)).map(answer).collect()
}

#[test]
#[ignore = "needs Python: make judge"]
fn llama_cpp_answers_greedily_as_we_do() {
    let scratch = tempfile::tempdir().unwrap();
    let model = pretrained(scratch.path());
    let folders = [model.clone(), perturbed(&model, &scratch.path().join("perturbed"))];
    let tokenizer = Tokenizer::open(&model).unwrap();
    // BOS is written out, so that nobody's habit of adding it matters.
    let texts =
        ["", "The", "I", "My sister", " naïve", "This is a film", "日本", "It was made in 1968"]
            .map(|text| format!("<|endoftext|>{text}"));
    let prompts = scratch.path().join("prompts.jsonl");
    let written = texts
        .iter()
        .enumerate()
        .map(|(id, text)| json!({ "id": id.to_string(), "prompt": text }).to_string());
    std::fs::write(&prompts, written.collect::<Vec<_>>().join("\n")).unwrap();

    let asked: Vec<Value> = texts
        .iter()
        .map(|text| json!({ "text": text, "ids": tokenizer.encode(text).unwrap() }))
        .collect();
    let [request, answer] = ["request.json", "answer.json"].map(|name| scratch.path().join(name));
    std::fs::write(
        &request,
        json!({ "folders": folders, "prompts": asked, "max_new_tokens": MAX_NEW_TOKENS })
            .to_string(),
    )
    .unwrap();
    judge::ask("judge/ask_llama_cpp.py", &[&request, &answer]);
    let found: Vec<Vec<Value>> = serde_json::from_slice(&std::fs::read(&answer).unwrap()).unwrap();

    let expected = folders.map(|folder| ours(&folder, &prompts));
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!((found.len(), expected.len()), (texts.len(), texts.len()));
        for ((found, answer), asked) in found.iter().zip(expected).zip(&asked) {
            let expected = json!({
                "prompt_ids": asked["ids"],
                "ids": answer.ids,
                "text": answer.text,
                "ended": answer.ended,
                "openai_text": answer.text,
                "openai_ended": answer.ended,
                "openai_prompt_tokens": asked["ids"].as_array().unwrap().len(),
            });
            println!("{found}");
            if answer.tie {
                let ids: Vec<i64> = serde_json::from_value(found["ids"].clone()).unwrap();
                assert!(ids.starts_with(&answer.ids), "{found} {expected}");
            } else {
                assert_eq!(*found, expected, "{}", asked["text"]);
            }
        }
    }
    // The answers are worth comparing, and one number among the weights changes most of them.
    let [answers, others] = &expected;
    let tokens: usize = answers.iter().map(|answer| answer.ids.len()).sum();
    let ties = expected.iter().flatten().filter(|answer| answer.tie).count();
    assert!(ties < 3, "{ties} answers end in a tie");
    assert!(
        tokens > 60
            && answers.iter().any(|answer| answer.ended)
            && answers.iter().any(|answer| !answer.text.is_ascii()),
        "{tokens}"
    );
    let differing =
        answers.iter().zip(others).filter(|(answer, other)| answer.ids != other.ids).count();
    assert!(differing > answers.len() / 2, "{differing} of {}", answers.len());
}
