//! Chats and prompts of models.

use std::path::Path;

use w2s::recipe::{Chat, Recipe};
use w2s::text::{PromptTemplate, Tokenizer};

use super::{TINY_GPT2, Written, model_folder, only, problems};

#[test]
fn chats() {
    only(
        &[
            "models.base.chat={}",
            "steer.max_new_tokens=4",
            "preferences.max_new_tokens=4",
            "ppo.max_new_tokens=4",
        ],
        "`models.base.chat` is asked of a model made from scratch, which has no chat template",
    );
    assert!(problems(&["models.base.chat={sytem='x'}"])[0].contains("did you mean `system`?"));
    let written = Written::edited(&[(
        "[pretrain.training]",
        "[models.talking]\nid = \"m\"\nchat = { system = \"Be kind.\" }\n\n[pretrain.training]",
    )]);
    let folder = written.folder.path().join("m");
    model_folder(&folder, TINY_GPT2);
    assert!(written.problems(&[])[0].starts_with(
        "x.toml: `models.talking.chat` is asked of `m`, which has no chat template\n\nhint: "
    ));
    std::fs::write(
        folder.join("tokenizer_config.json"),
        r#"{"chat_template":[{"name":"rag","template":""}]}"#,
    )
    .unwrap();
    assert!(written.problems(&[])[0].contains("has chat templates `rag` and none named `default`"));
    std::fs::write(folder.join("chat_template.jinja"), "{{ messages }}").unwrap();
    let plan = written.plan(&[]);
    let [talking, guide] = ["talking", "guide"].map(|name| &plan.recipe.models[name]);
    assert_eq!(
        (talking.bos, guide.bos),
        (None, Some(true)),
        "what is made from scratch says that it begins with BOS"
    );
    let shown = "prompt \"{prompt}\" as the user's turn of the chat template, after the system's \
                 \"Be kind.\", BOS as the template has it";
    assert!(plan.describe().contains(shown), "{}", plan.describe());
    let again: Recipe = toml::from_str(&toml::to_string_pretty(&plan.recipe).unwrap()).unwrap();
    assert_eq!(again, plan.recipe);
    let silent = written.plan(&["models.talking.chat={}"]).recipe;
    assert_eq!(silent.models["talking"].chat, Some(Chat { system: None }));
    assert_eq!(
        toml::from_str::<Recipe>(&toml::to_string_pretty(&silent).unwrap()).unwrap(),
        silent
    );
    std::fs::remove_file(folder.join("tokenizer.json")).unwrap();
    std::fs::write(folder.join("tokenizer.model"), "").unwrap();
    assert!(written.problems(&[])[0].contains(
        "holds no `tokenizer.json`\n\nhint: `tokenizer.model` must be converted once, with \
         transformers"
    ));
}

#[test]
fn the_few_shot_example_is_a_prompt_with_one_place() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/prompts.md");
    let page = std::fs::read_to_string(page).unwrap();
    let example = page
        .split("```toml\n")
        .skip(1)
        .filter_map(|block| block.split("```").next())
        .find(|block| block.contains("TL;DR"))
        .unwrap();
    let models: toml::Table = example.parse().unwrap();
    let prompt = models["models"]["base"]["prompt"].as_str().unwrap();
    assert_eq!((prompt.matches("{prompt}").count(), prompt.matches("\nTL;DR: ").count()), (1, 2));
    assert!(prompt.starts_with("SUBREDDIT: ") && prompt.ends_with("---\n\n{prompt}"), "{prompt}");
    let tokenizer = Tokenizer::train_bpe([page.clone()].into_iter(), 600).unwrap();
    let post = "SUBREDDIT: r/books\n\nTITLE: {prompt}?\n\nPOST: What is {prompt}?\n\nTL;DR:";
    let ids = PromptTemplate::new(prompt, Some(true)).encode(&tokenizer, &post.into()).unwrap();
    assert_eq!(tokenizer.decode(&ids[1..]).unwrap(), prompt.replace("{prompt}", "") + post);
    let written = Written::edited(&[
        (
            "[models.base]\nbos = true\n\n[models.base.scratch]",
            &format!("{example}[models.base.scratch]"),
        ),
        (
            "n_positions = 96\ntokenizer = { kind = \"same_as\"",
            "n_positions = 1024\ntokenizer = { kind = \"same_as\"",
        ),
    ]);
    let text = std::fs::read_to_string(written.path())
        .unwrap()
        .replace("id = \"../models/gpt2-large\"\n", "");
    std::fs::write(written.path(), text).unwrap();
    assert_eq!(written.plan(&[]).recipe.models["base"].prompt.text(), Some(prompt));
}
