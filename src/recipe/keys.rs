//! The keys of a recipe as their definitions say them: one schema, made of the tables' fields and
//! their comments, that `w2s check`, `--help`, errors and the page of all keys read.

use std::sync::LazyLock;

use serde_json::Value;
use toml::Value as Toml;

use super::tables::Recipe;
use super::words::in_toml;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| schemars::schema_for!(Recipe).to_value());

/// A key, or a table of keys, in the schema.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    /// What stands on the field.
    pub field: &'static Value,
    /// What its type says.
    pub kind: &'static Value,
}

/// The JSON schema of a recipe, for editors.
pub fn schema() -> &'static Value {
    &SCHEMA
}

/// The first sentence on the key at `path`, such as `steer.prompts`, if it is not a table; items of
/// lists and names of one's own go by any word.
pub fn sentence(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('.').collect();
    let key = Node::at(parts, None).filter(|node| !node.is_table());
    key.and_then(Node::sentence)
}

/// The value of the key at `path` where it is left out, as a recipe writes it, if it has one.
pub fn default_value(path: &str) -> Option<String> {
    let node = Node::at(path.split('.'), None)?;
    node.keyword("default").filter(|value| !value.is_null()).map(in_toml)
}

/// Where a key that `table` does not have stands, by its own name or by one that it has in another
/// program: below `table` by either, or else anywhere by that of the other program.
pub(super) fn known_elsewhere(table: &[String], name: &str, root: &Toml) -> Option<String> {
    let parts: Vec<&str> = table.iter().map(String::as_str).collect();
    let below = |path: &str, node: Node, by_its_own: bool| {
        let mut found = Vec::new();
        node.also_called((name, by_its_own), path, &mut found);
        found.into_iter().min_by_key(|path| path.matches('.').count())
    };
    let node = Node::at(parts, Some(root));
    let here = node.and_then(|node| below(&table.join("."), node, !table.is_empty()));
    here.or_else(|| below("", Node::root(), false))
}

impl Node {
    pub fn root() -> Self {
        Self::of(&SCHEMA)
    }

    fn of(field: &'static Value) -> Self {
        Self { field, kind: resolved(field) }
    }

