//! `--shard`: shares of the prompts answered apart and merged are the unsharded run, whatever is
//! killed, repeated or left over.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{
    assert_same, failure, kill_when, lines, output, recipe, stderr, success, tiny_model, w2s,
};
use serde_json::{Value, json};
use w2s::artifacts::RunDir;
use w2s::models::weights::{read_tensors, write_tensors};
use w2s::text::Tokenizer;

const PROMPTS: usize = 7;

/// A recipe that steers one tiny model with two others and has a third judge it: nothing to train,
/// two methods, two seeds.
struct Tiny {
    folder: tempfile::TempDir,
}

impl Tiny {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["base", "tuned", "untuned"] {
            let weights = tiny_model(&folder.path().join(name)).join("model.safetensors");
            let mut tensors: Vec<_> = read_tensors(&weights).unwrap().into_iter().collect();
            let norm =
                tensors.iter_mut().find(|(name, _)| name == "transformer.ln_f.weight").unwrap();
            norm.1 = &norm.1 * if name == "untuned" { 0.5 } else { 1.0 };
            write_tensors(&weights, &tensors, &[]).unwrap();
        }
        let gold = folder.path().join("gold");
        fs::create_dir(&gold).unwrap();
        let reward = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gpt2-reward");
        let tokenizer = folder.path().join("base/model");
        for (from, file) in [
            (&reward, "config.json"),
            (&reward, "model.safetensors"),
            (&tokenizer, "tokenizer.json"),
            (&tokenizer, "tokenizer_config.json"),
        ] {
            fs::copy(from.join(file), gold.join(file)).unwrap();
        }
        let model = |name: &str| format!("[models.{name}]\nid = \"{name}/model\"\n");
        let text = format!(
            "[run]\nname = \"tiny\"\nseeds = [1, 2]\ndtype = \"float32\"\n\
             [data]\nsource = \"builtin:reviews\"\ntrain = 1\nvalidation = 1\ntest = 32\nprompt = \
             {{ min_words = 1, max_words = 2 }}\n\
             {}{}{}[gold]\nid = \"gold\"\n\
             [steer]\nbases = [\"base\"]\ntuned = \"tuned\"\nuntuned = \"untuned\"\nprompts = \
             {PROMPTS}\nmax_new_tokens = 8\nprompts_in_flight = 2\n\
             method = [{{ kind = \"base\" }}, {{ kind = \"best_of_n\", n = 4 }}]\n[evaluate]\n",
            model("base"),
            model("tuned"),
            model("untuned")
        );
        fs::write(folder.path().join("tiny.toml"), text).unwrap();
        Self { folder }
    }

    /// A run directory in which all is done that shards read.
    fn prepared(&self, out: &str) -> PathBuf {
        success(&mut self.run(out, &["--only", "gold"]));
        self.out(out)
    }

    fn out(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, out: &str, arguments: &[&str]) -> Command {
        let mut command = w2s();
        command
            .arg("run")
            .arg(self.folder.path().join("tiny.toml"))
            .arg("--out")
            .arg(self.out(out))
            .args(arguments);
        command
    }
}

/// Every journal below `steer/`, by its path there.
fn journals(out: &Path) -> Vec<String> {
    let steer = out.join("steer");
    let mut found = BTreeSet::new();
    let mut folders = vec![steer.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(&steer).unwrap().display().to_string());
            }
        }
    }
    found.into_iter().collect()
}

fn ids(path: &Path) -> Vec<String> {
    lines(path).iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect()
}

/// The same answers to the same prompts in every journal, and no journal more.
fn assert_same_answers(whole: &Path, merged: &Path) {
    assert_eq!(journals(whole), journals(merged));
    for journal in journals(whole) {
        let sorted = |out: &Path| {
            let mut lines = lines(&out.join("steer").join(&journal));
            lines.iter_mut().for_each(|line| drop(line.as_object_mut().unwrap().remove("seconds")));
            lines.sort_by_key(|line| line["id"].as_str().unwrap().to_owned());
            json!(lines)
        };
        assert_same(&sorted(whole), &sorted(merged), &journal);
    }
}

fn assert_same_summary(whole: &str, merged: &str) {
    let without_time = |text: &str| {
        let mut summary: Value = serde_json::from_str(text).unwrap();
        for row in summary["rows"].as_array_mut().unwrap() {
            row.as_object_mut().unwrap().remove("seconds").unwrap();
        }
        for row in summary.get_mut("ppo").and_then(Value::as_array_mut).into_iter().flatten() {
            row.as_object_mut().unwrap().remove("rollouts_per_second").unwrap();
        }
        summary
    };
    assert_same(&without_time(whole), &without_time(merged), "summary");
}

