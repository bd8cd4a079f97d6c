//! Judges that are servers, on good days and bad ones.

use std::time::Duration;

use serde_json::{Value, json};
use w2s::error::Result;
use w2s::prompt::{Message, PromptText};
use w2s::recipe::{ApiLimits, RewardServer};
use w2s::score::{Server, ToJudge};

use super::lengths;
use crate::common::loopback::{Asked, Loopback, Play, Reply};

const LIMITS: ApiLimits = ApiLimits {
    at_once: 4,
    requests_per_minute: None,
    tokens_per_minute: None,
    attempts: 2,
    connect_seconds: 5.0,
    first_byte_seconds: 1.0,
    silence_seconds: 1.0,
};

/// The judge `gold` at this address.
fn judge(url: &str, model: Option<&str>, text: Option<&str>) -> Server {
    Server::new("gold", RewardServer { url, model, key: None, limits: Some(&LIMITS) }, text)
        .unwrap()
}

fn at(server: &Loopback) -> Server {
    judge(&format!("{}/get_reward", server.url()), None, None)
}

/// Asks about `count` responses of 1, 2, … characters to the prompt `Q: `.
fn ask(judge: &Server, count: usize) -> Result<Vec<f64>> {
    let prompt = PromptText::from("Q: ");
    let responses: Vec<String> = (1..=count).map(|length| "é".repeat(length)).collect();
    let asked = responses.iter().enumerate();
    let asked: Vec<ToJudge> =
        asked.map(|(i, response)| ToJudge::new(format!("r{i}"), &prompt, response)).collect();
    let mut rewards = Vec::new();
    judge.each_reward(&asked, &mut |reward| {
        rewards.push(reward);
        Ok(())
    })?;
    Ok(rewards)
}

fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().unwrap();
    list.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// The length of each response, as OpenRLHF's servers answer.
fn by_length(asked: &Asked) -> Vec<f64> {
    let body = asked.json();
    let both = texts(&body["query"]).into_iter().zip(texts(&body["prompts"]));
    both.map(|(text, prompt)| text.strip_prefix(prompt.as_str()).unwrap().chars().count() as f64)
        .collect()
}

fn answer(asked: &Asked) -> Play {
    Play::json(&json!({ "rewards": by_length(asked) }))
}

#[test]
fn many_texts_go_out_at_once_and_come_back_in_order() {
    // The first requests are the slowest.
    let server = Loopback::start(|asked| {
        answer(asked).slow(Duration::from_millis(if asked.number < 4 { 200 } else { 1 }))
    });
    let judge = at(&server);
    assert_eq!(ask(&judge, 100).unwrap(), lengths(100));
    assert_eq!(ask(&judge, 3).unwrap(), lengths(3), "and again");
    let asked = server.asked();
    assert_eq!(asked.len(), 8);
    assert!(asked.iter().all(|asked| asked.path == "/get_reward" && asked.method == "POST"));
    assert_eq!(texts(&asked[0].json()["labels"]), vec![""; 16], "as its own client sends them");
    assert!(server.in_flight_most() > 1 && server.in_flight_most() <= 4);
}

#[test]
fn vllm_classifies_and_pools() {
    let server = Loopback::start(|asked| {
        let body = asked.json();
        assert_eq!(body["model"], "owner/judge");
        let answers = texts(&body["input"]).into_iter().enumerate().map(|(index, text)| {
            let length = text.strip_prefix("<Q: >").unwrap().chars().count() as f64;
            match asked.path.as_str() {
                "/pooling" => json!({ "index": index, "data": [[0.0], [length]] }),
                "/v1/classify" => {
                    // A reward of `length / 10`.
                    let positive = 1.0 / (1.0 + (-length / 10.0).exp());
                    json!({ "index": index, "probs": [1.0 - positive, positive], "label": "LABEL_1" })
                }
                other => panic!("{other}"),
            }
        });
        // In whichever order.
        let mut answers: Vec<Value> = answers.collect();
        answers.reverse();
        Play::json(&json!({ "object": "list", "data": answers }))
    });
    let layout = Some("<{prompt}>{response}");
    let pooling = judge(&format!("{}/pooling", server.url()), Some("owner/judge"), layout);
    assert_eq!(ask(&pooling, 40).unwrap(), lengths(40));
    let classify = judge(&format!("{}/v1/classify", server.url()), Some("owner/judge"), layout);
    for (found, length) in ask(&classify, 40).unwrap().into_iter().zip(lengths(40)) {
        assert!((found - length / 10.0).abs() < 1e-9, "{found}");
    }
}

