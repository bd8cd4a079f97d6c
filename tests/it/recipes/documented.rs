//! Every key of a recipe stands in the documents.

use std::path::Path;

use w2s::search::Search;

#[test]
fn every_key_is_documented() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/keys-old.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let file = |name: &str| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/recipe").join(name))
            .unwrap()
    };
    let schema = [
        "schema.rs",
        "tuning_tables.rs",
        "preference_tables.rs",
        "reward_model.rs",
        "steering.rs",
        "ppo.rs",
    ]
    .map(file)
    .concat();
    let keys: Vec<&str> = schema
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub "))
        .filter_map(|line| line.split_once(": "))
        .map(|(key, _)| key)
        .filter(|key| {
            key.chars().all(|character| character.is_ascii_lowercase() || character == '_')
        })
        .chain(Search::KINDS.iter().flat_map(|kind| kind.keys).map(|key| key.name))
        .chain(["tilt", "weights"])
        .collect();
    assert!(keys.len() > 50, "the schema was not understood: {keys:?}");
    for key in keys {
        let named = [
            format!("`{key}`"),
            format!("`{key}."),
            format!(".{key}`"),
            format!("[{key}]"),
            format!("[{key}."),
            format!(".{key}]"),
        ];
        assert!(
            named.iter().any(|form| readme.contains(form)),
            "recipes/README.md does not name `{key}`"
        );
    }
}
