//! Guides that are added to a served base sample what they sample with the same base here, token by
//! token, where a server tells all that may come next; elsewhere they are refused with the reason.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::json;
use tch::{Device, Kind as Dtype};
use w2s::models::open_with_tokenizer;
use w2s::policy::remote::{Paid, RemoteBase, Server, TiltedBase};
use w2s::policy::{LocalPolicy, Member};
use w2s::sampling::Sampling;
use w2s::search::Extended;
use w2s::text::{PromptTemplate, Tokenizer};

use super::asking::{Wanted, all, api, folder, paying, served};
use crate::common::fakes::{Fake, Kind, Options};
use crate::common::{failure, lines, success, tiny, w2s};
use crate::judge;
use crate::llama_cpp::{perturbed, pretrained};

const PROMPTS: [&str; 3] = ["The film was", "naïve 日本", "I saw it"];
const SETTINGS: [Sampling; 3] = [
    Sampling::Greedy,
    Sampling::Random { temperature: 1.0, top_k: 0, top_p: 1.0 },
    Sampling::Random { temperature: 0.7, top_k: 50, top_p: 0.9 },
];

fn member(lm: Rc<w2s::models::Lm>, weight: f64) -> Member {
    Member { lm, template: PromptTemplate::new("Review: {prompt}", None), weight }
}

/// A pair of tiny guides, with this weight.
fn guides(folder: &Path, weight: f64) -> Vec<Member> {
    let tokenizer = Tokenizer::open(folder).unwrap();
    let guide = |name| tiny::model(&tokenizer, 16, name);
    vec![member(guide("tuned"), weight), member(guide("untuned"), -weight)]
}

fn here(folder: &Path, guides: Vec<Member>, wanted: &Wanted) -> LocalPolicy {
    crate::common::one_thread();
    let (lm, tokenizer) = open_with_tokenizer(folder, Device::Cpu, Dtype::Float).unwrap();
    let base =
        Member { template: PromptTemplate::new("{prompt}", None), ..member(Rc::new(lm), 1.0) };
    let stop = wanted.stop.iter().map(|stop| stop.to_string()).collect();
    LocalPolicy::mixture(base, guides, Rc::new(tokenizer), wanted.sampling, stop)
}

fn fake(kind: Kind, folder: &Path) -> Fake {
    Fake::start(kind, folder, Options { tells_all: true, ..Options::default() })
}

fn base(fake: &Fake, folder: &Path, wanted: &Wanted) -> RemoteBase {
    served(&api(&fake.url(), json!({})), Some(folder), wanted)
}

fn tilted(fake: &Fake, folder: &Path, wanted: &Wanted) -> TiltedBase {
    base(fake, folder, wanted).tilt(guides(folder, 1.5)).unwrap()
}

fn assert_same(found: &[Extended], expected: &[Extended], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.response, expected.response, "{what}");
        assert_eq!((found.end, found.sampled), (expected.end, expected.sampled), "{what}");
        match (found.logprob, expected.logprob) {
            (Some(found), Some(expected)) => {
                assert!((found - expected).abs() < 1e-2, "{what}: {found} for {expected}");
            }
            (found, expected) => assert_eq!(found, expected, "{what}"),
        }
    }
}

#[test]
fn samples_are_those_of_the_same_base_here() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(&scratch);
    let (mut plain, mut ends, mut differ) = (0, 0, 0);
    for kind in [Kind::LlamaCpp, Kind::Vllm] {
        let fake = fake(kind, &folder);
        for sampling in SETTINGS {
            for (stop, chunk) in [(&[][..], 14), (&["e "][..], 14), (&[], 1), (&["s"], 5)] {
                let count = 5;
                let wanted = Wanted { sampling, stop, max_new_tokens: 14, chunk, count };
                let mut expected = here(&folder, guides(&folder, 1.5), &wanted);
                let mut alone = here(&folder, Vec::new(), &wanted);
                let mut found = tilted(&fake, &folder, &wanted);
                for prompt in PROMPTS {
                    let expected = all(&mut expected, prompt, &wanted);
                    let what = format!("{kind:?} {sampling:?} {stop:?} {chunk} {prompt}");
                    assert_same(&all(&mut found, prompt, &wanted), &expected, &what);
                    let others = all(&mut alone, prompt, &wanted);
                    for (expected, other) in expected.iter().zip(others) {
                        ends += usize::from(expected.response.finish.is_some());
                        plain += 1;
                        differ += usize::from(expected.response != other.response);
                    }
                }
            }
        }
    }
    assert!(4 * differ > plain && ends > 10, "{differ} and {ends} of {plain}");
}

