//! Servers of other people's making, as they are: llama.cpp and, as the worst case, `transformers
//! serve`, in front of a model that the program trained.

use std::path::Path;

use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use w2s::models::{Lm, open_with_tokenizer};
use w2s::policy::remote::RemoteBase;
use w2s::sampling::Sampling;

use super::asking::{Wanted, all, api, local, served, text};
use super::distribution::{DRAWS, deviation, expected, seen};
use crate::common::{success, w2s};
use crate::llama_cpp::{perturbed, pretrained};
use crate::{golden, judge};

const PROMPTS: [&str; 3] = ["The", "My sister", "This is a film"];

fn base(url: &str, tokenizer: Option<&Path>, wanted: &Wanted) -> RemoteBase {
    served(&api(url, json!({})), tokenizer, wanted)
}

/// Greedy texts at once and by chunks are the local base's; where chunks are texts, whole words
/// make their number of tokens another one.
fn goes_on_as_here(url: &str, folder: &Path, tokenizer: Option<&Path>, chunk: usize) {
    let wanted = Wanted::greedy(16);
    let mut here = local(folder, &wanted);
    let chunks = Wanted { chunk, ..Wanted::greedy(16) };
    for prompt in PROMPTS {
        let expected = text(&mut here, prompt, &wanted);
        assert_eq!(text(&mut base(url, tokenizer, &wanted), prompt, &wanted), expected);
        let found = text(&mut base(url, tokenizer, &chunks), prompt, &chunks);
        let is_same = found.starts_with(&expected) || expected.starts_with(&found);
        assert!(is_same && found.len() * 4 > expected.len() * 3, "{found:?} for {expected:?}");
    }
}

/// The first token is distributed as the recipe says.
fn samples_as_told(url: &str, folder: &Path) {
    let prompt = "This is a";
    let logits = logits_behind(folder, prompt);
    for (t, k, p) in [(0.7, 20, 0.9), (1.0, 0, 1.0)] {
        let expected = expected(folder, &logits, t, k, p);
        assert!(expected.len() > 3, "{expected:?}");
        let sampling = Sampling::new(t, k, p);
        let wanted = Wanted { sampling, count: DRAWS, ..Wanted::greedy(1) };
        let found = seen(&all(&mut base(url, None, &wanted), prompt, &wanted));
        let deviation = deviation(&found, &expected);
        println!("{url} {t} {k} {p}: {deviation:.2} standard deviations");
        assert!(deviation < 4.0, "{found:?} {expected:?}");
    }
}

/// A search through the server by the program; its lines.
fn steered(url: &str, folder: &Path, tuned: &Path, more: &[&str]) -> Vec<Value> {
    let mut command = w2s();
    command.args(["steer", "--json", "--dtype", "float32", "--max-new-tokens", "12"]);
    command.arg("--base").arg(url).arg("--tuned").arg(tuned).arg("--untuned").arg(folder);
    let text = success(command.args(more).args(PROMPTS));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), PROMPTS.len());
    for line in &lines {
        println!("{line}");
        assert!(line["score"].is_number() && line["response"].is_string(), "{line}");
    }
    lines
}

#[test]
#[ignore = "needs Python: make judge"]
fn llama_cpp_is_steered_as_a_base_here() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = pretrained(scratch.path());
    let tuned = perturbed(&folder, &scratch.path().join("perturbed"));
    let server = judge::serve("judge/serve_llama_cpp.py", &[&folder]);
    let url = server.address.as_str();
    for tokenizer in [None, Some(folder.as_path())] {
        goes_on_as_here(url, &folder, tokenizer, 3);
    }
    samples_as_told(url, &folder);

    // What is told of sampled texts is what the model here tells of them.
    let sampling = Sampling::new(1.0, 0, 1.0);
    let wanted = Wanted { sampling, count: 16, ..Wanted::greedy(12) };
    let mut compared = 0;
    for found in all(&mut base(url, Some(&folder), &wanted), "The", &wanted) {
        // Of parts of a character nothing is told.
        let Some(told) = found.logprob else {
            assert!(!found.response.text.is_ascii(), "{:?}", found.response);
            continue;
        };
        let ends = found.end.is_some();
        let here = logprob_here(&folder, "The", &found.response.ids, ends);
        compared += 1;
        let tokens = found.sampled as f64;
        // llama.cpp has its GELU from a table in half precision.
        assert!((told - here).abs() / tokens < 3e-4, "{told} for {here} of {tokens} tokens");
    }
    assert!(compared > 3, "{compared}");

    let search = ["--method", "cbs", "--beam-width", "2", "--successors", "2", "--chunk-len", "3"];
    let own = folder.to_str().unwrap();
    steered(url, &folder, &tuned, &search);
    steered(url, &folder, &tuned, &[&search[..], &["--base-tokenizer", own]].concat());
    steered(url, &folder, &tuned, &["--method", "best_of_n", "--n", "12"]);
    let report = success(w2s().args(["doctor", url]));
    println!("{report}");
    assert!(report.contains("by counting: up to 8\n") && report.contains("llama.cpp"), "{report}");
}

#[test]
#[ignore = "needs Python with torch: make judge-heavy"]
fn transformers_serve_is_steered_as_a_base_here() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = pretrained(scratch.path());
    let tuned = perturbed(&folder, &scratch.path().join("perturbed"));
    let server = judge::serve("judge/serve_transformers.py", &[&folder]);
    let url = server.address.as_str();
    goes_on_as_here(url, &folder, None, 5);
    samples_as_told(url, &folder);
    let search = ["--method", "cbs", "--beam-width", "2", "--successors", "2", "--chunk-len", "3"];
    steered(url, &folder, &tuned, &search);
    steered(url, &folder, &tuned, &["--method", "best_of_n", "--n", "4"]);
    let report = success(w2s().args(["doctor", url]));
    println!("{report}");
    assert!(report.contains("greedy where nothing is told"), "{report}");
}

/// Logits behind each token of a text, (seq, vocab), by a full forward pass.
fn rows(lm: &Lm, ids: &[i64]) -> Tensor {
    golden::logits(lm, &Tensor::from_slice(ids).unsqueeze(0)).get(0)
}

fn logits_behind(folder: &Path, prompt: &str) -> Vec<f64> {
    let (lm, tokenizer) = open_with_tokenizer(folder, Device::Cpu, Kind::Float).unwrap();
    let _no_grad = tch::no_grad_guard();
    Vec::try_from(rows(&lm, &tokenizer.encode(prompt).unwrap()).get(-1).to_kind(Kind::Double))
        .unwrap()
}

fn logprob_here(folder: &Path, prompt: &str, ids: &[i64], ends: bool) -> f64 {
    let (lm, tokenizer) = open_with_tokenizer(folder, Device::Cpu, Kind::Float).unwrap();
    let _no_grad = tch::no_grad_guard();
    let read = tokenizer.encode(prompt).unwrap();
    let end = ends.then(|| tokenizer.eos_id().unwrap());
    let all: Vec<i64> = read.iter().chain(ids).copied().chain(end).collect();
    let rows = rows(&lm, &all).log_softmax(-1, Kind::Double);
    (read.len()..all.len()).map(|at| rows.double_value(&[at as i64 - 1, all[at]])).sum()
}
