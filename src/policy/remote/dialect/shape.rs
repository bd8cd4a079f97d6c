//! What replies are made of, whoever gives them.

use serde_json::Value;

/// The continuations of a reply, in the order of their `index` where they have one; of several with
/// one index the first.
pub fn in_order(choices: &[Value]) -> Vec<&Value> {
    let index = |(place, choice): (usize, &Value)| {
        choice["index"].as_u64().map_or(place, |index| index as usize)
    };
    let mut ordered: Vec<(usize, &Value)> = choices
        .iter()
        .enumerate()
        .map(|(place, choice)| (index((place, choice)), choice))
        .collect();
    ordered.sort_by_key(|(index, _)| *index);
    ordered.dedup_by_key(|(index, _)| *index);
    ordered.into_iter().map(|(_, choice)| choice).collect()
}

/// A list of token ids.
pub fn ids_of(value: &Value) -> Option<Vec<i64>> {
    value.as_array()?.iter().map(Value::as_i64).collect()
}

/// A text that must be there.
pub fn text_of<'a>(value: &'a Value, key: &str) -> Result<&'a str, String> {
    value[key].as_str().ok_or_else(|| format!("a continuation has no `{key}`"))
}