/// Rows that have read the same wait for one request.
#[test]
fn what_is_read_by_several_is_asked_for_once() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(&scratch);
    let fake = fake(Kind::LlamaCpp, &folder);
    let wanted = Wanted { count: 6, ..Wanted::greedy(9) };
    let found = all(&mut tilted(&fake, &folder, &wanted), "The film was", &wanted);
    let requests = fake.loopback.asked().iter().filter(|asked| asked.path == "/completion").count();
    assert_eq!(requests as u64, found[0].sampled);
    assert!(found.iter().all(|other| other.response == found[0].response));
}

/// The dearest of what is paid for is what a restart would pay again.
#[test]
fn a_restart_pays_for_no_chunk_twice() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(&scratch);
    let fake = fake(Kind::LlamaCpp, &folder);
    let journal = scratch.path().join("paid.jsonl");
    let wanted = Wanted { sampling: SETTINGS[1], chunk: 4, count: 3, ..Wanted::greedy(12) };
    let run = |weight: f64| {
        let paid = Paid::open(&journal, &[] as &[PathBuf], "task").unwrap();
        let base = paying(&api(&fake.url(), json!({})), Some(&folder), &wanted, Some(paid));
        let mut base = base.tilt(guides(&folder, weight)).unwrap();
        let found = all(&mut base, "The film was", &wanted);
        (found, fake.counts().requests)
    };
    let (first, asked) = run(1.5);
    let spent = Paid::open(&journal, &[] as &[PathBuf], "task").unwrap().spent();
    assert_eq!(spent.completion, asked as u64, "every request sampled one token");
    let (again, asked_again) = run(1.5);
    assert_same(&again, &first, "again");
    assert_eq!(asked_again, asked);
    let (_, asked_by_others) = run(0.5);
    assert!(asked_by_others > asked, "other guides were not paid for");

    // What is written down of the first chunks alone is where a killed run goes on from.
    let text = std::fs::read_to_string(&journal).unwrap();
    assert!(text.len() < 600 * text.lines().count(), "only what was drawn is kept");
    let kept: Vec<&str> = text.lines().take(4).collect();
    std::fs::write(&journal, kept.join("\n") + "\n").unwrap();
    let (resumed, asked_now) = run(1.5);
    assert_same(&resumed, &first, "resumed");
    let (lacking, all) = (asked_now - asked_by_others, asked);
    assert!(lacking > 0 && lacking < all, "{lacking} of {all}");
}

#[test]
fn servers_that_tell_less_are_refused_with_the_reason() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(&scratch);
    let wanted = Wanted::greedy(4);
    for kind in Kind::ALL {
        let fake = Fake::start(kind, &folder, Options::default());
        let base = base(&fake, &folder, &wanted);
        let error = match base.check_tilt() {
            Ok(()) if kind == Kind::LlamaCpp => continue,
            outcome => outcome.expect_err(&format!("{kind:?}")).to_string(),
        };
        let reason = match kind {
            Kind::Vllm => "tells 20 likely ones of 400, at most",
            _ => "none, or a few likely ones",
        };
        assert!(error.contains(reason) && error.contains("`--max-logprobs -1`"), "{error}");
    }
    let fake = fake(Kind::LlamaCpp, &folder);
    let without = served(&api(&fake.url(), json!({})), None, &wanted);
    let error = without.check_tilt().unwrap_err().to_string();
    assert!(error.contains("`api.tokenizer`"), "{error}");
    let server = Server::open("models.served", &api(&fake.url(), json!({}))).unwrap();
    let error = server.check_tokenizer(&tiny::tokenizer(420, 3)).unwrap_err().to_string();
    assert!(error.contains("is not that of the served model"), "{error}");
}

/// A recipe that steers one base, here or served, by emulated fine-tuning and by a tilted search.
fn recipe(scratch: &Path, base: &str) -> PathBuf {
    let guide = |name: &str| {
        let folder = scratch.join(name);
        let tokenizer = tiny::tokenizer(400, 0);
        tiny::model(&tokenizer, 16, name).save(&folder).unwrap();
        tokenizer.save(&folder).unwrap();
        folder
    };
    let [tuned, untuned] = ["tuned", "untuned"].map(guide);
    let text = format!(
        "[run]\nname = \"tilted\"\ndtype = \"float32\"\n[data]\nsource = \"builtin:reviews\"\n\
         train = 20\nvalidation = 4\ntest = 4\n[models.base]\n{base}\nbos = true\n\
         [models.tuned]\nid = {tuned:?}\nbos = true\n[models.untuned]\nid = {untuned:?}\n\
         bos = true\n[steer]\nbases = [\"base\"]\ntuned = \"tuned\"\nuntuned = \"untuned\"\n\
         prompts = 3\nmax_new_tokens = 20\nmethod = [\n\
         {{ kind = \"eft\", weights = [0.0, 1.0] }},\n\
         {{ kind = \"cbs\", beam_width = 2, successors = 2, chunk_len = 4, tilt = 0.5 }},\n]\n"
    );
    let file = scratch.join("recipe.toml");
    std::fs::write(&file, text).unwrap();
    file
}

