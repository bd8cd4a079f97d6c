//! What models say of responses that are there already: log-probabilities and exact KL divergences
//! against transformers' (`tests/golden/likelihood.py`), their identities, and a run that tells
//! them, killed and continued.

use std::path::Path;
use std::rc::Rc;

use serde::Deserialize;
use serde_json::Value;
use tch::{Device, Kind};

use crate::common::tiny::{model, tokenizer};
use crate::common::{lines, one_thread, short_smoke, success};
use crate::golden;
use w2s::models::Lm;
use w2s::prompt::PromptText;
use w2s::sampling::Sampling;
use w2s::score::{Answered, Likelihood, Reader, Said, response_logps};
use w2s::search::Response;
use w2s::text::{PromptTemplate, Tokenizer};

#[derive(Deserialize)]
struct Golden {
    weight: f64,
    values: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    prompt: String,
    response: String,
    ends: bool,
    way: String,
    temperature: f64,
    tokens: usize,
    base_logprob: f64,
    kl: f64,
}

fn reader(lm: &Rc<Lm>, weight: f64) -> Reader {
    Reader { lm: lm.clone(), template: PromptTemplate::new("{prompt}", Some(false)), weight }
}

fn sampled(temperature: f64) -> Sampling {
    Sampling::new(temperature, 50, 0.9)
}

/// What is said of these prompts and responses, each with whether it ended.
fn said(likelihood: &Likelihood, answers: &[(&str, &str, bool)]) -> Vec<Said> {
    let response = |text: &str| Response { text: text.to_owned(), ids: Vec::new(), finish: None };
    let texts: Vec<(PromptText, Response, bool)> =
        answers.iter().map(|&(prompt, text, ends)| (prompt.into(), response(text), ends)).collect();
    let answers = texts
        .iter()
        .map(|(prompt, response, ends)| Answered { prompt, response, ends: *ends })
        .collect::<Vec<_>>();
    likelihood.of(&answers).unwrap()
}