#[test]
fn a_trained_run_in_shards_is_the_unsharded_one() {
    let scratch = tempfile::tempdir().unwrap();
    let (whole, split) = (scratch.path().join("whole"), scratch.path().join("split"));
    let run = |out: &Path, arguments: &[&str]| {
        let mut command = w2s();
        command.arg("run").arg(recipe("smoke.toml")).arg("--out").arg(out).args(arguments);
        for set in [
            "pretrain.training.steps=20",
            "gold.training.steps=20",
            "steer.prompts=12",
            "steer.prompts_in_flight=2",
        ] {
            command.args(["--set", set]);
        }
        command
    };
    let expected = success(&mut run(&whole, &["--json"]));

    let due = failure(&mut run(&split, &["--shard", "1/3"]), 1);
    assert!(
        due.contains(
            "have not been done with these settings: `pretrain`, `gold`, `preferences`, `sft`, \
             `dpo`, `direct`, `ppo`\n"
        ),
        "{due}"
    );
    let first = ["pretrain", "gold", "preferences", "sft", "dpo", "direct", "ppo"]
        .map(|stage| ["--only", stage])
        .concat();
    assert!(
        due.contains(&format!("hint: first run `w2s run RECIPE {}` with", first.join(" "))),
        "{due}"
    );
    // Steering reads no reward model, so the hint leaves it out.
    success(&mut run(&split, &[&first[..], &["--only", "reward_model"]].concat()));
    let of_the_run = || {
        ["manifest.json", "recipe.toml", "plan.json"]
            .map(|file| fs::read(split.join(file)).unwrap())
    };
    let before = of_the_run();

    let beside = ["1/3", "3/3"]
        .map(|shard| run(&split, &["--shard", shard, "--only", "steer"]).spawn().unwrap());
    let journal = split.join("steer/base/cbs/seed-1.shard-2-of-3.jsonl");
    let complete =
        || fs::read(&journal).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count();
    kill_when(&mut run(&split, &["--shard", "2/3"]), "shard 2/3", || complete() >= 1);
    for mut shard in beside {
        assert!(shard.wait().unwrap().success());
    }
    let killed = fs::read(&journal).unwrap();
    assert_eq!(of_the_run(), before, "shards write nothing of the run's");
    let unfinished = failure(&mut run(&split, &["--only", "evaluate"]), 1);
    assert!(
        unfinished.contains("/seed-1` lacks the answers to ")
            && unfinished.contains(" of 12 prompts, and "),
        "{unfinished}"
    );
    assert!(
        unfinished.contains(" of 12 tasks lack some; shards that have not finished: 1 of 3 (2)\n"),
        "{unfinished}"
    );

    success(&mut run(&split, &["--shard", "2/3"]));
    let continued = fs::read(&journal).unwrap();
    let whole_lines = killed.iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    assert_eq!(
        continued[..whole_lines],
        killed[..whole_lines],
        "what was answered before the kill stands"
    );
    let merged = success(&mut run(&split, &["--only", "evaluate", "--json"]));
    assert_same_summary(&expected, &merged);
    assert_same_answers(&whole, &split);
    assert!(!split.join("state/shards").exists(), "nothing of the shards is left");
    let again = stderr(&output(&mut run(&split, &[])));
    assert!(
        again.contains("steer/base/cbs/seed-1: done already") && !again.contains("starting"),
        "{again}"
    );
    assert!(success(w2s().arg("compare").args([&whole, &split])).contains("best_of_n"));
}

