//! The packages themselves: `alpaca_eval` against a judge and a hub on the loopback interface, and
//! `inspect` on our logs. They are too large for the judges' environments, so that the tests take
//! the programs that `W2S_ALPACA_EVAL` and `W2S_INSPECT` name.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::Project;
use crate::common::loopback::{Asked, Loopback, Play, Reply};
use crate::common::success;

/// Characters by which a response must be longer to be e times as likely to win.
const SCALE: f64 = 25.0;

/// AlpacaEval's instructions.
const PROMPTS: usize = 805;

/// The judge's preference for the first of two responses: longer ones win.
fn prefers(first: &str, second: &str) -> f64 {
    let longer = first.chars().count() as f64 - second.chars().count() as f64;
    1.0 / (1.0 + (-longer / SCALE).exp())
}

/// An OpenAI-compatible judge and a hub that has the table of the length control, at one address.
fn server() -> Loopback {
    Loopback::start(|asked| match asked.method.as_str() {
        "POST" => judge(asked),
        _ if asked.path.contains("/resolve/") && asked.path.ends_with("df_gamed.csv") => {
            let table = gamed();
            let headers = |reply: Reply| {
                let reply = reply.with("etag", format!("\"{}\"", "b".repeat(40)));
                reply.with("x-repo-commit", "a".repeat(40))
            };
            match asked.method.as_str() {
                // The length of what is not sent.
                "HEAD" => {
                    Play::Reply(headers(Reply::text(200, "")).with("content-length", table.len()))
                }
                _ => Play::Reply(headers(Reply::text(200, table))),
            }
        }
        _ => Play::Reply(Reply::json(404, &json!({}))),
    })
}