    /// The node at `path`; `root` tells the kinds of tables that have several.
    fn at<'a>(path: impl IntoIterator<Item = &'a str>, root: Option<&Toml>) -> Option<Self> {
        let start = Some((Self::root(), root));
        let node = path.into_iter().fold(start, |at, key| {
            let (node, value) = at?;
            let node = node.child(key, value)?;
            let value = value.and_then(|value| match value {
                Toml::Table(table) => table.get(key),
                Toml::Array(items) => items.get(key.parse::<usize>().ok()?),
                _ => None,
            });
            Some((node, value))
        });
        node.map(|(node, _)| node)
    }

    /// The key of that name, or an item, of a table or list whose value is `value`.
    pub fn child(self, key: &str, value: Option<&Toml>) -> Option<Self> {
        let is_own = self.kind.get("properties").is_some_and(|keys| keys.get(key).is_some());
        if let Some(item) = self.item().filter(|_| !is_own) {
            return Some(item);
        }
        let named = |kind: &'static Value| kind.get("properties").and_then(|keys| keys.get(key));
        let kind = value.and_then(|value| value.get("kind")).and_then(Toml::as_str);
        let of_kind = self.alternatives().find(|(name, _)| Some(*name) == kind);
        let any_kind = || self.alternatives().find_map(|(_, kind)| named(kind));
        let field = named(self.kind).or_else(|| named(of_kind?.1)).or_else(any_kind);
        field.map(Self::of).or_else(|| self.named())
    }

    /// The tables that have a `kind` of their own, with it.
    pub fn alternatives(self) -> impl Iterator<Item = (&'static str, &'static Value)> {
        let all = self.kind.get("oneOf").and_then(Value::as_array).into_iter().flatten();
        all.filter_map(|kind| Some((kind["properties"]["kind"]["const"].as_str()?, kind)))
    }

    /// The words that the key may be, with what each means.
    pub fn choices(self) -> Vec<(&'static str, String)> {
        let all = self.kind.get("oneOf").and_then(Value::as_array).into_iter().flatten();
        let choice = |kind: &'static Value| Some((kind["const"].as_str()?, description(kind)));
        all.filter_map(choice).collect()
    }

    /// The keys of a table, in the order of its fields.
    pub fn keys(self) -> Vec<(&'static str, Self)> {
        let keys = self.kind.get("properties").and_then(Value::as_object);
        keys.into_iter().flatten().map(|(name, field)| (name.as_str(), Self::of(field))).collect()
    }

    /// All that is said of it: on the field, or else of its type.
    pub fn description(self) -> String {
        let own = description(self.field);
        if own.is_empty() { description(self.kind) } else { own }
    }

    pub fn sentence(self) -> Option<String> {
        let all = self.description();
        let first = all.split_once(". ").map_or(all.as_str(), |(first, _)| first);
        Some(first.trim_end_matches('.').to_owned()).filter(|first| !first.is_empty())
    }

    fn also_called(self, name: (&str, bool), path: &str, found: &mut Vec<String>) {
        let tables = [self.kind].into_iter().chain(self.alternatives().map(|(_, kind)| kind));
        for (key, field) in tables.flat_map(|kind| kind.get("properties")?.as_object()).flatten() {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let also = field.get("x-also").and_then(Value::as_array);
            let is_own = name.1 && key == name.0;
            if is_own || also.into_iter().flatten().any(|also| also == name.0) {
                found.push(path.clone());
            }
            Self::of(field).also_called(name, &path, found);
        }
        for (part, node) in [("<name>", self.named()), ("<number>", self.item())] {
            let Some(node) = node else { continue };
            node.also_called(name, &format!("{path}.{part}"), found);
        }
    }

    /// The table of that name in the schema's definitions.
    pub fn of_type(name: &str) -> Self {
        Self::of(&SCHEMA["$defs"][name])
    }

    /// Whether its type is the table of that name.
    pub fn is_of(self, name: &str) -> bool {
        std::ptr::eq(self.kind, &SCHEMA["$defs"][name])
    }

    pub fn is_table(self) -> bool {
        !self.keys().is_empty() || self.alternatives().next().is_some()
    }

    /// The tables that have names of one's own.
    pub fn named(self) -> Option<Self> {
        self.kind.get("additionalProperties").filter(|kind| kind.is_object()).map(Self::of)
    }

    /// An item of a list.
    pub fn item(self) -> Option<Self> {
        self.kind.get("items").map(Self::of)
    }

    /// Whether the table cannot do without the key.
    pub fn requires(self, key: &str) -> bool {
        // Those that may be given in another way stand in the first of the alternatives.
        let all = [self.kind.get("required"), self.kind["anyOf"][0].get("required")];
        let all = all.into_iter().flatten().filter_map(Value::as_array);
        all.flatten().any(|required| required == key)
    }

    /// What stands on the field itself.
    pub fn own_description(self) -> String {
        description(self.field)
    }

    /// A value that the key may have: one that is given, or else its default or first choice.
    pub fn example(self) -> Option<Value> {
        let given = self.keyword("examples").and_then(|examples| examples.get(0));
        let default = self.keyword("default").filter(|value| !value.is_null());
        let choice = || self.choices().first().map(|(choice, _)| Value::from(*choice));
        given.or(default).cloned().or_else(choice)
    }

    /// Its type in words.
    pub fn type_words(self) -> String {
        if !self.choices().is_empty() {
            return "one of the words".to_owned();
        }
        let word = |name: &Value| match name.as_str() {
            Some("integer") => "whole number",
            Some("number") => "number",
            Some("boolean") => "`true` or `false`",
            Some("array") => "list",
            Some("object") => "table",
            _ => "text",
        };
        match self.kind.get("type") {
            Some(Value::Array(types)) => {
                let words = types.iter().filter(|name| *name != "null").map(word);
                words.collect::<Vec<_>>().join(" or ")
            }
            Some(one) => word(one).to_owned(),
            None => "table".to_owned(),
        }
    }

    /// A keyword of the schema, on the field or in its type.
    pub fn keyword(self, name: &str) -> Option<&'static Value> {
        self.field.get(name).or_else(|| self.kind.get(name))
    }
}

