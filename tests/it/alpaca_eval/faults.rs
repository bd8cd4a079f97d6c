//! What goes wrong with the package, its judge or the reference: one clear message, and the run's
//! other results are there.

use std::process::Command;

use serde_json::{Value, json};

use super::Project;
use crate::common::{failure, output, stderr, stdout, success, w2s};

#[test]
fn a_package_that_fails_costs_the_run_nothing_else() {
    let project = Project::new(4);
    project.write("mode", "fails");
    let sets = ["evaluate.alpaca_eval.key=W2S_TEST_JUDGE"];
    let error = failure(project.run(&sets).env("W2S_TEST_JUDGE", "sk-secret"), 1);
    for told in [
        "evaluate/alpaca_eval/base/base/seed-1: the program `python3 fake.py` ended (exit status: \
         1); its last words:\n  AuthError: wrong key ***",
        "hint: the same command goes on from the verdicts that are there",
        "the run's other results are there; what is left was not tried",
    ] {
        assert!(error.contains(told), "{told}\n{error}");
    }
    assert!(!error.contains("judge.py") && !error.contains("sk-secret"), "{error}");
    assert!(!error.contains("pip install"), "{error}");
    assert_eq!(project.lines("calls").len(), 1);
    let notes = [
        "alpaca_eval: base base: has no win rate: the program `python3 fake.py` ended (exit status: \
         1); its last words: AuthError: wrong key ***",
        "alpaca_eval: base again: has no win rate: the package failed of another row before, and \
         was not asked",
    ];
    assert_eq!(project.json("out/evaluate/summary.json")["notes"], json!(notes));
    let rates = project.rates();
    assert_eq!(rates, [("base".to_owned(), Value::Null), ("again".to_owned(), Value::Null)]);

    // Once it works the summary has what it says.
    project.write("mode", "");
    success(project.run(&sets).env("W2S_TEST_JUDGE", "sk-secret"));
    assert_eq!(project.rates()[1].1["win_rate"], 25.0);
    assert_eq!(project.json("out/evaluate/summary.json")["notes"], Value::Null);
}

#[test]
fn what_a_run_has_is_printed_though_the_package_failed() {
    let project = Project::new(4);
    project.write("mode", "fails");
    let ended = output(project.run(&[]).env("OPENAI_API_KEY", "sk-other"));
    assert_eq!(ended.status.code(), Some(1));
    let table = stdout(&ended);
    assert!(table.contains("gold reward"), "{table}");
    assert!(table.contains("warning: alpaca_eval: base again: has no win rate"), "{table}");
}

#[test]
fn where_the_package_comes_from_is_said_where_it_cannot_be_started() {
    let project = Project::new(4);
    project.write("package", "#!/nowhere/python\n");
    let runs = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(project.path("package"), runs).unwrap();
    let sets = ["evaluate.alpaca_eval.command=[\"./package\"]"];
    let error = failure(&mut project.run(&sets), 1);
    for told in ["cannot be started", "hint: `pip install alpaca-eval` puts it into a Python; the"]
    {
        assert!(error.contains(told), "{told}\n{error}");
    }
}

#[test]
fn no_key_for_a_judge_of_the_packages_is_said_ahead() {
    let project = Project::new(4);
    let without_key = |mut command: Command| {
        for name in ["OPENAI_API_KEY", "OPENAI_API_KEYS", "OPENAI_CLIENT_CONFIG_PATH"] {
            command.env_remove(name);
        }
        command
    };
    let told = "neither OPENAI_API_KEY nor OPENAI_CLIENT_CONFIG_PATH is set";
    let check = |key: Option<&str>| {
        let mut check = without_key(w2s());
        check.envs(key.map(|key| ("OPENAI_API_KEY", key)));
        success(check.arg("check").arg(project.path("recipe.toml")))
    };
    assert!(check(None).contains(told), "{}", check(None));
    assert!(!check(Some("sk-other")).contains(told));
    let run = || stderr(&output(&mut without_key(project.run(&[]))));
    let (first, again) = (run(), run());
    assert!(first.find(told).unwrap() < first.find("steer/base/base").unwrap(), "{first}");
    assert!(!again.contains(told), "all is judged: {again}");
}