#[test]
fn layouts_mix_and_a_run_answers_the_rest() {
    let tiny = Tiny::new();
    let expected = success(&mut tiny.run("whole", &["--json"]));
    let out = tiny.prepared("split");
    // Prompts 0 2 4 6, then 2 6 again and 1 5: of 7 prompts number 3 is left, which is shard 2/2's
    // and 4/4's.
    for shard in ["1/2", "3/4", "2/4"] {
        success(&mut tiny.run("split", &["--shard", shard]));
    }
    assert!(!out.join("steer/base/base/seed-1.jsonl").exists());
    // The same shard with other settings answers anew, and is nobody's business but that recipe's.
    let other = ["--shard", "2/2", "--set", "steer.max_new_tokens=4"];
    success(&mut tiny.run("split", &other));
    for _ in 0..2 {
        let run = output(&mut tiny.run("split", &["--only", "evaluate"]));
        let log = stderr(&run);
        assert_eq!(run.status.code(), Some(1), "{log}");
        assert!(
            log.contains(
                "seed-1.shard-2-of-2.jsonl: answers given with other settings are left out"
            ),
            "{log}"
        );
        let error = "error: `steer/base/base/seed-1` lacks the answers to 1 of 7 prompts, and 4 of \
                     4 tasks lack some; shards that have not finished: 1 of 2 (2), 1 of 4 \
                     (4)\n\nhint: run these shards again";
        assert!(log.contains(error), "{log}");
    }
    let merged = out.join("steer/base/best_of_n/seed-2.jsonl");
    let before = fs::read(&merged).unwrap();
    assert_eq!(
        ids(&merged),
        ["test-0", "test-1", "test-2", "test-4", "test-5", "test-6"],
        "in the order of the prompts, each once"
    );
    let summary = success(&mut tiny.run("split", &["--json"]));
    assert_same_summary(&expected, &summary);
    let after = fs::read(&merged).unwrap();
    assert_eq!(after[..before.len()], before, "only what was missing is answered");
    assert_eq!(ids(&merged)[6..], ["test-3"]);
    let left: Vec<String> =
        journals(&out).into_iter().filter(|name| name.contains("shard")).collect();
    assert!(
        left.len() == 4 && left.iter().all(|name| name.ends_with("shard-2-of-2.jsonl")),
        "{left:?}"
    );

    // Answers of other settings are wiped where the same shard starts with new ones.
    let stale = out.join("steer/base/base/seed-1.shard-2-of-2.jsonl");
    let four = fs::read(&stale).unwrap();
    success(&mut tiny.run("split", &["--shard", "2/2", "--set", "steer.max_new_tokens=5"]));
    assert!(ids(&stale).len() == 3 && fs::read(&stale).unwrap() != four);
    assert!(lines(&stale).iter().all(|line| line["response_tokens"].as_u64().unwrap() <= 5));
    // Done anew means anew: nothing that shards left comes back.
    success(&mut tiny.run("split", &["--shard", "1/2", "--set", "steer.max_new_tokens=5"]));
    success(&mut tiny.run("split", &["--from", "steer", "--set", "steer.max_new_tokens=5"]));
    let log = stderr(&output(&mut tiny.run("split", &["--from", "steer"])));
    assert!(!log.contains("merged") && !out.join("state/shards").exists(), "{log}");
    assert_same_answers(&tiny.out("whole"), &out);
}

#[test]
fn a_shard_goes_on_from_what_the_run_has_answered() {
    let tiny = Tiny::new();
    let expected = success(&mut tiny.run("whole", &["--json"]));
    tiny.prepared("split");
    for shard in ["1/3", "2/3"] {
        success(&mut tiny.run("split", &["--shard", shard]));
    }
    failure(&mut tiny.run("split", &["--only", "evaluate"]), 1);
    // In one share of all prompts only those are due that were not merged: 2 and 5.
    success(&mut tiny.run("split", &["--shard", "1/1"]));
    assert_eq!(ids(&tiny.out("split").join("steer/base/base/seed-1.shard-1-of-1.jsonl")).len(), 2);
    assert_same_summary(
        &expected,
        &success(&mut tiny.run("split", &["--only", "evaluate", "--json"])),
    );
    assert_same_answers(&tiny.out("whole"), &tiny.out("split"));
    // Nothing is left for a shard to do.
    let log = stderr(&output(&mut tiny.run("split", &["--shard", "1/2"])));
    assert!(
        log.contains("steer/base/base/seed-1: done already") && !log.contains("to answer"),
        "{log}"
    );
}