/// What a schema refers to; of an alternative to nothing, the other.
fn resolved(schema: &'static Value) -> &'static Value {
    let reference = schema.get("$ref").and_then(Value::as_str);
    let definition = reference.and_then(|reference| reference.rsplit_once('/'));
    if let Some((_, name)) = definition {
        return resolved(&SCHEMA["$defs"][name]);
    }
    match schema.get("anyOf").and_then(Value::as_array).map(Vec::as_slice) {
        Some([one, nothing]) if nothing["type"] == "null" => resolved(one),
        _ => schema,
    }
}

/// Its comment without the breaks of its lines; paragraphs stay.
fn description(schema: &Value) -> String {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    let paragraphs = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_key(node: Node, path: &str, visit: &mut dyn FnMut(&str, Node)) {
        let tables = [node.kind].into_iter().chain(node.alternatives().map(|(_, kind)| kind));
        for (key, field) in tables.flat_map(|kind| kind.get("properties")?.as_object()).flatten() {
            let path = format!("{path}.{key}");
            visit(&path, Node::of(field));
            every_key(Node::of(field), &path, visit);
        }
        for below in [node.named(), node.item()].into_iter().flatten() {
            every_key(below, path, visit);
        }
    }

    #[test]
    fn every_key_and_every_choice_is_said() {
        let mut keys = 0;
        every_key(Node::root(), "", &mut |path, node| {
            keys += 1;
            if path.ends_with(".kind") {
                return;
            }
            let said = node.description();
            assert!(said.ends_with(['.', ')']), "{path}: {said:?}");
            for (choice, said) in node.choices() {
                assert!(!said.is_empty(), "{path}: `{choice}`");
            }
        });
        assert!(keys > 250, "{keys} keys");
    }

    #[test]
    fn the_first_sentence_is_what_is_said_in_short() {
        assert_eq!(
            sentence("steer.stop").unwrap(),
            "A response ends before the first of these texts"
        );
        assert_eq!(sentence("models.any.chat.system").unwrap(), {
            "The system's turn; an empty one is said too, which is not the same as none"
        });
        assert_eq!(sentence("sft.training.steps").unwrap(), "Optimiser steps; instead of `epochs`");
        assert!(sentence("steer.method.0.beam_width").is_some());
        assert_eq!(sentence("steer.nothing"), None);
    }

    #[test]
    fn names_of_other_programs_are_known() {
        let root = Toml::Table(toml::Table::new());
        let known = |table: &str, name: &str| {
            let table: Vec<String> =
                table.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect();
            known_elsewhere(&table, name, &root)
        };
        for (table, name, here) in [
            ("ppo", "kl_coef", "ppo.kl.coef"),
            ("dpo", "kl_coef", "dpo.beta"),
            ("sft", "num_train_epochs", "sft.training.epochs"),
            ("dpo.training", "per_device_train_batch_size", "dpo.training.micro_batch_size"),
            ("sft.lora", "lora_alpha", "sft.lora.alpha"),
            ("", "dataset_name", "data.source"),
            ("steer", "num_beams", "steer.method.<number>.beam_width"),
            ("models.guide", "model_name_or_path", "models.guide.id"),
            ("dpo", "learning_rate", "dpo.training.learning_rate"),
        ] {
            assert_eq!(known(table, name).as_deref(), Some(here), "{table} {name}");
        }
        assert_eq!(known("ppo", "colour"), None);
    }
}