#[test]
fn what_may_pass_is_asked_again() {
    for (name, bad) in [
        ("500", Play::Reply(Reply::text(500, "sorry"))),
        ("429", Play::Reply(Reply::text(429, "later").with("retry-after", "0"))),
        ("cut", Play::CutAfter(40, Reply::json(200, &json!({ "rewards": [1, 2, 3] })))),
        ("reset", Play::ResetAfter(9, Reply::json(200, &json!({ "rewards": [1, 2, 3] })))),
        ("no JSON", Play::Reply(Reply::text(200, "{\"rewards\": [1, NaN, 3]}"))),
        ("too few", Play::json(&json!({ "rewards": [1, 2] }))),
        ("too many", Play::json(&json!({ "rewards": [1, 2, 3, 4] }))),
        ("other words", Play::json(&json!({ "scores": [1, 2, 3] }))),
        ("silence", Play::silence()),
    ] {
        let server = Loopback::start(
            move |asked| if asked.number == 0 { bad.clone() } else { answer(asked) },
        );
        assert_eq!(ask(&at(&server), 3).unwrap_or_else(|e| panic!("{name}: {e}")), lengths(3));
        assert_eq!(server.asked().len(), 2, "{name}");
    }
}

#[test]
fn what_does_not_pass_is_told_with_those_that_it_is_about() {
    for (bad, told, times) in [
        (Play::Reply(Reply::text(500, "out of memory")), "status 500", 2),
        (Play::Reply(Reply::text(400, "no such field")), "status 400", 1),
        (Play::json(&json!({ "rewards": [1, 2] })), "`rewards` has 2 answers to 3 texts", 2),
        (Play::Reply(Reply::text(200, "{\"rewards\": [1, NaN, 3]}")), "cannot be used", 2),
        (Play::silence(), "the server is silent", 2),
    ] {
        let server = Loopback::start(move |_| bad.clone());
        let error = ask(&at(&server), 3).unwrap_err().to_string();
        assert!(error.starts_with("gold (http://127.0.0.1:"), "{error}");
        assert!(error.contains(told), "{error}");
        assert!(error.contains(", asked about `r0` and 2 more\n\nhint: "), "{error}");
        assert_eq!(server.asked().len(), times, "{told}");
    }
}

/// The numbers before it are told, and it is not asked about again: it would be the same.
#[test]
fn a_number_that_is_none_is_named_by_its_id() {
    for bad in [json!(null), json!("high"), json!([]), json!({})] {
        let told = bad.to_string();
        let server = Loopback::start(move |asked| {
            let mut rewards: Vec<Value> = by_length(asked).into_iter().map(Value::from).collect();
            rewards[2] = bad.clone();
            Play::json(&json!({ "rewards": rewards }))
        });
        let error = ask(&at(&server), 4).unwrap_err().to_string();
        let expected =
            format!("judge `gold`: the reward of `r2` is {told}, which is no finite number");
        assert_eq!(error, expected);
        assert_eq!(server.asked().len(), 1);
    }
}

#[test]
fn a_chat_of_one_turn_is_a_text_and_others_are_refused() {
    let server = Loopback::start(answer);
    let judge = at(&server);
    let mut rewards = Vec::new();
    let one: PromptText = vec![Message::new("user", "Why?")].into();
    let several: PromptText = vec![Message::new("system", "s"), Message::new("user", "q")].into();
    let mut tell = |reward| {
        rewards.push(reward);
        Ok(())
    };
    judge.each_reward(&[ToJudge::new("a", &one, "So.")], &mut tell).unwrap();
    let error = judge.each_reward(&[ToJudge::new("b", &several, "So.")], &mut tell).unwrap_err();
    assert_eq!(rewards, [3.0]);
    assert!(error.to_string().contains("the prompt of `b` is a chat of several turns"), "{error}");
    assert_eq!(server.asked().len(), 1);
}
