//! Beam search of the base: transformers' answers token for token, however many prompts are
//! searched at once.

use std::rc::Rc;

use crate::common::desk::Queue;
use crate::golden;
use crate::golden::edit;
use serde_json::{Value, json};
use w2s::policy::LocalPolicy;
use w2s::sampling::{Sampling, Stream};
use w2s::score::{NoGuide, response_logps};
use w2s::search::{BeamSearch, Drive, Finish, Found};
use w2s::text::{PromptTemplate, Tokenizer};

struct Case {
    search: BeamSearch,
    answers: Vec<Vec<i64>>,
    name: String,
    end: Vec<i64>,
}

fn cases() -> (Vec<Vec<i64>>, Vec<Case>) {
    let text = std::fs::read_to_string(golden::folder("beam.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let case = |case: &Value| Case {
        search: BeamSearch {
            beam_width: case["beam_width"].as_u64().unwrap() as usize,
            max_new_tokens: case["max_new_tokens"].as_u64().unwrap() as usize,
            length_penalty: case["length_penalty"].as_f64().unwrap() as f32,
            early_stopping: case["early_stopping"].as_bool().unwrap(),
        },
        answers: serde_json::from_value(case["answers"].clone()).unwrap(),
        name: case["model"].as_str().unwrap().to_owned(),
        end: serde_json::from_value(case["end"].clone()).unwrap(),
    };
    (
        serde_json::from_value(all["prompts"].clone()).unwrap(),
        all["cases"].as_array().unwrap().iter().map(case).collect(),
    )
}

fn words(ids: &[i64]) -> String {
    ids.iter().map(|id| format!("t{id}")).collect::<Vec<_>>().join(" ")
}

fn search(case: &Case, prompts: &[Vec<i64>], in_flight: usize) -> Vec<Found> {
    let folder = edit::copy(&case.name);
    for file in ["config.json", "generation_config.json"] {
        edit::edit_json(&folder.path().join(file), |config| {
            config["eos_token_id"] = json!(case.end)
        });
    }
    let lm = Rc::new(edit::open(folder.path()));
    let tokenizer = Rc::new(Tokenizer::numbered(97, Some(case.end[0])).unwrap());
    let mut policy = LocalPolicy::new(
        lm.clone(),
        tokenizer,
        PromptTemplate::new("{prompt}", Some(false)),
        Sampling::Greedy,
        Vec::new(),
    );
    let (texts, stream) =
        (prompts.iter().map(|ids| words(ids)).collect::<Vec<_>>(), Stream::new(1, "steer", "beam"));
    let mut queue = Queue::new(texts.iter().map(|text| (text.as_str(), stream.clone())));
    let mut drive = Drive { proposer: &mut policy, scorer: &mut NoGuide, in_flight };
    drive.run(&|opened| case.search.begin(opened), &mut queue).unwrap();
    let found = queue.found();
    for (prompt, Found { best, .. }) in prompts.iter().zip(&found) {
        let mut ids = [prompt.clone(), best.response.ids.clone()].concat();
        if best.response.finish == Some(Finish::Eos) && case.end.len() == 1 {
            ids.push(case.end[0]);
        } else if best.response.finish == Some(Finish::Eos) {
            continue;
        }
        let full: f32 = response_logps(&lm.model, &ids, prompt.len()).unwrap().iter().sum();
        assert!(
            (best.logprob.unwrap() - f64::from(full)).abs() < 1e-3,
            "{:?} and {full}",
            best.logprob
        );
    }
    found
}

#[test]
fn answers_are_those_of_transformers() {
    let (prompts, cases) = cases();
    let (mut ended, mut cut) = (0, 0);
    for case in &cases {
        for in_flight in [1, prompts.len()] {
            let found = search(case, &prompts, in_flight);
            for (Found { best, .. }, expected) in found.iter().zip(&case.answers) {
                let is_ended = expected.last().is_some_and(|last| case.end.contains(last));
                let ids = &expected[..expected.len() - usize::from(is_ended)];
                assert_eq!(
                    best.response.ids, ids,
                    "{} {:?} {:?}",
                    case.name, case.end, case.search
                );
                assert_eq!(
                    best.response.finish,
                    Some(if is_ended { Finish::Eos } else { Finish::Length })
                );
                if is_ended { ended += 1 } else { cut += 1 }
            }
        }
    }
    assert!(
        cases.len() == 96 && ended > 100 && cut > 100,
        "{} cases, {ended} ended, {cut} cut off",
        cases.len()
    );
}

#[test]
fn the_settings_matter() {
    let (prompts, cases) = cases();
    let ids = |found: Vec<Found>| {
        found.into_iter().map(|found| found.best.response.ids).collect::<Vec<_>>()
    };
    let unchanged: Vec<_> = cases.iter().map(|case| ids(search(case, &prompts, 3))).collect();
    let differs = |change: &dyn Fn(&mut BeamSearch)| {
        let changed = cases.iter().zip(&unchanged).filter(|(case, unchanged)| {
            let mut other = Case {
                search: case.search,
                answers: Vec::new(),
                name: case.name.clone(),
                end: case.end.clone(),
            };
            change(&mut other.search);
            ids(search(&other, &prompts, 3)) != **unchanged
        });
        changed.count()
    };
    assert!(differs(&|search| search.length_penalty += 3.0) > 5);
    assert!(differs(&|search| search.early_stopping ^= true) > 2);
    assert!(differs(&|search| search.beam_width += 3) > 20);
}

#[test]
fn a_stop_string_ends_a_beam() {
    let (prompts, mut cases) = cases();
    let case = cases
        .iter_mut()
        .find(|case| {
            case.answers[0].len() > 6 && !case.end.contains(case.answers[0].last().unwrap())
        })
        .unwrap();
    case.search.early_stopping = true;
    let stop = words(&case.answers[0][2..4]);
    let lm = Rc::new(edit::open(&golden::folder(&case.name)));
    let tokenizer = Rc::new(Tokenizer::numbered(97, None).unwrap());
    let mut policy = LocalPolicy::new(
        lm,
        tokenizer,
        PromptTemplate::new("{prompt}", Some(false)),
        Sampling::Greedy,
        vec![stop.clone()],
    );
    let mut queue = Queue::new([(words(&prompts[0]).as_str(), Stream::new(1, "steer", "beam"))]);
    let mut drive = Drive { proposer: &mut policy, scorer: &mut NoGuide, in_flight: 1 };
    drive.run(&|opened| case.search.begin(opened), &mut queue).unwrap();
    let stopped = queue.found().remove(0).best.response;
    assert!(!stopped.text.contains(&stop), "{stopped:?}");
}
