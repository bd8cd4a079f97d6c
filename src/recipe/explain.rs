//! Every key of a plan with its settled value and its sentence: what `w2s check --keys` prints.

use serde_json::{Value, json};

use super::keys::Node;
use super::plan::Plan;
use super::tables::Training;
use super::words::in_toml;

/// Where sentences begin.
const COLUMN: usize = 44;

impl Plan {
    /// A paragraph for each table that the recipe has, and for each of several: `key = value` and
    /// what the key says. A key without a value is left out and has no default.
    pub fn explain(&self) -> String {
        let mut text = String::new();
        let recipe = json!(self.recipe);
        for (name, node) in Node::root().keys() {
            let value = &recipe[name];
            match node.named() {
                Some(item) => {
                    for (own, value) in value.as_object().into_iter().flatten() {
                        self.table(&format!("{name}.{own}"), item, value, &mut text);
                    }
                }
                None => self.table(name, node, value, &mut text),
            }
        }
        text.trim_start().to_owned()
    }

    fn table(&self, path: &str, node: Node, value: &Value, out: &mut String) {
        if value.is_null() {
            return;
        }
        out.push_str(&format!("\n[{path}]\n"));
        self.keys("", path, node, value, out);
    }

    fn keys(&self, prefix: &str, path: &str, node: Node, value: &Value, out: &mut String) {
        let settled = self.settled(path);
        let kind = value["kind"].as_str();
        let table = node.alternatives().find(|(name, _)| Some(*name) == kind);
        let node = table.map_or(node, |(_, table)| Node { field: table, kind: table });
        for (key, field) in node.keys() {
            let value = settled.as_ref().map_or(&value[key], |settled| &settled[key]);
            let (name, path) = (format!("{prefix}{key}"), format!("{path}.{key}"));
            if field.is_table() && value.is_object() {
                self.keys(&format!("{name}."), &path, field, value, out);
                continue;
            }
            if let Some(item) = field.item().filter(|item| item.is_table()) {
                for (index, value) in value.as_array().into_iter().flatten().enumerate() {
                    let (name, path) = (format!("{name}.{index}."), format!("{path}.{index}"));
                    self.keys(&name, &path, item, value, out);
                }
                continue;
            }
            let said = field.sentence().unwrap_or_default();
            let given = match value {
                Value::Null => format!("  {name}"),
                value => format!("  {name} = {}", in_toml(value)),
            };
            out.push_str(format!("{given:COLUMN$}  {said}").trim_end());
            out.push('\n');
        }
    }

    /// The values of a `training` table with every default filled in. What several models have in
    /// common is told of the first.
    fn settled(&self, path: &str) -> Option<Value> {
        let training = &self.training;
        let direct = || training.direct.values().next();
        let settled: Option<&Training> = match path {
            "pretrain.training" => training.pretrain.values().next(),
            "gold.training" => training.gold.as_ref(),
            "sft.training" => training.sft.as_ref(),
            "reward_model.training" => training.reward_model.as_ref(),
            "dpo.training" => training.first_dpo(),
            "direct.sft" => direct().and_then(|direct| direct.sft.as_ref()),
            "direct.dpo" => direct().map(|direct| &direct.dpo),
            "ppo.training" => training.ppo.values().next(),
            _ => None,
        };
        settled.map(|training| Value::Object(training.as_keys()))
    }
}