#[test]
fn a_prompt_without_an_answer_keeps_no_other_from_its_own() {
    let tiny = Tiny::new();
    let whole = tiny.out("whole");
    success(&mut tiny.run("whole", &[]));
    // The tuned guide gives no number to what only the longest prompts and their responses reach.
    let tokenizer = Tokenizer::open(&tiny.folder.path().join("tuned/model")).unwrap();
    let all = lines(&whole.join("steer/base/base/seed-1.jsonl"));
    let tokens = |line: &Value| tokenizer.encode(line["prompt"].as_str().unwrap()).unwrap().len();
    let longest = all.iter().map(tokens).max().unwrap();
    let weights = tiny.folder.path().join("tuned/model/model.safetensors");
    let mut tensors: Vec<_> = read_tensors(&weights).unwrap().into_iter().collect();
    let positions = tensors.iter_mut().find(|(name, _)| name == "transformer.wpe.weight").unwrap();
    let _ = positions.1.get(longest as i64 + 6).fill_(f64::NAN);
    write_tensors(&weights, &tensors, &[]).unwrap();
    for arguments in [&[][..], &["--only", "steer"], &["--only", "steer", "--shard", "1/1"]] {
        let error = failure(&mut tiny.run("lossy", arguments), 1);
        let is_lost = |file: &str, id: &str| {
            error.contains(&format!(
                "steer/{}: prompt `{id}` has no answer",
                file.trim_end_matches(".jsonl")
            ))
        };
        let (mut answered, mut lost) = (0, 0);
        for file in journals(&whole) {
            let kept = ids(&tiny.out("lossy/steer").join(&file));
            for line in lines(&whole.join("steer").join(&file)) {
                let id = line["id"].as_str().unwrap();
                assert!(
                    kept.contains(&id.to_owned()) != is_lost(&file, id),
                    "{file}: `{id}` is in the journal or in the error: {error}"
                );
                assert!(
                    !is_lost(&file, id) || tokens(&line) == longest,
                    "only the longest: {error}"
                );
                if is_lost(&file, id) { lost += 1 } else { answered += 1 }
            }
        }
        assert!(
            error.contains("the guides gave the score NaN to")
                && error.contains("hint: the same command"),
            "{error}"
        );
        assert!(lost > 1 && answered > 2 * lost, "{lost} and {answered}");
    }
}

#[test]
fn more_shards_than_prompts() {
    let tiny = Tiny::new();
    let expected = success(&mut tiny.run("whole", &["--json"]));
    tiny.prepared("split");
    let shards: Vec<String> =
        (1..=PROMPTS + 2).map(|number| format!("{number}/{}", PROMPTS + 2)).collect();
    for shard in &shards {
        success(&mut tiny.run("split", &["--shard", shard]));
    }
    assert_same_summary(
        &expected,
        &success(&mut tiny.run("split", &["--only", "evaluate", "--json"])),
    );
    assert_same_answers(&tiny.out("whole"), &tiny.out("split"));
}

#[test]
fn a_directory_is_for_one_run_or_for_different_shards() {
    let tiny = Tiny::new();
    let out = tiny.prepared("run");
    let me = format!("(process {} on ", std::process::id());
    let run = RunDir::open(&out).unwrap();
    let error = failure(&mut tiny.run("run", &["--shard", "1/3"]), 1);
    assert!(error.contains(&format!("another run {me}")), "{error}");
    drop(run);
    let shard = RunDir::open_shard(&out, "1/3".parse().unwrap()).unwrap();
    let error = failure(&mut tiny.run("run", &["--shard", "1/3"]), 1);
    assert!(error.contains(&format!("another process of shard 1/3 {me}")), "{error}");
    for arguments in [&[][..], &["--only", "evaluate"], &["--fresh"]] {
        let error = failure(&mut tiny.run("run", arguments), 1);
        assert!(
            error.contains("a shard of this run is using this directory\n\nhint: wait for it"),
            "{error}"
        );
    }
    success(&mut tiny.run("run", &["--shard", "2/3"]));
    drop(shard);
    success(&mut tiny.run("run", &["--fresh"]));
    assert!(!journals(&out).iter().any(|name| name.contains("shard")));
}

#[test]
fn shards_that_cannot_be_are_usage_errors() {
    let smoke = recipe("smoke.toml");
    for shard in ["0/4", "5/4", "a", "1/0", "", "1/", "/2", "-1/2", "1/2/3"] {
        let error = failure(w2s().arg("run").arg(&smoke).arg(format!("--shard={shard}")), 2);
        assert!(
            error.contains("--shard <I/N>")
                && error.contains("expected I/N with whole numbers 1 <= I <= N"),
            "{error}"
        );
    }
    for other in [
        &["--from", "steer"][..],
        &["--fresh"],
        &["--only", "evaluate"],
        &["--only", "steer", "--only", "pretrain"],
    ] {
        let error = failure(w2s().arg("run").arg(&smoke).args(["--shard", "1/2"]).args(other), 2);
        assert!(error.contains("cannot be used with"), "{error}");
    }
    let tiny = Tiny::new();
    let recipe = tiny.folder.path().join("tiny.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    fs::write(&recipe, text.split("[steer]").next().unwrap()).unwrap();
    let error = failure(&mut tiny.run("run", &["--shard", "1/2"]), 2);
    assert!(error.contains("the recipe has no stage `steer`"), "{error}");
}
