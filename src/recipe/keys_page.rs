//! The page of all keys, `docs/keys.md`, as Markdown made of the definitions.

use serde_json::{Map, Value};

use super::keys::Node;
use super::ranges::range_words;
use super::tables::Training;
use super::words::in_toml;

/// Tables that several others hold, which have a section of their own, and what they are for.
const SHARED: [(&str, &str); 3] =
    [("training", "TrainingTable"), ("lora", "LoraTable"), ("sampling", "SamplingTable")];

const HEAD: &str = "\
# The keys of a recipe

<!-- Made from the comments on the fields in src/recipe/tables and src/search: change it there and
run `W2S_WRITE_DOCS=1 cargo test --release docs`. -->

Every key with its type, its default and an example. Unknown keys are errors; a stage runs if its
table is there. A name that TRL, PEFT or transformers have for a key gets a hint to ours. How to
override keys from the command line says [the index of recipes](../recipes/README.md), and what a
changed key does again [another page](resume.md).
";

/// The page.
pub fn keys_page() -> String {
    let mut page = HEAD.to_owned();
    for (name, node) in Node::root().keys() {
        section(&mut page, name, node);
    }
    for (name, kind) in SHARED {
        let node = Node::of_type(kind);
        heading(&mut page, &format!("The `{name}` table"), &node.description());
        rows(&mut page, node);
        if name == "training" {
            training_defaults(&mut page, node);
        }
    }
    page
}

fn heading(page: &mut String, title: &str, description: &str) {
    page.push_str(&format!("\n## {title}\n\n{description}\n"));
}

/// One top-level table, or the tables of names of one's own.
fn section(page: &mut String, name: &str, node: Node) {
    let (title, node) = match node.named() {
        Some(item) => (format!("`[{name}.<name>]`"), item),
        None => (format!("`[{name}]`"), node),
    };
    heading(page, &title, &Node { field: node.kind, ..node }.description());
    rows(page, node);
    for (key, inner) in node.keys() {
        let Some(item) = inner.item().filter(|item| item.is_table()) else { continue };
        let title = format!("`[[{name}.{key}]]`");
        let said = Node { field: item.kind, ..item }.description();
        page.push_str(&format!("\n### {title}\n\n{said}\n"));
        let kinds: Vec<_> = item.alternatives().collect();
        if kinds.is_empty() {
            rows(page, item);
            continue;
        }
        for (kind, table) in kinds {
            let table = Node { field: table, kind: table };
            page.push_str(&format!("\n#### `kind = \"{kind}\"`\n\n{}\n", table.description()));
            rows(page, table);
        }
    }
}

/// The keys of a table, those of tables that it alone holds among them.
fn rows(page: &mut String, node: Node) {
    page.push_str("\n| key | type | default | example | |\n| --- | --- | --- | --- | --- |\n");
    add_rows(page, "", node, true);
}

fn add_rows(page: &mut String, prefix: &str, node: Node, all_given: bool) {
    for (key, field) in node.keys().into_iter().filter(|(key, _)| *key != "kind") {
        let path = format!("{prefix}{key}");
        if let Some((shared, _)) = SHARED.iter().find(|(_, kind)| field.is_of(kind)) {
            let own = field.own_description();
            let said = if own.is_empty() { String::new() } else { format!("{own} ") };
            let link = format!("{said}See [the `{shared}` table](#the-{shared}-table).");
            page.push_str(&format!("| `{path}` | table | | | {link} |\n"));
            continue;
        }
        let required = all_given && node.requires(key);
        if field.alternatives().next().is_some() && field.item().is_none() {
            alternatives(page, &path, field, required);
            continue;
        }
        if !field.keys().is_empty() && field.item().is_none() {
            let own = Node { field: field.kind, ..field }.description();
            page.push_str(&format!("| `{path}` | table | | | {} |\n", cell(&own)));
            add_rows(page, &format!("{path}."), field, true);
            continue;
        }
        let default = match (field.keyword("default"), required) {
            (_, true) => "required".to_owned(),
            (Some(value), _) if !value.is_null() => code(value),
            _ => String::new(),
        };
        let example = field
            .example()
            .map_or_else(String::new, |value| format!("`{path} = {}`", in_toml(&value)));
        let (kind, said) = (field.type_words(), cell(&said(field)));
        page.push_str(&format!("| `{path}` | {kind} | {default} | {example} | {said} |\n"));
    }
}

/// A table of one of several kinds, within another.
fn alternatives(page: &mut String, path: &str, field: Node, required: bool) {
    let default = if required { "required" } else { "" };
    let own = cell(&Node { field: field.kind, ..field }.description());
    page.push_str(&format!("| `{path}` | table | {default} | | {own} |\n"));
    for (kind, table) in field.alternatives() {
        let table = Node { field: table, kind: table };
        let keys = table.keys().into_iter().filter(|(key, _)| *key != "kind");
        let keys: Vec<String> = keys
            .map(|(key, field)| format!("`{key}` ({}): {}", field.type_words(), said(field)))
            .collect();
        let all = format!("{} {}", table.description(), keys.join(" "));
        let example = format!("`{path}.kind = \"{kind}\"`");
        page.push_str(&format!("| `{path}` | `{kind}` | | {example} | {} |\n", cell(&all)));
    }
}

/// What a key says, with its choices, its range and its names elsewhere.
fn said(field: Node) -> String {
    let mut text = field.description();
    for (choice, said) in field.choices() {
        text.push_str(&format!(" `{choice}`: {said}"));
    }
    if let Some(range) = range_words(field) {
        text.push_str(&format!(" Must be {range}."));
    }
    let also = field.keyword("x-also").and_then(Value::as_array).into_iter().flatten();
    let also: Vec<String> = also.filter_map(|name| Some(format!("`{}`", name.as_str()?))).collect();
    if !also.is_empty() {
        text.push_str(&format!(" Elsewhere {}.", also.join(", ")));
    }
    text
}

/// Text that stays in one cell of a table.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|").trim().to_owned()
}

fn code(value: &Value) -> String {
    format!("`{}`", in_toml(value))
}

/// What is left out of a `training` table in each stage.
fn training_defaults(page: &mut String, node: Node) {
    let stages = [
        ("pretrain", Training::pretrain()),
        ("gold", Training::gold()),
        ("sft", Training::sft()),
        ("reward_model", Training::reward_model()),
        ("dpo", Training::dpo()),
        ("ppo", Training::ppo()),
    ];
    let names: Vec<&str> = stages.iter().map(|(name, _)| *name).collect();
    let lines = vec!["---"; names.len() + 1].join(" | ");
    page.push_str(
        "\nThe defaults of the stages; those of `[direct]` are the guide's, and those of a \
         `gold.reward_model` are `[reward_model]`'s:\n\n",
    );
    page.push_str(&format!("| key | {} |\n| {lines} |\n", names.join(" | ")));
    let settled: Vec<Map<String, Value>> =
        stages.iter().map(|(_, training)| training.as_keys()).collect();
    for (key, _) in node.keys() {
        let cells: Vec<String> = settled
            .iter()
            .map(|keys| keys.get(key).filter(|value| !value.is_null()).map(code))
            .map(Option::unwrap_or_default)
            .collect();
        page.push_str(&format!("| `{key}` | {} |\n", cells.join(" | ")));
    }
}
