//! Runs: recipes and data with mistakes, stages asked for, and the folder of a run.

use std::fs;
use std::path::Path;

use crate::common::{failure, recipe, short_smoke, success, w2s};

/// The smoke recipe reading `source`.
fn check_data(source: &Path, out: &Path) -> std::process::Command {
    let mut command = w2s();
    command.arg("run").arg(recipe("smoke.toml")).arg("--out").arg(out);
    for set in [
        format!("data.source={}", source.display()),
        "data.train=2".into(),
        "data.validation=1".into(),
        "data.test=1".into(),
    ] {
        command.args(["--set", &set]);
    }
    for set in ["steer.prompts=1", "preferences.prompts=1", "preferences.validation_prompts=1"] {
        command.args(["--set", set]);
    }
    for set in [
        "ppo.prompts=1",
        "ppo.validation_prompts=1",
        "ppo.minibatch_size=1",
        "ppo.training.batch_size=1",
    ] {
        command.args(["--set", set]);
    }
    command
}

#[test]
fn recipes_with_mistakes() {
    let folder = tempfile::tempdir().unwrap();
    let smoke = fs::read_to_string(recipe("smoke.toml")).unwrap();
    let path = folder.path().join("bad.toml");
    fs::write(
        &path,
        smoke
            .replace("beam_width = 2", "beam_widht = 2")
            .replace("n_head = 2\nn_embd = 96", "n_head = 5\nn_embd = 96"),
    )
    .unwrap();
    for command in ["check", "run"] {
        let error = failure(w2s().arg(command).arg(&path), 2);
        assert!(
            error.contains("bad.toml:")
                && error.contains("`beam_widht`")
                && error.contains("did you mean `beam_width`"),
            "{error}"
        );
    }
    let error = failure(w2s().args(["check", "nowhere.toml"]), 2);
    assert!(error.contains("nowhere.toml: no such recipe file"), "{error}");
    let error =
        failure(w2s().arg("run").arg(recipe("smoke.toml")).args(["--set", "steer.prompst=3"]), 2);
    assert!(error.contains("did you mean") && error.contains("prompts"), "{error}");
    let plan = success(w2s().arg("check").arg(recipe("smoke.toml")));
    assert!(plan.contains("stages") && plan.contains("memory"), "{plan}");
}

#[test]
fn data_with_mistakes_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let good = b"{\"text\":\"a b c d e f g h i j\",\"label\":1}\n";
    for (name, bad, message) in [
        ("bytes", &b"{\"text\":\"\xc3\x28\",\"label\":0}\n"[..], ":2: not UTF-8 at byte 10"),
        ("half", b"{\"text\":\"x\",", ":2: a half-written last line"),
    ] {
        let source = folder.path().join(format!("{name}.jsonl"));
        fs::write(&source, [&good[..], bad].concat()).unwrap();
        let error = failure(&mut check_data(&source, &folder.path().join("run")), 1);
        assert!(error.contains(&format!("{name}.jsonl{message}")), "{error}");
    }
    let error = failure(
        &mut check_data(&folder.path().join("missing.jsonl"), &folder.path().join("run")),
        2,
    );
    assert!(error.contains("missing.jsonl"), "{error}");
}

#[test]
fn stages_asked_for_anew_must_be_among_those_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let error = failure(
        w2s()
            .arg("run")
            .arg(recipe("smoke.toml"))
            .args(["--from", "gold", "--only", "sft", "--out"])
            .arg(&out),
        2,
    );
    assert!(
        error.contains("`--from gold` asks for `gold` anew, but `--only sft` leaves it out"),
        "{error}"
    );
    assert!(!out.exists(), "nothing was touched");
}

