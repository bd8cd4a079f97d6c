//! What servers of rewards are sent and what they answer: OpenRLHF's remote reward model, vLLM's
//! `/classify` and `/pooling`. Knows texts and numbers only; sending is left to `server.rs`.

use serde_json::{Value, json};

use crate::recipe::RewardShape;

/// One response, as a server is sent it.
pub struct Sent {
    /// The prompt alone.
    pub prompt: String,
    /// Prompt and response as the judge reads them.
    pub text: String,
}

/// The reward of each text, or what stands in its place.
pub type Rewards = Vec<Result<f64, String>>;

/// The smallest probability that is told from none, that of f32.
const LEAST: f64 = f32::MIN_POSITIVE as f64;

/// The body of a request about these.
pub fn body(shape: RewardShape, model: Option<&str>, sent: &[Sent]) -> Value {
    let texts: Vec<&str> = sent.iter().map(|one| one.text.as_str()).collect();
    let mut body = match shape {
        RewardShape::OpenRlhf => {
            let prompts: Vec<&str> = sent.iter().map(|one| one.prompt.as_str()).collect();
            // Its own client sends an empty label where the data have none.
            json!({ "query": texts, "prompts": prompts, "labels": vec![""; sent.len()] })
        }
        RewardShape::Classify | RewardShape::Pooling => json!({ "input": texts }),
    };
    if let Some(model) = model {
        body["model"] = json!(model);
    }
    body
}

/// The texts that a body asks about.
pub fn count(body: Option<&Value>) -> usize {
    let texts = body.and_then(|body| body.get("query").or_else(|| body.get("input")));
    texts.and_then(Value::as_array).map_or(0, Vec::len)
}

/// The rewards that a reply holds, of `count` texts and in their order.
///
/// # Errors
/// What is wrong with the reply as a whole.
pub fn rewards(shape: RewardShape, reply: &Value, count: usize) -> Result<Rewards, String> {
    let key = match shape {
        RewardShape::OpenRlhf => "rewards",
        RewardShape::Classify | RewardShape::Pooling => "data",
    };
    let answers = reply.get(key).ok_or_else(|| format!("it has no `{key}`"))?;
    let mut answers: Vec<&Value> = match answers {
        Value::Array(answers) => answers.iter().collect(),
        one => vec![one],
    };
    if answers.len() != count {
        return Err(format!("`{key}` has {} answers to {count} texts", answers.len()));
    }
    if shape != RewardShape::OpenRlhf {
        by_index(&mut answers)?;
    }
    let read = |answer: &Value| {
        let reward = match shape {
            RewardShape::OpenRlhf => last_number(answer),
            RewardShape::Classify => log_odds(answer),
            RewardShape::Pooling => answer.get("data").and_then(last_number),
        };
        reward.filter(|reward| reward.is_finite()).ok_or_else(|| answer.to_string())
    };
    Ok(answers.into_iter().map(read).collect())
}

/// Puts answers that have an `index` in the order of the texts.
fn by_index(answers: &mut [&Value]) -> Result<(), String> {
    let index = |answer: &Value| answer.get("index").and_then(Value::as_u64);
    if answers.iter().all(|answer| answer.get("index").is_none()) {
        return Ok(());
    }
    answers.sort_by_key(|answer| index(answer));
    let wrong = (0u64..).zip(answers.iter()).find(|(place, answer)| index(answer) != Some(*place));
    wrong.map_or(Ok(()), |(place, _)| Err(format!("no answer of `data` has the index {place}")))
}

/// A number, or the last of a list: a reward model that tells one for each token is read at the
/// end.
fn last_number(value: &Value) -> Option<f64> {
    match value {
        Value::Array(values) => last_number(values.last()?),
        value => value.as_f64(),
    }
}

/// log p(positive) − log p(negative) of two classes; of one, its number.
fn log_odds(answer: &Value) -> Option<f64> {
    let probs = answer.get("probs")?.as_array()?;
    let probs: Vec<f64> = probs.iter().map(Value::as_f64).collect::<Option<_>>()?;
    match probs.as_slice() {
        [one] => Some(*one),
        [first, second] if probs.iter().all(|p| (0.0..=1.0).contains(p)) => {
            let log = |p: &f64| p.max(LEAST).ln();
            let odds = log(second) - log(first);
            Some(if first_is_positive(answer, *first > *second) { -odds } else { odds })
        }
        _ => None,
    }
}

