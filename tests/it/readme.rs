//! What the README says about the tree and the metrics is true.

use std::collections::BTreeSet;
use std::path::Path;

fn readme() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

#[test]
fn the_metric_glossary_is_the_programs_own() {
    let table = w2s::monitor::glossary::markdown_table();
    assert!(readme().contains(&table), "README.md must hold this table:\n{table}");
}

#[test]
fn the_file_tree_names_every_room_and_no_other() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rooms: BTreeSet<String> = std::fs::read_dir(source)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            entry.file_name().into_string().unwrap() + if entry.path().is_dir() { "/" } else { "" }
        })
        .collect();
    let readme = readme();
    let tree = readme
        .split("\nsrc/\n")
        .nth(1)
        .and_then(|tree| tree.split("```").next())
        .expect("README.md has a tree of src/");
    let named: BTreeSet<String> = tree
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    assert_eq!(named, rooms);
}