#[test]
fn a_run_directory_is_for_one_run_and_must_be_writable() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let mut first = w2s()
        .arg("run")
        .arg(recipe("smoke.toml"))
        .arg("--out")
        .arg(&out)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !out.join("plan.json").exists() {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let error = failure(w2s().arg("run").arg(recipe("smoke.toml")).arg("--out").arg(&out), 1);
    assert!(
        error.contains(&format!("process {}", first.id())) && error.contains("another run"),
        "{error}"
    );
    first.kill().unwrap();
    first.wait().unwrap();
    let blocked = folder.path().join("file");
    fs::write(&blocked, "").unwrap();
    let error = failure(
        w2s().arg("run").arg(recipe("smoke.toml")).arg("--out").arg(blocked.join("run")),
        1,
    );
    assert!(error.contains("file/run") && error.contains("creating the run directory"), "{error}");
}

#[test]
fn a_full_disk_stops_the_run_with_one_line_and_it_continues_afterwards() {
    // A limit on the size of files stands for a full disk: the write fails, whatever the file
    // system.
    let folder = tempfile::tempdir().unwrap();
    let run = |limit: &str| {
        let mut command = std::process::Command::new("bash");
        let program = env!("CARGO_BIN_EXE_w2s");
        // SIGXFSZ must be ignored for the write to fail instead of the process.
        let script = format!(
            "trap '' XFSZ; ulimit -f {limit}; exec {program} --no-progress run {} --out {}/run \
             --only pretrain --set pretrain.training.steps=2",
            recipe("smoke.toml").display(),
            folder.path().display()
        );
        command.args(["-c", &script]).env("OMP_NUM_THREADS", "1");
        command
    };
    let error = failure(&mut run("200"), 1);
    assert!(error.contains("writing") && error.contains("run"), "{error}");
    success(&mut run("unlimited"));
}

/// What `--only` does alone must have been made from this recipe's own inputs, or it would be filed
/// as this recipe's and trusted.
#[test]
fn stages_alone_take_only_inputs_of_the_same_recipe() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let run = |arguments: &[&str]| {
        let mut command = short_smoke(&out);
        command.args(arguments);
        command
    };
    let error = failure(&mut run(&["--only", "dpo"]), 1);
    assert!(
        error.contains(
            "stage `dpo` reads the results of `sft`, and `sft` has not been done with these \
             settings"
        ),
        "{error}"
    );
    assert!(
        error.contains(
            "hint: run without --only, or with --only pretrain --only gold --only preferences \
             --only sft --only dpo"
        ),
        "{error}"
    );
    let table = success(&mut run(&[]));
    let changed = "steer.method.1.n=1";
    let error = failure(&mut run(&["--only", "evaluate", "--set", changed]), 1);
    assert!(error.contains("stage `evaluate` reads the results of `steer`"), "{error}");
    let error = failure(&mut run(&["--only", "steer", "--set", "dpo.beta=0.9"]), 1);
    assert!(
        error.contains(
            "reads the results of `dpo`, and `dpo` has not been done with these settings"
        ),
        "{error}"
    );
    assert_eq!(success(&mut run(&["--only", "evaluate"])), table, "as it was");
    assert_eq!(
        success(&mut run(&["--only", "gold"])),
        "",
        "a table that this command did not make is not its result"
    );
    let other = success(&mut run(&["--set", changed]));
    assert!(other.contains("n 1 ") && other != table, "{other}");

    fs::write(out.join("mine.txt"), "precious").unwrap();
    failure(&mut run(&["--fresh", "--set", "run.device=cuda:63"]), 1);
    let error = failure(&mut run(&["--fresh", "--only", "evaluate"]), 2);
    assert!(
        error.contains(
            "`--fresh` would remove the results of `gold`, which `--only evaluate` reads\n\nhint: \
             `--from evaluate`"
        ),
        "{error}"
    );
    assert!(
        out.join("dpo/model.safetensors").exists(),
        "nothing is removed where the run cannot start"
    );
    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("mine.txt"), "precious").unwrap();
    let error = failure(
        w2s().arg("run").arg(recipe("smoke.toml")).arg("--out").arg(&elsewhere).arg("--fresh"),
        1,
    );
    assert!(
        error.contains(
            "is no run directory (it holds no `manifest.json`), and --fresh empties nothing else"
        ),
        "{error}"
    );
    assert!(elsewhere.join("mine.txt").exists() && out.join("mine.txt").exists());
}
