//! Whole runs whose gold and whose further judge are of others: every stage that asks them, killed,
//! stopped and changed.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{BY_LENGTH, Bench, has_ended};
use crate::common::{failure, kill_when, lines, output, stderr, success, tiny_model, w2s};

/// All stages that ask a judge.
const RECIPE: &str = r#"
[run]
name = "others"
dtype = "float32"
[data]
source = "texts"
train = 24
validation = 4
test = 12
prompt = { min_words = 2, max_words = 3 }
[models.base]
id = "model"
[models.small.scratch]
architecture = "gpt2"
n_layer = 1
n_head = 2
n_embd = 16
n_positions = 32
tokenizer = { kind = "bpe", vocab_size = 280 }
[models.other.scratch]
architecture = "gpt2"
n_layer = 1
n_head = 2
n_embd = 8
n_positions = 32
tokenizer = { kind = "same_as", model = "small" }
[pretrain.training]
steps = 3
batch_size = 4
[gold]
command = ["python3", "reward.py"]
[preferences]
policy = "base"
prompts = 24
validation_prompts = 4
max_new_tokens = 6
label = "argmax"
[ppo]
policy = "small"
chunk_len = "inf"
prompts = 8
validation_prompts = 2
max_new_tokens = 4
[ppo.training]
steps = 2
batch_size = 4
eval_every = 1
[steer]
bases = ["base"]
tuned = "small"
untuned = "other"
prompts = 12
max_new_tokens = 6
method = [{ kind = "base" }, { kind = "best_of_n", n = 2 }]
[judges.second]
command = ["python3", "reward.py", "again"]
[evaluate]
"#;

/// The recipe, its data and models beside a program.
pub(super) fn project(script: &str) -> Bench {
    let bench = Bench::new(script);
    tiny_model(&bench.path(""));
    fs::create_dir(bench.path("texts")).unwrap();
    for (split, rows) in [("train", 24), ("validation", 4), ("test", 12)] {
        let row = |i: usize| json!({ "text": format!("{} {i} is {i} to see", &split[..2]) });
        let rows: String = (0..rows).map(|i| format!("{}\n", row(i))).collect();
        fs::write(bench.path(&format!("texts/{split}.jsonl")), rows).unwrap();
    }
    fs::write(bench.path("others.toml"), RECIPE).unwrap();
    bench
}

/// The recipe run from elsewhere: the program is found by the recipe's folder.
pub(super) fn run(bench: &Bench, sets: &[&str]) -> Command {
    let mut command = w2s();
    command.current_dir("/").arg("run").arg(bench.path("others.toml"));
    command.arg("--out").arg(bench.path("out"));
    command.args(sets.iter().flat_map(|set| ["--set", set]));
    command
}

/// What the judges of these runs say of a response: responses of one length are to differ.
const BY_LETTERS: &str = r#"
import json, os, sys, time
open("pids", "a").write(f"{os.getpid()}\n")
for line in sys.stdin:
    asked = json.loads(line)
    open("asked", "a").write(f"{sys.argv[1:]} {asked['id']}\n")
    time.sleep(SECONDS)
    print(sum(map(ord, asked["response"])) / 100)
"#;

pub(super) fn by_letters(seconds: &str) -> String {
    BY_LETTERS.replace("SECONDS", seconds)
}

pub(super) fn letters(response: &str) -> f64 {
    response.chars().map(|letter| u32::from(letter) as f64).sum::<f64>() / 100.0
}

const METHODS: [&str; 2] = ["base", "best_of_n"];

/// Every reward in the run is that of its response.
pub(super) fn assert_judged(out: &Path, judges: &[&str]) {
    let pairs = lines(&out.join("preferences/train.jsonl"));
    assert!(pairs.len() > 5, "{}", pairs.len());
    for pair in &pairs {
        for (response, reward) in [("chosen", "reward_chosen"), ("rejected", "reward_rejected")] {
            assert_eq!(
                pair[reward].as_f64().unwrap(),
                letters(pair[response].as_str().unwrap()),
                "{pair}"
            );
        }
        assert!(pair["reward_chosen"].as_f64() > pair["reward_rejected"].as_f64());
    }
    for method in METHODS {
        let cell = format!("base/{method}/seed-1.jsonl");
        let steered = lines(&out.join("steer").join(&cell));
        let rewards: HashMap<&str, f64> = steered
            .iter()
            .map(|line| (line["id"].as_str().unwrap(), letters(line["response"].as_str().unwrap())))
            .collect();
        assert_eq!(rewards.len(), 12);
        for judge in judges {
            let judged = lines(&out.join("evaluate").join(judge).join(&cell));
            assert_eq!(judged.len(), 12);
            for line in judged {
                assert_eq!(line["reward"].as_f64(), Some(rewards[line["id"].as_str().unwrap()]));
            }
        }
    }
    let watched = lines(&out.join("ppo/small/L-inf/seed-1/validation.jsonl"));
    assert_eq!(watched.len(), 3);
    assert!(watched.iter().all(|line| line["gold_reward"].as_f64().is_some_and(|r| r > 1.0)));
}