/// The journals of all cells that guides are added to.
fn steered(out: &Path) -> Vec<(String, Vec<serde_json::Value>)> {
    let mut all = Vec::new();
    for entry in walk(&out.join("steer")) {
        let name = entry.strip_prefix(out).unwrap().display().to_string();
        if name.ends_with(".jsonl") && !name.contains("eft-0") {
            let mut lines = lines(&entry);
            lines.sort_by_key(|line| line["id"].to_string());
            all.push((name, lines));
        }
    }
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn a_run_over_a_server_finds_what_it_finds_here() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(&scratch);
    let fake = fake(Kind::Vllm, &folder);
    let served = format!("api = {{ url = {:?}, tokenizer = {folder:?} }}", fake.url());
    let mut found = Vec::new();
    for (name, base) in [("here", format!("id = {folder:?}")), ("served", served)] {
        let out = scratch.path().join(name);
        success(w2s().arg("run").arg(recipe(scratch.path(), &base)).arg("--out").arg(&out));
        found.push(steered(&out));
    }
    let [here, served] = [&found[0], &found[1]];
    assert_eq!((here.len(), served.len()), (2, 2));
    for ((name, here), (_, served)) in here.iter().zip(served) {
        assert_eq!(here.len(), 3, "{name}");
        for (here, served) in here.iter().zip(served) {
            assert_eq!(here["response"], served["response"], "{name}");
            assert_eq!(here["finish"], served["finish"], "{name}");
        }
    }
}

#[test]
fn a_server_that_tells_less_is_told_before_any_work() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(&scratch);
    let fake = Fake::start(Kind::Vllm, &folder, Options::default());
    let base = format!("api = {{ url = {:?}, tokenizer = {folder:?} }}", fake.url());
    let out = scratch.path().join("out");
    let file = recipe(scratch.path(), &base);
    let error = failure(w2s().arg("run").arg(&file).arg("--out").arg(&out), 2);
    assert!(error.contains("start vLLM with `--max-logprobs -1`"), "{error}");
    assert_eq!(fake.counts().requests, 0);

    let set = ["--set", "models.base.api.dialect=\"sglang\""];
    let error = failure(w2s().arg("check").arg(&file).args(set), 2);
    assert!(error.contains("in a dialect that has a few likely tokens at most"), "{error}");
    let base = format!("api = {{ url = {:?} }}", fake.url());
    let file = recipe(scratch.path(), &base);
    let error = failure(w2s().arg("check").arg(&file), 2);
    assert!(error.contains("which is served without `api.tokenizer`"), "{error}");
}

#[test]
#[ignore = "needs Python: make judge"]
fn llama_cpp_is_tilted_as_a_base_here() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = pretrained(scratch.path());
    let tuned = perturbed(&folder, &scratch.path().join("perturbed"));
    let server = judge::serve("judge/serve_llama_cpp.py", &[&folder]);
    let open = |folder: &Path| open_with_tokenizer(folder, Device::Cpu, Dtype::Float).unwrap().0;
    let guides = || vec![member(Rc::new(open(&tuned)), 4.0), member(Rc::new(open(&folder)), -4.0)];
    let (mut same, mut differ, mut count) = (0, 0, 0);
    for sampling in SETTINGS {
        // Of all tokens in the order of their ids one is found by a sum over those before it, in
        // which what llama.cpp computes in half precision (its GELU) adds up.
        let is_cut = sampling != Sampling::new(1.0, 0, 1.0);
        let (mut of_these, mut all_these) = (0, 0);
        let wanted = Wanted { sampling, chunk: 5, count: 4, ..Wanted::greedy(20) };
        let mut expected = here(&folder, guides(), &wanted);
        let mut alone = here(&folder, Vec::new(), &wanted);
        let base = served(&api(&server.address, json!({})), Some(&folder), &wanted);
        let mut found = base.tilt(guides()).unwrap();
        for prompt in ["The", "My sister", "naïve 日本"] {
            let expected = all(&mut expected, prompt, &wanted);
            let others = all(&mut alone, prompt, &wanted);
            for (number, found) in all(&mut found, prompt, &wanted).iter().enumerate() {
                let as_here = found.response == expected[number].response;
                if !as_here {
                    let ours = &expected[number];
                    let ids = |extended: &Extended| extended.response.ids.clone();
                    println!("{sampling:?} {prompt}: {:?} for {:?}", ids(found), ids(ours));
                }
                of_these += usize::from(as_here);
                all_these += 1;
                differ += usize::from(others[number].response != expected[number].response);
                count += 1;
            }
        }
        println!("{sampling:?}: {of_these} of {all_these} as here");
        let tenths = if is_cut { 9 } else { 5 };
        assert!(10 * of_these >= tenths * all_these, "{sampling:?}: {of_these} of {all_these}");
        same += of_these;
    }
    println!("{same} of {count} as here, where {differ} are not the base's own");
    assert!(differ > 0, "{differ} of {count}");
}
