//! Shares of a run, merged, against the unsharded one.

use std::fs;
use std::path::Path;

use serde_json::Value;
use w2s::models::weights::{read_tensors, write_tensors};
use w2s::text::Tokenizer;

use super::{Tiny, assert_same_answers, assert_same_summary, journals};
use crate::common::{failure, kill_when, lines, output, short_smoke, stderr, success, w2s};

fn ids(path: &Path) -> Vec<String> {
    lines(path).iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_trained_run_in_shards_is_the_unsharded_one() {
    let scratch = tempfile::tempdir().unwrap();
    let (whole, split) = (scratch.path().join("whole"), scratch.path().join("split"));
    let run = |out: &Path, arguments: &[&str]| {
        let mut command = short_smoke(out);
        command.args(arguments);
        command.args(["--set", "steer.prompts=12", "--set", "steer.prompts_in_flight=2"]);
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
        unfinished.contains(" of 14 tasks lack some; shards that have not finished: 1 of 3 (2)\n"),
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
                     6 tasks lack some; shards that have not finished: 1 of 2 (2), 1 of 4 \
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
