//! What about a task is other than when it was done last, in words.

use serde_json::Value;

/// At most so many are named.
const NAMED: usize = 4;

/// Where `now` differs from `before`: `training.learning_rate 0.0001 → 0.0002`; a value that is not
/// short, or is there on one side only, by its place alone. Empty where nothing is known of before.
pub fn changes(before: &Value, now: &Value) -> String {
    let mut found = Vec::new();
    if before.is_null() {
        return String::new();
    }
    compare(&mut Vec::new(), before, now, &mut found);
    let more = found.len().saturating_sub(NAMED);
    found.truncate(NAMED);
    if more > 0 {
        found.push(format!("{more} more"));
    }
    found.join(", ")
}

fn compare<'a>(
    path: &mut Vec<&'a str>,
    before: &'a Value,
    now: &'a Value,
    found: &mut Vec<String>,
) {
    match (before, now) {
        _ if before == now => {}
        (Value::Object(before), Value::Object(now)) => {
            let keys = before.keys().chain(now.keys().filter(|key| !before.contains_key(*key)));
            for key in keys {
                path.push(key);
                compare(
                    path,
                    before.get(key).unwrap_or(&Value::Null),
                    now.get(key).unwrap_or(&Value::Null),
                    found,
                );
                path.pop();
            }
        }
        _ => {
            let both = short(before)
                .zip(short(now))
                .map_or_else(String::new, |(before, now)| format!(" {before} → {now}"));
            found.push(format!("{}{both}", path.join(".")));
        }
    }
}

/// A number, a word or a list of few; hashes are no words.
fn short(value: &Value) -> Option<String> {
    const HASH: usize = 40;
    let text = match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Object(_) => return None,
        other => other.to_string(),
    };
    (text.len() < HASH).then_some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::changes;

    #[test]
    fn what_differs_is_named_by_its_place_and_short_values_are_told() {
        let hash = |digit: &str| digit.repeat(64);
        let of = |beta: f64, lora: serde_json::Value, texts: &str| {
            json!({
                "settings": { "objective": { "beta": beta }, "training": { "lora": lora } },
                "inputs": { "texts": texts }
            })
        };
        let before = of(0.1, json!(null), &hash("a"));
        assert_eq!(changes(&before, &before), "");
        assert_eq!(
            changes(&before, &of(0.3, json!(null), &hash("a"))),
            "settings.objective.beta 0.1 → 0.3"
        );
        assert_eq!(changes(&before, &of(0.1, json!(null), &hash("b"))), "inputs.texts");
        assert_eq!(
            changes(&before, &of(0.1, json!({ "rank": 8 }), &hash("a"))),
            "settings.training.lora"
        );
        let many = |offset: u32| {
            json!({
                "a": offset,
                "b": offset,
                "c": offset,
                "d": offset,
                "e": offset,
                "f": 0
            })
        };
        assert_eq!(changes(&many(0), &many(1)), "a 0 → 1, b 0 → 1, c 0 → 1, d 0 → 1, 1 more");
        assert_eq!(changes(&json!(null), &json!({ "a": 1 })), "");
    }
}
