//! What another machine says, fit to be shown: one line of its sentence.

use serde_json::Value;

/// The most of a sentence that is shown.
const MOST_CHARACTERS: usize = 300;

/// Text of another machine, fit to be printed.
pub fn one_line(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .take(MOST_CHARACTERS)
        .collect();
    text.trim().trim_end_matches('.').to_owned()
}

/// The sentence in the body of a failure, wherever servers put it: `error.message`, `error`,
/// `message`, `detail`, the `msg` of the first of those; else the body itself.
pub(super) fn sentence(body: &Value) -> String {
    let places = ["/error/message", "/error", "/message", "/detail/0/msg", "/detail"];
    let found = places.iter().find_map(|place| body.pointer(place)?.as_str());
    found.map_or_else(|| body.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sentences_are_found_where_servers_put_them() {
        for (body, said) in [
            (json!({"error": {"message": "no such model", "code": 404}}), "no such model"),
            (json!({"error": "overloaded"}), "overloaded"),
            (json!({"message": "context length", "object": "error"}), "context length"),
            (json!({"detail": "Not Found"}), "Not Found"),
            (
                json!({"detail": [{"loc": ["body", "n"], "msg": "n is too large"}]}),
                "n is too large",
            ),
            (json!([1]), "[1]"),
        ] {
            assert_eq!(sentence(&body), said);
        }
        assert_eq!(one_line("a\nb\u{7}c. "), "a b c");
    }
}