/// Answers as the package's annotator wants it: log-probabilities of `m` and `M`.
fn judge(asked: &Asked) -> Play {
    let body = asked.json();
    let text = body["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap();
    let outputs: Vec<&str> = text
        .split("\"output\": \"\"\"")
        .skip(1)
        .map(|rest| rest.split("\"\"\"\n").next().unwrap())
        .collect();
    assert_eq!(outputs.len(), 2, "{text}");
    assert_eq!(asked.header("authorization"), Some("Bearer sk-judge"));
    let first = prefers(outputs[0], outputs[1]);
    let token =
        |token: &str, probability: f64| json!({ "token": token, "logprob": probability.ln() });
    let top = [token("m", first), token("M", 1.0 - first)];
    let best = if first > 0.5 { "m" } else { "M" };
    Play::json(&json!({
        "id": "1", "object": "chat.completion", "created": 1, "model": body["model"],
        "choices": [{
            "index": 0, "finish_reason": "length",
            "message": { "role": "assistant", "content": best },
            "logprobs": { "content": [
                { "token": best, "logprob": 0.0, "top_logprobs": top }
            ] }
        }],
        "usage": { "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2 }
    }))
}

/// A made table of the kind: two models that play on length, on instructions of some difficulty.
fn gamed() -> String {
    let mut rows =
        "model,preference,index,std_delta_len,instruction_difficulty,not_gamed_baseline\n"
            .to_owned();
    for (model, longer) in [("concise", -1.0), ("verbose", 1.0)] {
        for index in 0..PROMPTS {
            let [difficulty, length] = [index as f64, index as f64 * 1.7 + 2.0].map(f64::sin);
            let delta = longer + 0.5 * length;
            let preference = 1.0 / (1.0 + (-(1.1 * delta.tanh() + 0.3 * difficulty)).exp());
            rows += &format!("{model},{preference},{index},{delta},{difficulty},False\n");
        }
    }
    rows
}

/// The numbers of the only row of a leaderboard, by column.
fn leaderboard(path: &Path, column: &str) -> f64 {
    let mut table = csv::Reader::from_path(path).unwrap();
    let place = table.headers().unwrap().iter().position(|known| known == column).unwrap();
    table.records().next().unwrap().unwrap()[place].parse().unwrap()
}

#[test]
#[ignore = "needs Python, and W2S_ALPACA_EVAL: make judge"]
fn the_package_judges_our_file_and_both_rates_are_read_back() {
    let package = std::env::var("W2S_ALPACA_EVAL").expect("names the package's program");
    let (project, server) = (Project::new(PROMPTS), server());
    // Lengths that vary, without which there is nothing to control for.
    let mut reference = project.json("reference.json");
    for (index, row) in reference.as_array_mut().unwrap().iter_mut().enumerate() {
        row["output"] = json!("x".repeat(10 + index % 41));
    }
    project.write("reference.json", &reference.to_string());
    let recipe = std::fs::read_to_string(project.path("recipe.toml")).unwrap();
    let recipe = recipe
        .replace("annotators = \"longer\"\n", "key = \"W2S_TEST_JUDGE\"\n")
        .replace("length_control = false\n", "")
        .replace("[\"python3\", \"fake.py\"]", &json!([package]).to_string())
        .replace("prompts = 4", "prompts = 805")
        .replace(", { kind = \"base\", name = \"again\" }", "");
    project.write("recipe.toml", &recipe);
    let url = format!("evaluate.alpaca_eval.url={}/v1", server.url());
    let asked = |command: &mut Command| {
        command.env("HF_ENDPOINT", server.url()).env("HF_HOME", project.path("cache"));
        command.env("W2S_TEST_JUDGE", "sk-judge").env("OPENAI_API_KEY", "sk-judge");
        success(command)
    };
    let table = asked(&mut project.run(&[&url]));
    assert!(table.contains("LC win rate %"), "{table}");
    let judged = server.asked().iter().filter(|asked| asked.method == "POST").count();
    assert_eq!(judged, PROMPTS);

    // The plain rate by hand.
    let outputs = project.json("out/evaluate/alpaca_eval/base/base/seed-1/model_outputs.json");
    let reference = project.json("reference.json");
    let output = |row: &Value| row["output"].as_str().unwrap().to_owned();
    let pairs = outputs.as_array().unwrap().iter().zip(reference.as_array().unwrap());
    let rates: Vec<f64> =
        pairs.map(|(ours, theirs)| prefers(&output(ours), &output(theirs))).collect();
    let rate = 100.0 * rates.iter().sum::<f64>() / PROMPTS as f64;
    let found = project.rates()[0].1.clone();
    let number = |field: &str| found[field].as_f64().unwrap();
    assert!((number("win_rate") - rate).abs() < 1e-6, "{found} {rate}");
    let [plain, controlled] = ["win_rate", "length_controlled_win_rate"].map(number);
    assert!((plain - controlled).abs() > 0.1 && controlled < 100.0, "{found}");

    // Both by the package's own hand, on what is exported.
    let file = asked(&mut project.export(&["--format", "alpaca-eval"]));
    let client = project.path("client.json");
    let at = json!({ "default": [{ "base_url": format!("{}/v1", server.url()) }] });
    std::fs::write(&client, at.to_string()).unwrap();
    let mut by_hand = Command::new(&package);
    by_hand
        .arg(format!("--model_outputs={}", file.trim()))
        .arg(format!("--reference_outputs={}", project.path("reference.json").display()))
        .arg(format!("--output_path={}", project.path("by-hand").display()))
        .arg(format!("--caching_path={}", project.path("by-hand.json").display()))
        .arg("--metric_kwargs={'save_weights_dir': None}")
        .env("OPENAI_CLIENT_CONFIG_PATH", &client);
    asked(&mut by_hand);
    let path = project.path("by-hand/weighted_alpaca_eval_gpt4_turbo/leaderboard.csv");
    for (field, column) in [
        ("win_rate", "win_rate"),
        ("standard_error", "standard_error"),
        ("length_controlled_win_rate", "length_controlled_winrate"),
    ] {
        let (ours, theirs) = (number(field), leaderboard(&path, column));
        assert!((ours - theirs).abs() < 1e-6, "{field}: {ours} and {theirs}");
    }
}

#[test]
#[ignore = "needs Python, and W2S_INSPECT: make judge"]
fn inspect_lists_and_reads_our_logs() {
    let inspect = std::env::var("W2S_INSPECT").expect("names the program `inspect`");
    let project = Project::new(4);
    success(&mut project.run(&["run.seeds=[1,2]"]));
    let written = success(&mut project.export(&["--format", "inspect"]));
    let files: Vec<&str> = written.lines().collect();
    assert_eq!(files.len(), 2);
    let mut list = Command::new(&inspect);
    let listed =
        success(list.args(["log", "list", "--json", "--log-dir"]).arg(project.path("exported")));
    for file in &files {
        let name = Path::new(file).file_name().unwrap().to_str().unwrap();
        assert!(listed.contains(name), "{name}: {listed}");
        let dumped = success(Command::new(&inspect).args(["log", "dump", file]));
        let read: Value = serde_json::from_str(&dumped).unwrap();
        assert_eq!(
            (&read["status"], &read["eval"]["config"]["epochs"]),
            (&json!("success"), &json!(2))
        );
        let ours: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let samples = read["samples"].as_array().unwrap();
        assert_eq!(samples.len(), 8);
        for (read, ours) in samples.iter().zip(ours["samples"].as_array().unwrap()) {
            for field in ["id", "epoch", "input", "metadata"] {
                assert_eq!(read[field], ours[field], "{field}");
            }
            assert_eq!(read["scores"]["gold"]["value"], ours["scores"]["gold"]["value"]);
            assert_eq!(read["output"]["completion"], ours["output"]["completion"]);
        }
    }
}
