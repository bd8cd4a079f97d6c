use serde_json::json;

use super::*;

fn read_row(fields: Value) -> std::result::Result<Said, String> {
    let Value::Object(fields) = fields else { panic!("a row is an object") };
    let record = Record { line: 3, fields, unread: std::rc::Rc::new([]) };
    read(Path::new("p.jsonl"), "preferences", &PairColumns::default(), &record)
        .map_err(|error| error.to_string())
}

fn user(content: &str) -> Value {
    json!({ "role": "user", "content": content })
}

fn assistant(content: &str) -> Value {
    json!({ "role": "assistant", "content": content })
}

fn said(prompt: impl Into<PromptText>, chosen: &str, rejected: &str) -> Said {
    Said {
        prompt: prompt.into(),
        chosen: chosen.to_owned(),
        rejected: rejected.to_owned(),
        unfit: None,
    }
}

/// The layouts of TRL's guide to data sets, and those of sets that are much used.
#[test]
fn texts_and_chats_with_a_prompt_or_without() {
    let asked = || vec![Message::new("user", "q")];
    let (chosen, rejected) = (json!([assistant("a")]), json!([assistant("b")]));
    let (long, other) = (json!([user("q"), assistant("a")]), json!([user("q"), assistant("b")]));
    for (row, expected) in [
        // Standard, explicit.
        (json!({ "prompt": "q", "chosen": " a", "rejected": " b" }), said("q", " a", " b")),
        // Standard, implicit.
        (
            json!({ "chosen": "The sky is blue.", "rejected": "The sky is green." }),
            said("The sky is", " blue.", " green."),
        ),
        // Conversational, explicit.
        (
            json!({ "prompt": [user("q")], "chosen": chosen, "rejected": rejected }),
            said(asked(), "a", "b"),
        ),
        // Conversational, implicit.
        (json!({ "chosen": long, "rejected": other }), said(asked(), "a", "b")),
        // UltraFeedback: the prompt as a text, too.
        (
            json!({ "prompt": "q", "chosen": long, "rejected": other, "score_chosen": 8.5 }),
            said(asked(), "a", "b"),
        ),
        // The prompt's turns both in their column and in the responses.
        (
            json!({ "prompt": [user("q")], "chosen": long, "rejected": other }),
            said(asked(), "a", "b"),
        ),
        // A prompt, and further turns that the responses share.
        (
            json!({ "prompt": [user("p"), assistant("o")], "chosen": long, "rejected": other }),
            said(
                vec![
                    Message::new("user", "p"),
                    Message::new("assistant", "o"),
                    Message::new("user", "q"),
                ],
                "a",
                "b",
            ),
        ),
        // A text, answered by a turn each.
        (json!({ "prompt": "q", "chosen": chosen, "rejected": rejected }), said(asked(), "a", "b")),
        // A chat, answered by texts.
        (json!({ "prompt": [user("q")], "chosen": "a", "rejected": "b" }), said(asked(), "a", "b")),
        // Answers as single objects.
        (
            json!({ "prompt": "q", "chosen": assistant("a"), "rejected": assistant("b") }),
            said(asked(), "a", "b"),
        ),
    ] {
        assert_eq!(read_row(row.clone()), Ok(expected), "{row}");
    }
}

#[test]
fn a_chat_that_is_not_one_answer_each_is_unfit() {
    let unfit = |chosen: Value, rejected: Value| {
        read_row(json!({ "chosen": chosen, "rejected": rejected })).unwrap().unfit
    };
    let short = json!([user("q"), assistant("a")]);
    assert_eq!(unfit(short.clone(), json!([user("q"), assistant("b")])), None);
    for other in [
        json!([user("q"), assistant("b"), user("r"), assistant("c")]),
        json!([user("q"), user("b")]),
    ] {
        assert_eq!(unfit(short.clone(), other.clone()), Some(Reason::NotOneAnswer), "{other}");
    }
    let unasked = json!([assistant("hello"), assistant("a")]);
    assert_eq!(
        unfit(unasked, json!([assistant("hello"), assistant("b")])),
        Some(Reason::NotOneAnswer)
    );
    for nothing in [json!(null), json!([])] {
        assert_eq!(unfit(short.clone(), nothing), Some(Reason::Empty));
    }
    let tool = json!({ "role": "tool", "content": "1" });
    let called = |said: &str| json!([user("q"), assistant("f()"), tool, assistant(said)]);
    assert_eq!(unfit(called("a"), called("b")), None, "a tool's turn is answered, too");
    assert_eq!(unfit(short.clone(), short), None, "equal ones are left out as such");
}

#[test]
fn a_common_beginning_ends_between_words_or_where_the_assistant_speaks() {
    for (chosen, rejected, start) in [
        ("The sky is blue.", "The sky is green.", Some("The sky is")),
        ("It was good", "It was goodish", Some("It was")),
        ("It was\ngood", "It was bad", Some("It was")),
        ("\n\nHuman: q\n\nAssistant: I am", "\n\nHuman: q\n\nAssistant: I'm", None),
        ("naïve – a", "naïve – b", Some("naïve –")),
    ] {
        let expected = start.unwrap_or("\n\nHuman: q\n\nAssistant:").len();
        assert_eq!(common_beginning(chosen, rejected), Some(expected), "{chosen:?}");
    }
    for (chosen, rejected) in [("Yes.", "No."), ("Well", "Well then"), ("", "a"), (" a", " b")] {
        assert_eq!(common_beginning(chosen, rejected), None, "{chosen:?}");
    }
}

