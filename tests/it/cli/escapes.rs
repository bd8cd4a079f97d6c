//! Line ends in the words of a shell.

use crate::common::{recipe, success, tiny_model, w2s};

#[test]
fn a_stop_of_backslash_n_is_the_end_of_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny_model(folder.path());
    let steer = |flags: &[&str]| {
        let mut command = w2s();
        command.args(["steer", "--method", "base", "--temperature", "0", "--json"]);
        command.args(["--dtype", "float32", "--max-new-tokens", "6", "--base"]).arg(&model);
        let line: serde_json::Value =
            serde_json::from_str(&success(command.args(flags).arg("The film"))).unwrap();
        [&line["response"], &line["finish"]].map(|field| field.as_str().unwrap().to_owned())
    };
    let [response, finish] = steer(&[]);
    assert_eq!(finish, "length");
    // The model's second token becomes a line end.
    let second = response.chars().nth(1).unwrap();
    assert_eq!(response.find(second), Some(1), "{response}");
    let file = model.join("tokenizer.json");
    let mut tokenizer: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    let id = vocabulary.remove(&second.to_string()).unwrap();
    vocabulary.insert("Ċ".to_owned(), id);
    std::fs::write(&file, tokenizer.to_string()).unwrap();

    let before: String = response.chars().take(1).collect();
    let stopped = [before, "stop".to_owned()];
    for stop in [r"\n", "\n"] {
        assert_eq!(steer(&["--stop", stop]), stopped, "{stop:?}");
    }
    assert_eq!(steer(&["--stop", r"\\n"])[1], "length", "a backslash and an n");
    let [asked, filled] =
        ["{prompt}\n", r"{prompt}\n"].map(|template| steer(&["--base-template", template]));
    assert_eq!(asked, filled);

    // A recipe's texts are TOML's, on the command line too.
    let recipe = w2s::recipe::load(&recipe("smoke.toml"), &[r#"steer.stop=["\n"]"#.to_owned()]);
    assert_eq!(recipe.unwrap().steer.unwrap().stop, ["\n"]);
}