/// Whether class 0 is the positive one, by the label that the answer gives the likelier class. The
/// second is, where labels have no such names.
fn first_is_positive(answer: &Value, first_is_likelier: bool) -> bool {
    let label = answer.get("label").and_then(Value::as_str).unwrap_or_default().to_uppercase();
    match label.as_str() {
        "POSITIVE" => first_is_likelier,
        "NEGATIVE" => !first_is_likelier,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RewardShape::{Classify, OpenRlhf, Pooling};

    #[test]
    fn bodies_are_those_that_the_servers_document() {
        let sent = [("p", "pr"), ("q", "qs")]
            .map(|(prompt, text)| Sent { prompt: prompt.to_owned(), text: text.to_owned() });
        assert_eq!(
            body(OpenRlhf, None, &sent),
            json!({ "query": ["pr", "qs"], "prompts": ["p", "q"], "labels": ["", ""] })
        );
        let classify = json!({ "model": "m", "input": ["pr", "qs"] });
        assert_eq!(body(Classify, Some("m"), &sent), classify);
        assert_eq!(body(Pooling, None, &sent), json!({ "input": ["pr", "qs"] }));
    }

    #[test]
    fn rewards_are_read_in_the_order_of_the_texts() {
        let reply = json!({ "rewards": [1, -2.5], "scores": [0, 0] });
        assert_eq!(rewards(OpenRlhf, &reply, 2), Ok(vec![Ok(1.0), Ok(-2.5)]));
        assert_eq!(rewards(OpenRlhf, &json!({ "rewards": [[3.0]] }), 1), Ok(vec![Ok(3.0)]));
        assert_eq!(rewards(OpenRlhf, &json!({ "rewards": 3.0 }), 1), Ok(vec![Ok(3.0)]));
        let reply = json!({ "data": [
            { "index": 1, "data": [[0.5], [4.0]] }, { "index": 0, "data": [2.0] }
        ] });
        assert_eq!(rewards(Pooling, &reply, 2), Ok(vec![Ok(2.0), Ok(4.0)]));
        assert_eq!(rewards(Pooling, &json!({ "data": [{ "data": 7 }] }), 1), Ok(vec![Ok(7.0)]));
    }

    #[test]
    fn classes_are_log_odds_of_the_positive_one() {
        let of = |answer: Value| {
            rewards(Classify, &json!({ "data": [answer] }), 1).unwrap().swap_remove(0)
        };
        let three = 3.0f64.ln();
        let near = |found: Result<f64, String>, wanted: f64| {
            let found = found.unwrap();
            assert!((found - wanted).abs() < 1e-12, "{found} and {wanted}");
        };
        near(of(json!({ "label": "LABEL_1", "probs": [0.25, 0.75], "num_classes": 2 })), three);
        near(of(json!({ "label": "NEGATIVE", "probs": [0.75, 0.25] })), -three);
        near(of(json!({ "label": "positive", "probs": [0.75, 0.25] })), three);
        near(of(json!({ "label": "negative", "probs": [0.25, 0.75] })), -three);
        near(of(json!({ "probs": [-1.5], "num_classes": 1 })), -1.5);
        let sure = of(json!({ "probs": [0.0, 1.0] })).unwrap();
        assert!(sure.is_finite() && sure > 80.0, "{sure}");
        for wrong in [json!({ "probs": [0.1, 0.2, 0.7] }), json!({ "probs": [-1.0, 2.0] })] {
            assert_eq!(of(wrong.clone()), Err(wrong.to_string()));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (shape, reply, told) in [
            (OpenRlhf, json!({ "scores": [1] }), "no `rewards`"),
            (OpenRlhf, json!({ "rewards": [1] }), "1 answers to 2 texts"),
            (
                Pooling,
                json!({ "data": [{ "index": 0, "data": 1 }, { "index": 0, "data": 1 }] }),
                "no answer of `data` has the index 1",
            ),
        ] {
            let wrong = rewards(shape, &reply, 2).unwrap_err();
            assert!(wrong.contains(told), "{wrong}");
        }
        let one = |shape, reply: Value| rewards(shape, &reply, 2).unwrap().swap_remove(1);
        assert_eq!(one(OpenRlhf, json!({ "rewards": [1, null] })), Err("null".to_owned()));
        assert_eq!(one(OpenRlhf, json!({ "rewards": [1, []] })), Err("[]".to_owned()));
        assert_eq!(one(Pooling, json!({ "data": [{ "data": [1] }, {}] })), Err("{}".to_owned()));
    }
}
