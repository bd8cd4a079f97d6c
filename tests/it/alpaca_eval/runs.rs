//! Runs that end well: what the package is told, what is read back, and what is not asked twice.

use serde_json::{Value, json};

use super::Project;
use crate::common::success;

const RESULT: &str = "out/evaluate/alpaca_eval/base/base/seed-1/result.json";

#[test]
fn win_rates_are_read_back_and_nothing_is_judged_twice() {
    let project = Project::new(4);
    let table = success(&mut project.run(&[]));
    assert!(table.contains("win rate %") && !table.contains("LC win rate"), "{table}");
    // One of four references is shorter than the response.
    for (method, rate) in project.rates() {
        assert_eq!(
            (&rate["win_rate"], &rate["judged"], &rate["annotators"]),
            (&json!(25.0), &json!(4), &json!("longer")),
            "{method}"
        );
        // Of 0, 0, 0 and 1.
        assert_eq!(rate["standard_error"], 25.0);
        assert_eq!(
            (&rate["seeds"], &rate["length_controlled_win_rate"]),
            (&json!([25.0]), &Value::Null)
        );
    }
    assert_eq!(project.lines("asked").len(), 8);
    let call: Value = serde_json::from_str(&project.lines("calls")[0]).unwrap();
    assert_eq!(
        (&call["args"]["fn_metric"], &call["args"]["precomputed_leaderboard"]),
        (&json!("get_winrate"), &json!("None"))
    );
    assert_eq!(call["env"]["OPENAI_MAX_CONCURRENCY"], "5");
    let outputs = project.json("out/evaluate/alpaca_eval/base/again/seed-1/model_outputs.json");
    assert_eq!(outputs.as_array().unwrap().len(), 4);
    assert_eq!(
        (&outputs[3]["instruction"], &outputs[3]["generator"], &outputs[3]["dataset"]),
        (&json!("What is 3 & more?"), &json!("pairs/base/again"), &json!("made"))
    );

    success(&mut project.run(&[]));
    assert_eq!(project.lines("calls").len(), 2, "what is done is not done again");
    // A result that is gone is made again from the verdicts that were paid for.
    std::fs::remove_file(project.path(RESULT)).unwrap();
    success(&mut project.run(&[]));
    assert_eq!((project.lines("calls").len(), project.lines("asked").len()), (3, 8));
    assert_eq!(project.json(RESULT)["win_rate"], 25.0);
}

#[test]
fn what_is_chosen_alone_is_judged_and_counted_ahead() {
    let project = Project::new(4);
    let sets = ["evaluate.alpaca_eval.methods=[\"again\"]", "run.seeds=[1,2]"];
    let mut check = crate::common::w2s();
    check.arg("check").arg(project.path("recipe.toml"));
    let plan = success(check.args(sets.iter().flat_map(|set| ["--set", set])));
    assert!(plan.contains("2 × 4 = 8 judgements at most"), "{plan}");
    success(&mut project.run(&sets));
    let rates = project.rates();
    assert_eq!((&rates[0].1, &rates[1].1["judged"]), (&Value::Null, &json!(8)));
    // Two seeds more of the other method: the verdicts that are there stay.
    success(&mut project.run(&["run.seeds=[1,2]"]));
    assert_eq!(project.lines("asked").len(), 16);
    assert_eq!(project.rates()[0].1["seeds"], json!([25.0, 25.0]));
}

#[test]
fn the_key_is_in_no_file_and_the_address_in_the_clients() {
    let project = Project::new(4);
    let sets = [
        "evaluate.alpaca_eval.url=http://127.0.0.1:9/v1",
        "evaluate.alpaca_eval.key=W2S_TEST_JUDGE",
        "evaluate.alpaca_eval.at_once=2",
    ];
    success(project.run(&sets).env("W2S_TEST_JUDGE", "sk-secret").env("OPENAI_API_KEY", "other"));
    let call: Value = serde_json::from_str(&project.lines("calls")[0]).unwrap();
    assert_eq!(
        (&call["env"]["OPENAI_API_KEY"], &call["env"]["OPENAI_MAX_CONCURRENCY"]),
        (&json!("sk-secret"), &json!("2"))
    );
    let client = call["env"]["OPENAI_CLIENT_CONFIG_PATH"].as_str().unwrap();
    let client = std::fs::read_to_string(client).unwrap();
    assert!(client.contains("http://127.0.0.1:9/v1") && !client.contains("sk-"), "{client}");
    let mut held = std::process::Command::new("grep");
    held.args(["-rl", "sk-secret"]).arg(project.path("out"));
    assert_eq!(crate::common::stdout(&held.output().unwrap()), "", "the key lies in the run");
    // A server of one's own is not given the key of another one.
    let project = Project::new(4);
    success(project.run(&sets[..1]).env("OPENAI_API_KEY", "other"));
    let call: Value = serde_json::from_str(&project.lines("calls")[0]).unwrap();
    assert_eq!(call["env"]["OPENAI_API_KEY"], "none");
}