/// The files that hold rewards, and what they hold.
pub(super) fn judged_files(out: &Path) -> Vec<(String, String)> {
    let judged = ["gold", "second"].into_iter().flat_map(|judge| {
        METHODS.map(|method| format!("evaluate/{judge}/base/{method}/seed-1.jsonl"))
    });
    let pairs = ["train", "validation"].map(|split| format!("preferences/{split}.jsonl"));
    let all = judged.chain(pairs).chain(["ppo/small/L-inf/seed-1/validation.jsonl".to_owned()]);
    all.map(|file| (fs::read_to_string(out.join(&file)).unwrap(), file)).collect()
}

/// Killed while preferences are labelled and while answers are judged, on the way to the same
/// bytes; no answer that was written down is asked for again.
#[test]
fn a_program_labels_watches_and_judges_also_in_a_run_that_is_killed() {
    let untouched = project(&by_letters("0"));
    success(&mut run(&untouched, &[]));
    assert_judged(&untouched.path("out"), &["gold", "second"]);
    assert_eq!(untouched.lines("pids").len(), 6, "once for each stage and judge");

    let bench = project(&by_letters("0.02"));
    kill_when(&mut run(&bench, &[]), "preferences", || bench.lines("asked").len() > 5);
    let journal = bench.path("out/evaluate/gold/base/best_of_n/seed-1.jsonl");
    kill_when(&mut run(&bench, &[]), "judging", || {
        fs::read_to_string(&journal).is_ok_and(|text| text.lines().count() > 2)
    });
    let pids = bench.lines("pids");
    assert!(pids.iter().all(|pid| has_ended(pid)), "no program outlives its run: {pids:?}");
    let (known, asked) = (lines(&journal), bench.lines("asked").len());
    assert!(known.len() < 12, "{}", known.len());
    success(&mut run(&bench, &[]));
    assert_eq!(judged_files(&bench.path("out")), judged_files(&untouched.path("out")));
    let again = &bench.lines("asked")[asked..];
    for line in &known {
        let id = format!("[] {}", line["id"].as_str().unwrap());
        assert!(!again.contains(&id), "{id} is asked about again");
    }
    let second = again.iter().filter(|line| line.starts_with("['again']")).count();
    assert_eq!((again.len() - second, second), (12 - known.len(), 24), "{again:?}");
}

#[test]
fn a_stop_ends_the_program_and_the_run_goes_on() {
    let bench = project(&by_letters("1000"));
    let mut child = run(&bench, &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while bench.lines("asked").is_empty() {
        assert!(started.elapsed() < Duration::from_secs(120), "nothing was asked");
        std::thread::sleep(Duration::from_millis(10));
    }
    let stopped = Instant::now();
    // SAFETY: a signal to a child that has not been waited for.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
    assert!(!child.wait().unwrap().success());
    assert!(stopped.elapsed() < Duration::from_secs(10));
    assert!(bench.lines("pids").iter().all(|pid| has_ended(pid)));
    fs::write(bench.path("reward.py"), by_letters("0")).unwrap();
    success(&mut run(&bench, &[]));
    assert_judged(&bench.path("out"), &["gold", "second"]);
}

#[test]
fn an_edited_program_judges_anew_and_patience_changes_nothing() {
    let bench = project(&by_letters("0"));
    success(&mut run(&bench, &[]));
    let asked = bench.lines("asked").len();
    success(&mut run(&bench, &["gold.seconds=7"]));
    assert_eq!(bench.lines("asked").len(), asked);
    let moved = format!("{}\n# another program\n", by_letters("0"));
    fs::write(bench.path("reward.py"), moved).unwrap();
    let log = stderr(&output(&mut run(&bench, &[])));
    assert_eq!(bench.lines("asked").len(), 2 * asked, "{log}");
    assert!(!log.contains("pretrain/small: starting"), "{log}");
}

#[test]
fn a_program_that_fails_ends_the_run_with_its_words() {
    let bench = project("import sys\nprint('bad day', file=sys.stderr)\nsys.exit(4)\n");
    let error = failure(&mut run(&bench, &[]), 1);
    assert!(
        error.starts_with(
            "error: judge `gold`: the program `python3 reward.py` ended (exit status: 4)"
        ),
        "{error}"
    );
    assert!(error.contains("\n  bad day\n"), "{error}");
    let log = stderr(&output(&mut run(&bench, &[])));
    assert!(log.contains("INFO gold: bad day"), "stderr is in the log: {log}");
    assert!(log.contains("it is started again, once"), "{log}");
}

#[test]
fn the_shell_takes_a_program_as_the_gold() {
    let bench = project(BY_LENGTH);
    let mut command = w2s();
    command.current_dir(bench.path("")).args(["steer", "--base", "model", "--method", "base"]);
    command.args(["--max-new-tokens", "5", "--json", "--gold-command", "python3 reward.py"]);
    let said = success(command.args(["ab", "cd"]));
    let answers: Vec<Value> =
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 2);
    for answer in answers {
        let characters = answer["response"].as_str().unwrap().chars().count();
        assert_eq!(answer["gold_reward"].as_f64(), Some(characters as f64));
    }
}