#[test]
fn answers_that_are_no_verdicts_are_told_and_asked_for_again() {
    let project = Project::new(4);
    project.write("mode", "silent");
    let error = failure(&mut project.run(&[]), 1);
    for told in [
        "evaluate/alpaca_eval/base/base/seed-1: 3 of 4 responses have a verdict of longer",
        "hint: the same command asks for those again",
        "nor did it work for evaluate/alpaca_eval/base/again/seed-1",
    ] {
        assert!(error.contains(told), "{told}\n{error}");
    }
    assert_eq!(project.rates()[0].1["judged"], 3);
    assert_eq!(project.lines("asked").len(), 8);
    let note = "alpaca_eval: base base: 3 of 4 responses have a verdict; the same command asks for \
                the others";
    assert_eq!(project.json("out/evaluate/summary.json")["notes"][0], note);
    let summary = project.path("out");
    let table = success(w2s().arg("compare").arg(&summary));
    assert!(table.contains(" (3 of 4)"), "{table}");
    project.write("mode", "");
    let table = success(&mut project.run(&[]));
    assert!(!table.contains(" of 4)"), "{table}");
    assert_eq!(project.lines("asked").len(), 10, "the two that are missing");
    assert_eq!(project.rates()[0].1["judged"], 4);
}

#[test]
fn a_length_control_that_cannot_be_had_leaves_the_win_rate() {
    let project = Project::new(805);
    project.write("mode", "no hub");
    let sets = ["steer.prompts=805", "steer.max_new_tokens=1", "steer.method=[{kind=\"base\"}]"];
    let controlled = [&sets[..], &["evaluate.alpaca_eval.length_control=true"]].concat();
    let error = failure(&mut project.run(&controlled), 1);
    for told in [
        "EntryNotFound: no table",
        "the win rate is 0.12 %; there is none at equal length",
        "`HF_ENDPOINT`",
        "`evaluate.alpaca_eval.length_control = false`",
    ] {
        assert!(error.contains(told), "{told}\n{error}");
    }
    let rate = project.rates()[0].1.clone();
    assert_eq!((&rate["judged"], &rate["length_controlled_win_rate"]), (&json!(805), &Value::Null));
    success(
        &mut project.run(&[&sets[..], &["evaluate.alpaca_eval.length_control=false"]].concat()),
    );
    project.write("mode", "");
    let table = success(&mut project.run(&controlled));
    assert!(table.contains("LC win rate %") && table.contains("33.25"), "{table}");
    assert_eq!(project.lines("asked").len(), 805, "no verdict is paid for twice");
    assert_eq!(project.rates()[0].1["length_controlled_win_rate"], 33.25);
}

#[test]
fn what_is_missing_is_said_before_anything_is_done() {
    let project = Project::new(4);
    let sets = [
        "evaluate.alpaca_eval.command=[\"no-such-program\"]",
        "evaluate.alpaca_eval.reference=\"nowhere.json\"",
        "evaluate.alpaca_eval.annotators=\"./mine\"",
        "evaluate.alpaca_eval.length_control=true",
        "evaluate.alpaca_eval.methods=[\"cbs\"]",
        "evaluate.alpaca_eval.seeds=[7]",
    ];
    let mut check = w2s();
    check.arg("check").arg(project.path("recipe.toml"));
    check.args(sets.iter().flat_map(|set| ["--set", set]));
    for error in [failure(&mut project.run(&sets), 2), failure(&mut check, 2)] {
        for told in [
            "`evaluate.alpaca_eval.command`: there is no program `no-such-program`",
            "`evaluate.alpaca_eval.reference`: there is no JSON file",
            "`evaluate.alpaca_eval.annotators`: there is no file",
            "`evaluate.alpaca_eval.length_control` needs the 805 instructions of AlpacaEval",
            "`evaluate.alpaca_eval.methods`: no response is by `cbs`",
            "`evaluate.alpaca_eval.seeds`: no response has the seed 7",
        ] {
            assert!(error.contains(told), "{told}\n{error}");
        }
        assert_eq!(error.matches("nowhere.json").count(), 1, "{error}");
    }
    let key = ["evaluate.alpaca_eval.key=W2S_TEST_ABSENT"];
    let error = failure(&mut project.run(&key), 2);
    assert!(error.contains("`evaluate.alpaca_eval.key`: the environment variable"), "{error}");
    assert!(!project.path("out").exists());
}

#[test]
fn a_reference_for_other_instructions_is_refused_with_each_of_them() {
    let project = Project::new(4);
    let mut reference = project.json("reference.json");
    reference[2]["instruction"] = json!("What is 2 & more? ");
    project.write("reference.json", &reference.to_string());
    let mut check = w2s();
    check.arg("check").arg(project.path("recipe.toml"));
    for error in [failure(&mut project.run(&[]), 1), failure(&mut check, 2)] {
        for told in [
            "its 4 instructions are not the 4 prompts",
            "row 2 of the reference, \"What is 2 & more? \", is none of the prompts (`test-2` \
             differs in the white space around it)",
            "prompt `test-2`, \"What is 2 & more?\", has no reference",
        ] {
            assert!(error.contains(told), "{told}\n{error}");
        }
    }
    assert!(!project.path("out/steer").exists(), "nothing was steered for it");
}