#[test]
fn log_probabilities_and_divergences_are_those_of_transformers() {
    one_thread();
    let text = std::fs::read_to_string(golden::folder("likelihood.json")).unwrap();
    let golden: Golden = serde_json::from_str(&text).unwrap();
    let open = |name: &str| {
        Rc::new(Lm::open(&golden::folder(name), Device::Cpu, Kind::Float).unwrap().packed())
    };
    let [base, tuned, untuned] = ["gpt2", "llama", "mistral"].map(open);
    let tokenizer = Rc::new(Tokenizer::open(&golden::folder("tokenizers/gpt2")).unwrap());
    let mut compared = 0;
    for way in ["eft", "other"] {
        for temperature in [1.0, 0.7] {
            let (base, others) = match way {
                "eft" => (
                    reader(&base, 1.0),
                    vec![reader(&tuned, golden.weight), reader(&untuned, -golden.weight)],
                ),
                _ => (reader(&base, 0.0), vec![reader(&tuned, 1.0)]),
            };
            let likelihood =
                Likelihood::new(base, others, tokenizer.clone(), sampled(temperature)).unwrap();
            let asked: Vec<&Answer> = (golden.values.iter())
                .filter(|answer| answer.way == way && answer.temperature == temperature)
                .collect();
            let answers: Vec<(&str, &str, bool)> = (asked.iter())
                .map(|answer| (answer.prompt.as_str(), answer.response.as_str(), answer.ends))
                .collect();
            for (answer, said) in asked.iter().zip(said(&likelihood, &answers)) {
                let kl = said.kl.unwrap();
                assert_eq!(said.tokens, answer.tokens);
                assert!(
                    (said.base_logprob - answer.base_logprob).abs() < 1e-4
                        && (kl - answer.kl).abs() < 1e-4,
                    "{way} {temperature} {:?}: {said:?}, transformers {} and {}",
                    answer.response,
                    answer.base_logprob,
                    answer.kl
                );
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 16);
}

const ANSWERS: [(&str, &str, bool); 4] = [
    ("A film", " that I did not like at all, but the acting was good.", true),
    ("It was", " a", false),
    ("The story", "", false),
    ("I", " saw it", true),
];

#[test]
fn what_is_the_base_is_no_distance_from_it() {
    let tokenizer = tokenizer(400, 0);
    let [base, tuned, untuned] =
        ["base", "tuned", "untuned"].map(|name| model(&tokenizer, 16, name));
    let of = |base: Reader, others: Vec<Reader>, sampling: Sampling| {
        said(&Likelihood::new(base, others, tokenizer.clone(), sampling).unwrap(), &ANSWERS)
    };
    let same = of(reader(&base, 0.0), vec![reader(&base, 1.0)], sampled(0.7));
    let nothing = vec![reader(&tuned, 0.0), reader(&untuned, -0.0)];
    let unsteered = of(reader(&base, 1.0), nothing, sampled(0.7));
    for said in same.iter().chain(&unsteered) {
        assert_eq!(said.kl, Some(0.0));
    }
    // From the untuned model, weight 1 is the tuned one.
    let pair = vec![reader(&tuned, 1.0), reader(&untuned, -1.0)];
    let steered = of(reader(&untuned, 1.0), pair, sampled(0.7));
    let direct = of(reader(&untuned, 0.0), vec![reader(&tuned, 1.0)], sampled(0.7));
    for (steered, direct) in steered.iter().zip(&direct) {
        let [steered, direct] = [steered, direct].map(|said| said.kl.unwrap());
        assert!((steered - direct).abs() < 1e-4 * (1.0 + direct), "{steered} {direct}");
    }
    assert!(direct[0].kl.unwrap() > 1.0 && direct[3].kl.unwrap() > 0.1);
    assert_eq!(direct[2], Said { tokens: 0, base_logprob: 0.0, kl: Some(0.0) });
    let greedy = of(reader(&untuned, 0.0), vec![reader(&tuned, 1.0)], Sampling::Greedy);
    assert!(greedy.iter().all(|said| said.kl.is_none()));
    for (said, (prompt, text, ends)) in greedy.iter().zip(ANSWERS) {
        let mut ids = tokenizer.encode(prompt).unwrap();
        let read = ids.len();
        ids.extend(tokenizer.encode_continuation(text).unwrap());
        ids.extend(tokenizer.eos_id().filter(|_| ends));
        let alone = if ids.len() == read {
            Vec::new()
        } else {
            response_logps(&untuned.model, &ids, read).unwrap()
        };
        let sum = alone.iter().map(|logp| f64::from(*logp)).sum::<f64>();
        assert_eq!(said.tokens, alone.len());
        assert!((said.base_logprob - sum).abs() < 1e-3, "{said:?} {sum}");
    }
}

const METHODS: &str = "steer.method=[{kind='base'}, {kind='best_of_n', n=4}, {kind='cbs', \
    beam_width=2, successors=2, chunk_len=5}, {kind='eft', weights=[0.0, 1.0]}, {kind='tuned'}, \
    {kind='untuned'}, {kind='direct'}]";

fn run(out: &Path) -> std::process::Command {
    let mut command = short_smoke(out);
    command.args(["--set", METHODS, "--set", "run.seeds=[1, 2]", "--set", "direct={}"]);
    command
}

fn summary(out: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(out.join("evaluate/summary.json")).unwrap()).unwrap()
}

#[test]
fn a_run_tells_them_and_goes_on_where_it_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    success(&mut run(&out));
    let told = summary(&out);
    let row = |base: &str, method: &str| {
        let rows = told["rows"].as_array().unwrap();
        rows.iter().find(|row| row["base"] == base && row["method"] == method).unwrap().clone()
    };
    let number = |row: &Value, keys: [&str; 2]| row[keys[0]][keys[1]].as_f64();
    for method in ["base", "eft-0"] {
        assert_eq!(number(&row("base", method), ["kl", "per_token"]), Some(0.0), "{method}");
    }
    let untuned = row("guide", "untuned");
    assert_eq!(number(&untuned, ["kl", "per_response"]), Some(0.0));
    let bound = row("other", "best_of_n");
    assert_eq!(bound["kl"]["kind"], "upper_bound");
    let expected = 4f64.ln() - 0.75;
    assert!((number(&bound, ["kl", "per_response"]).unwrap() - expected).abs() < 1e-12);
    assert!(row("base", "cbs").get("kl").is_none());
    for (base, method) in [("base", "direct"), ("guide", "tuned"), ("base", "eft-1")] {
        let row = row(base, method);
        assert_eq!(row["kl"]["kind"], "exact", "{method}");
        assert!(number(&row, ["kl", "per_token"]).unwrap() > 0.0, "{method}: {row}");
        assert!(number(&row, ["kl", "per_token"]) < number(&row, ["kl", "per_response"]));
    }
    // The untuned guide's likelihood of what the tuned one said: the pair's score is the rest.
    let task = |task: &str, method: &str| out.join(format!("{task}/guide/{method}/seed-1.jsonl"));
    let said = lines(&task("evaluate/likelihood", "tuned"));
    let answers = lines(&task("steer", "tuned"));
    assert_eq!(said.len(), answers.len());
    for said in &said {
        let answer = answers.iter().find(|answer| answer["id"] == said["id"]).unwrap();
        let tokens = said["tokens"].as_f64().unwrap();
        let tuned = answer["base_logprob_per_token"].as_f64().unwrap_or(0.0) * tokens;
        let score = answer["score"].as_f64().unwrap();
        let untuned = said["base_logprob"].as_f64().unwrap();
        // Text that is tokenized anew may have other tokens than were sampled.
        if answer["response_tokens"].as_f64().unwrap()
            + f64::from(u8::from(answer["finish"] == "eos"))
            == tokens
        {
            assert!((tuned - untuned - score).abs() < 1e-2, "{said} {answer}");
        }
    }
    assert!(row("base", "eft-1")["base_logprob_per_token"].is_f64());

    // Arithmetic: a base alone, four times as much, and guides that propose do the base's tokens.
    let cost = |method: &str, part: &str| number(&row("base", method), ["multiply_adds", part]);
    let [plain, best] = ["base", "best_of_n"].map(|method| cost(method, "base").unwrap());
    assert!(best > 2.0 * plain && best < 4.5 * plain, "{plain} {best}");
    assert!(cost("eft-1", "guide").unwrap() > 1.5 * cost("eft-0", "guide").unwrap());

    // How much beginnings tell, of both bases, and a figure of each.
    let value = told["value"].as_array().unwrap();
    assert_eq!(value.len(), 2);
    assert_eq!(value[0]["tokens"][0], 5);
    let last = value[0]["score"].as_array().unwrap().last().unwrap().as_f64().unwrap();
    assert!((last - 1.0).abs() < 1e-9 && value[0]["score_within"].is_array(), "{}", value[0]);
    assert_eq!(value[0]["responses"], 16);
    assert!(value[0]["judges"]["gold"].is_array());
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("What a beginning tells of its end: other"));
    assert!(out.join("evaluate/figures/value-base.svg").is_file());

    // Killed in the middle of a journal of many: the same to the bit.
    let journal = out.join("evaluate/likelihood/base/direct/seed-2.jsonl");
    let whole = std::fs::read(&journal).unwrap();
    let first = whole.split_inclusive(|byte| *byte == b'\n').take(3).map(<[u8]>::len);
    let cut = first.sum::<usize>() + 5;
    std::fs::write(&journal, &whole[..cut]).unwrap();
    let manifest = out.join("manifest.json");
    let mut tasks: Value = serde_json::from_slice(&std::fs::read(&manifest).unwrap()).unwrap();
    let task = &mut tasks["tasks"]["evaluate/likelihood/base/direct/seed-2"];
    *task = serde_json::json!({
        "fingerprint": task["fingerprint"], "owns": task["owns"], "state": "begun"
    });
    std::fs::write(&manifest, tasks.to_string()).unwrap();
    success(&mut run(&out));
    assert_eq!(std::fs::read(&journal).unwrap(), whole);
    assert_eq!(summary(&out), told);
}
