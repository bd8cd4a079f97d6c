//! Posts of Reddit as one value: `info` of OpenAI's `summarize_from_feedback`, an object with
//! `subreddit`, `title` and `post`, be it written as a JSON text, as CSV has it. As a prompt they
//! are what that set's models read before a summary.

use serde_json::{Map, Value};

/// What a post asks for; `None` of a value that is none.
///
/// # Errors
/// Where it has no text: rows on news articles stand among the posts of that set.
pub(super) fn post(value: &Value) -> Option<Result<String, NoPost>> {
    match value {
        Value::Object(fields) if is_post(fields) => Some(asked(fields)),
        Value::String(text) if text.trim_start().starts_with('{') => {
            let written: Value = serde_json::from_str(text).ok()?;
            written.as_object().filter(|fields| is_post(fields)).map(asked)
        }
        _ => None,
    }
}

/// An object of the layout that holds no post.
#[derive(Debug, PartialEq)]
pub(super) struct NoPost;

fn is_post(fields: &Map<String, Value>) -> bool {
    ["post", "subreddit"].iter().all(|key| fields.contains_key(*key))
}

fn asked(fields: &Map<String, Value>) -> Result<String, NoPost> {
    let text = |key: &str| fields.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let post = text("post").ok_or(NoPost)?;
    let before = [("SUBREDDIT: r/", "subreddit"), ("TITLE: ", "title")];
    let before = before.map(|(says, key)| text(key).map(|text| format!("{says}{text}\n\n")));
    let before: String = before.into_iter().flatten().collect();
    Ok(format!("{before}POST: {post}\n\nTL;DR:"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_post_is_asked_for_its_summary() {
        let whole = "SUBREDDIT: r/aww\n\nTITLE: A cat\n\nPOST: It\nslept.\n\nTL;DR:";
        let info = json!({
            "id": "t3_1", "post": "It\nslept.", "title": "A cat", "subreddit": "aww", "site": null
        });
        assert_eq!(post(&info), Some(Ok(whole.to_owned())));
        assert_eq!(post(&json!(info.to_string())), Some(Ok(whole.to_owned())));
        let bare = json!({ "post": "It slept.", "title": null, "subreddit": "" });
        assert_eq!(post(&bare), Some(Ok("POST: It slept.\n\nTL;DR:".to_owned())));
    }

    #[test]
    fn an_article_is_no_post_and_other_values_are_none_of_these() {
        let article = json!({ "post": null, "subreddit": null, "site": "cnn", "article": "News" });
        assert_eq!(post(&article), Some(Err(NoPost)));
        for other in [json!("post"), json!({ "post": "a" }), json!("{post"), json!(null)] {
            assert_eq!(post(&other), None, "{other}");
        }
    }
}