#[test]
fn what_cannot_be_read_says_what_is_there() {
    let error = |row: Value| read_row(row).unwrap_err();
    let message = error(json!({ "question": "q", "chosen": "so a", "rejected": "so b" }));
    assert!(
        message.contains("p.jsonl:3: no column `prompt`; found `question`, `chosen`, `rejected`")
            && message.contains("hint: set `preferences.columns.prompt = \"question\"`"),
        "{message}"
    );
    let message = error(json!({ "prompt": "q", "completion": "a", "label": true }));
    assert!(
        message.contains("found `prompt`, `completion`, `label`: that is one answer to a prompt"),
        "{message}"
    );
    let message = error(json!({ "chosen": "Yes.", "rejected": "No." }));
    assert!(message.contains("do not begin with the same words"), "{message}");
    let message = error(json!({ "chosen": [assistant("a")], "rejected": [assistant("b")] }));
    assert!(message.contains("have no turn in common"), "{message}");
    let message = error(json!({ "prompt": null, "chosen": "a", "rejected": "b" }));
    assert!(message.contains("`prompt` is null; expected a text or the turns"), "{message}");
    let message = error(json!({ "prompt": "q", "chosen": "a", "rejected": [assistant("b")] }));
    assert!(message.contains("one of `chosen` and `rejected` is a text"), "{message}");
    let message = error(json!({ "prompt": "q", "chosen": [{ "text": "a" }], "rejected": "b" }));
    assert!(message.contains("`chosen`, turn 1: no `role`; found `text`"), "{message}");
    let message = error(json!({ "prompt": "q", "chosen": 1, "rejected": "b" }));
    assert!(message.contains("`chosen` must be a string"), "{message}");
}

/// OpenAI's comparisons, and the released sentiment data.
#[test]
fn answers_in_one_list_with_the_place_of_the_better_one() {
    let info = json!({ "id": "t3_1", "post": "It slept.", "title": "A cat", "subreddit": "aww" });
    let post = "SUBREDDIT: r/aww\n\nTITLE: A cat\n\nPOST: It slept.\n\nTL;DR:";
    let one = |text: &str| json!({ "text": text, "policy": "sup4", "note": null });
    let summaries = |first: &str, second: &str| json!([one(first), one(second)]);
    let row = |choice: Value| {
        let both = summaries(" a", " b");
        json!({ "info": info, "summaries": both, "choice": choice, "worker": "w" })
    };
    assert_eq!(read_row(row(json!(0))), Ok(said(post, " a", " b")));
    assert_eq!(read_row(row(json!(1))), Ok(said(post, " b", " a")));
    // As CSV has it.
    let written = json!({
        "info": info.to_string(), "summaries": summaries(" a", " b").to_string(), "choice": "1"
    });
    assert_eq!(read_row(written), Ok(said(post, " b", " a")));
    let responses = json!({ "prompt": "q", "responses": [" a", " b"], "chosen": 1 });
    assert_eq!(read_row(responses), Ok(said("q", " b", " a")));
    let chats = json!({
        "prompt": [user("q")], "responses": [[assistant("a")], [assistant("b")]], "chosen": 0
    });
    assert_eq!(read_row(chats), Ok(said(vec![Message::new("user", "q")], "a", "b")));

    let article = json!({ "id": "1", "post": null, "subreddit": null, "article": "News" });
    let article =
        json!({ "info": article, "summaries": summaries(" a", " b"), "choice": 0, "batch": "cnn" });
    assert_eq!(read_row(article).unwrap().unfit, Some(Reason::NoPost));
    let null = json!({ "prompt": "q", "responses": [null, "b"], "chosen": 0 });
    assert_eq!(read_row(null).unwrap().unfit, Some(Reason::Empty));
}

#[test]
fn lists_of_answers_that_make_no_pair_are_told() {
    let error = |row: Value| read_row(row).unwrap_err();
    for (row, message) in [
        (
            json!({ "prompt": "q", "responses": ["a", "b", "c"], "chosen": 1 }),
            "p.jsonl:3: `responses` holds 3 answers; expected two",
        ),
        (
            json!({ "prompt": "q", "responses": ["a", "b"], "chosen": 2 }),
            "`chosen` is `2`; expected 0 or 1, the place of the better of `responses`",
        ),
        (
            json!({ "prompt": "q", "responses": ["a", "b"], "label": 0 }),
            "no column `choice`, the place of the better of `responses`; found `prompt`,",
        ),
        (
            json!({ "question": "q", "responses": ["a", "b"], "chosen": 0 }),
            "no column `prompt`; found `question`, `responses`, `chosen`",
        ),
        (
            json!({ "prompt": "q", "responses": [1, 2], "chosen": 0 }),
            "`responses` must be a string, not `1`",
        ),
    ] {
        let found = error(row);
        assert!(found.contains(message), "{found}\nexpected {message}");
    }
}
