//! What recipes with served models may not say, and what is told before any work.

use std::time::Duration;

use super::{CBS, Words, recipe};
use crate::common::{failure, lines, output, stderr, stdout, success, w2s};

const EFT: &str = "[[steer.method]]\nkind = \"eft\"\nweights = [1.0]\n";
const BEAM: &str = "[[steer.method]]\nkind = \"beam\"\nbeam_width = 4\n";
const BASE: &str = "[[steer.method]]\nkind = \"base\"\n";

#[test]
fn methods_that_need_every_next_token_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let lacks = [
        (EFT, "eft", "which is served without `api.tokenizer`"),
        (BEAM, "beam", "which is served: servers tell a few likely tokens at most"),
    ];
    for (method, kind, lack) in lacks {
        let file = recipe(folder.path(), "http://127.0.0.1:9/v1", 4, "", method);
        let error = failure(w2s().arg("check").arg(&file), 2);
        assert!(
            error.contains(&format!("`steer.method.0`: `{kind}` needs the distribution"))
                && error.contains(lack),
            "{error}"
        );
    }
}

#[test]
fn bad_addresses_keys_and_prices_are_told_by_check() {
    let folder = tempfile::tempdir().unwrap();
    let told = [
        ("ftp://here", "", "`models.served.api.url` is `ftp://here`, which is no address"),
        ("http://me:secret@here/v1", "", "`models.served.api.url` holds a user or a password"),
        (
            "http://here/v1",
            "key = \"sk-abcdef\"",
            "`models.served.api.key` is not the name of an environment variable",
        ),
        (
            "http://here/v1",
            "budget = { cost = 1.0 }",
            "`models.served.api.budget.cost` is a bound, but tokens have no price",
        ),
        ("http://here/v1", "tokenizer = \"nowhere\"", "holds no tokenizer.json"),
        ("http://here/v1", "dialect = \"gpt\"", "`gpt`"),
    ];
    for (url, api, expected) in told {
        let file = recipe(folder.path(), url, 4, api, BASE);
        let error = failure(w2s().arg("check").arg(&file), 2);
        assert!(error.contains(expected), "{expected}\n{error}");
        assert!(!error.contains("sk-abcdef") && !error.contains("secret@"), "{error}");
    }
    let file = recipe(folder.path(), "http://here/v1", 4, "", BASE);
    for set in ["models.served.device=\"cpu\"", "models.served.dtype=\"float32\""] {
        let error = failure(w2s().arg("check").arg(&file).args(["--set", set]), 2);
        assert!(error.contains("says that it is served"), "{error}");
    }
    // Another origin on the command line takes its place.
    let set = format!("models.served.id={}", folder.path().join("model").display());
    let said = success(w2s().arg("check").arg(&file).args(["--set", &set]));
    assert!(said.contains("served: ") && !said.contains("served at"), "{said}");
    let set = "models.guide.api.url=\"http://here/v1\"";
    let error = failure(w2s().arg("check").arg(&file).args(["--set", set]), 2);
    assert!(error.contains("a guide that others serve, without `api.tokenizer`"), "{error}");
    let said = success(w2s().arg("check").arg(&file));
    assert!(said.contains("served: its only model served at http://here/v1"), "{said}");
}

#[test]
fn a_served_model_is_no_model_to_tune() {
    let folder = tempfile::tempdir().unwrap();
    let file = recipe(folder.path(), "http://here/v1", 4, "", BASE);
    let sets = ["preferences.policy=\"served\"", "preferences.source=\"data/test.jsonl\""];
    let mut command = w2s();
    command.arg("check").arg(&file);
    sets.iter().for_each(|set| {
        command.args(["--set", set]);
    });
    let error = failure(&mut command, 2);
    assert!(
        error.contains("`preferences.policy` is `served`, which is served by others"),
        "{error}"
    );
}

#[test]
fn what_a_server_lacks_is_told_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let (words, out) = (Words::start(|_| Duration::ZERO), folder.path().join("out"));
    let run = |url: &str, api: &str, code: i32| {
        let file = recipe(folder.path(), url, 4, api, CBS);
        failure(w2s().arg("run").arg(&file).arg("--out").arg(&out), code)
    };
    let error = run("http://127.0.0.1:9/v1", "limits = { attempts = 1 }", 1);
    assert!(error.contains("the server cannot be reached"), "{error}");
    let error = run(&words.url(), "key = \"W2S_NO_SUCH_KEY\"", 1);
    assert!(error.contains("`W2S_NO_SUCH_KEY`") && error.contains("is not set"), "{error}");
    let error = run(&words.url(), "model = \"other\"", 2);
    assert!(error.contains("has no model `other`") && error.contains("`words`"), "{error}");
    assert_eq!(words.book.requests(), 0, "nothing was paid for");
    assert!(!out.join("steer").exists());
}

#[test]
fn what_is_dropped_and_what_was_paid_stands_in_the_summary() {
    let folder = tempfile::tempdir().unwrap();
    let words = Words::start(|_| Duration::ZERO);
    let prices = "budget = { cost = 1.0, price_prompt = 10.0, price_completion = 20.0 }";
    let api = format!("{prices}, dialect = \"openai\"");
    let top_k = ["--set", "steer.sampling.top_k=5"];
    let out = folder.path().join("out");
    // It says the same by every seed that it is asked with, and not the likeliest word.
    let file = recipe(folder.path(), &words.url(), 4, &api, CBS);
    let error = failure(w2s().arg("run").arg(&file).args(top_k).arg("--out").arg(&out), 2);
    assert!(error.contains("cannot take top_k = 5") && error.contains("\"drop\""), "{error}");
    let api = format!("{api}, unsupported = \"drop\"");
    let file = recipe(folder.path(), &words.url(), 4, &api, CBS);
    let judged = std::fs::read_to_string(&file).unwrap()
        + "[gold]\ncommand = [\"python3\", \"-u\", \"reward.py\"]\n[evaluate]\n";
    std::fs::write(&file, judged).unwrap();
    let reward =
        "import json, sys\nfor line in sys.stdin:\n    print(len(json.loads(line)['response']))\n";
    std::fs::write(folder.path().join("reward.py"), reward).unwrap();
    let run = output(w2s().arg("run").arg(&file).args(top_k).arg("--out").arg(&out));
    let told = stderr(&run);
    assert!(run.status.success() && told.contains("cannot take top_k = 5; it samples"), "{told}");
    let table = stdout(&run);
    assert!(table.contains("dropped top_k = 5") && table.contains("in all: 8 requests"), "{table}");
    let text = std::fs::read_to_string(out.join("evaluate/summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&text).unwrap();
    let served = &summary["rows"][0]["served"];
    let paid = lines(&out.join("requests/served.jsonl"));
    let sum = |key: &str| paid.iter().map(|line| line[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!(served["requests"], 8);
    assert_eq!(served["completion_tokens"], sum("completion_tokens"));
    let cost = (10.0 * sum("prompt_tokens") as f64 + 20.0 * sum("completion_tokens") as f64) / 1e6;
    assert!((served["cost"].as_f64().unwrap() - cost).abs() < 1e-9, "{served} {cost}");
}
