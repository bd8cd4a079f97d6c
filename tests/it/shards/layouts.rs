//! How many shards there may be, and who may write where.

use std::fs;

use w2s::artifacts::RunDir;

use super::{PROMPTS, Tiny, assert_same_answers, assert_same_summary, journals};
use crate::common::{failure, recipe, success, usage_error, w2s};

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
    let let_go = |lock: RunDir| {
        drop(lock);
        // What another test starts meanwhile has it, too, until it has become its own program.
        std::thread::sleep(std::time::Duration::from_millis(500));
    };
    let_go(run);
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
    let_go(shard);
    success(&mut tiny.run("run", &["--fresh"]));
    assert!(!journals(&out).iter().any(|name| name.contains("shard")));
}

#[test]
fn shards_that_cannot_be_are_usage_errors() {
    let smoke = recipe("smoke.toml");
    for shard in ["0/4", "5/4", "a", "1/0", "", "1/", "/2", "-1/2", "1/2/3"] {
        let error = usage_error(w2s().arg("run").arg(&smoke).arg(format!("--shard={shard}")));
        let error = error.unwrap_or_else(|| panic!("`{shard}` is taken"));
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
        let mut command = w2s();
        command.arg("run").arg(&smoke).args(["--shard", "1/2"]).args(other);
        let error = usage_error(&command).unwrap_or_else(|| failure(&mut command, 2));
        assert!(error.contains("cannot be used with"), "{error}");
    }
    let tiny = Tiny::new();
    let recipe = tiny.folder.path().join("tiny.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    fs::write(&recipe, text.split("[steer]").next().unwrap()).unwrap();
    let error = failure(&mut tiny.run("run", &["--shard", "1/2"]), 2);
    assert!(error.contains("the recipe has no stage `steer`"), "{error}");
}
