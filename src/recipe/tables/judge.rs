//! Who judges responses: the `[gold]` of the recipe, and further `[judges.<name>]` that evaluation
//! asks beside it (the paper has a gold and two reward models). Judging is left to `score`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::rules::Rules;
use super::gold::Gold;
use super::run::Dtype;
use super::{GOLD, Recipe};

/// A further judge that `[evaluate]` asks beside `[gold]` about every response: a sequence
/// classifier or a reward model. Nothing is steered or learned by what it says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JudgeTable {
    /// A folder or a hub id, as `gold.id`.
    #[schemars(example = &"../models/reward-model")]
    pub id: String,
    /// What the judge reads, as `gold.text`.
    #[schemars(example = &"{prompt}{response}")]
    pub text: Option<String>,
    /// Where it is put, instead of `run.device`.
    #[schemars(example = &"cuda")]
    pub device: Option<String>,
    /// The precision of a reward model's weights, instead of `run.dtype`; classifiers are always
    /// f32.
    #[schemars(example = &"bfloat16")]
    pub dtype: Option<Dtype>,
}

/// A judge, whichever table it has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judge<'a> {
    pub name: &'a str,
    /// A folder or a hub id; `None` is the `[gold]` that the run makes.
    pub id: Option<&'a str>,
    pub text: Option<&'a str>,
    pub device: Option<&'a str>,
    pub dtype: Option<Dtype>,
}

/// What says where the weights of a model or a judge lie.
pub struct ModelId<'a> {
    /// Where it stands in the recipe.
    pub key: String,
    pub role: ModelRole,
    pub id: &'a mut String,
}

/// What is read of a folder or a hub id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelRole {
    Model,
    Judge,
    /// Of a model that others serve.
    Tokenizer,
}

impl Judge<'_> {
    /// Where its table stands in a recipe.
    pub fn table(&self) -> String {
        table_of(self.name)
    }

    /// The value that its rewards depend on; its weights have outcomes of their own.
    pub fn outcome(&self) -> Value {
        let Self { name: _, id: _, text, device: _, dtype: _ } = self;
        json!(text)
    }

    pub(in crate::recipe) fn rules(&self, rules: &mut Rules) {
        let table = self.table();
        if let Some(id) = self.id {
            rules.model_folder(&format!("{table}.id"), id);
        }
        if let Some(device) = self.device {
            rules.device(&format!("{table}.device"), device);
        }
    }

    /// The rule that holds wherever the judge is, for `w2s steer` too.
    pub(in crate::recipe) fn text_rules(&self, rules: &mut Rules) {
        let (table, Some(text)) = (self.table(), self.text) else { return };
        for hole in ["{prompt}", "{response}"] {
            let count = text.matches(hole).count();
            if count != 1 {
                rules
                    .problem(format!("`{table}.text` holds `{hole}` {count} times, expected once"));
            }
        }
    }
}

impl JudgeTable {
    pub(in crate::recipe) fn rules(name: &str, rules: &mut Rules) {
        rules.folder_name("judges", name);
        if name == GOLD {
            rules.problem_hint(
                format!("`judges.{GOLD}` has the name of the judge that `[gold]` is"),
                "give it another name",
            );
        }
    }
}

fn table_of(name: &str) -> String {
    if name == GOLD { name.to_owned() } else { format!("judges.{name}") }
}

impl Recipe {
    /// `[gold]`, and then the others by their names.
    pub fn judges(&self) -> Vec<Judge<'_>> {
        let gold = self.gold.iter().map(|gold| {
            let Gold { id, scratch: _, reward_model: _, text, device, dtype, training: _ } = gold;
            let [id, text, device] = [id, text, device].map(Option::as_deref);
            Judge { name: GOLD, id, text, device, dtype: *dtype }
        });
        let others = self.judges.iter().map(|(name, table)| {
            let JudgeTable { id, text, device, dtype } = table;
            let [text, device] = [text, device].map(Option::as_deref);
            Judge { name, id: Some(id), text, device, dtype: *dtype }
        });
        gold.chain(others).collect()
    }

    pub fn judge(&self, name: &str) -> Option<Judge<'_>> {
        self.judges().into_iter().find(|judge| judge.name == name)
    }

    /// The folder or hub id of each model and judge that has one.
    pub fn ids_mut(&mut self) -> impl Iterator<Item = ModelId<'_>> {
        let Self { models, gold, judges, .. } = self;
        let models = models.iter_mut().filter_map(|(name, model)| {
            let tokenizer = model.api.as_mut().and_then(|api| api.tokenizer.as_mut());
            let (key, role) = match tokenizer {
                Some(_) => (format!("models.{name}.api.tokenizer"), ModelRole::Tokenizer),
                None => (format!("models.{name}.id"), ModelRole::Model),
            };
            Some(ModelId { key, role, id: tokenizer.or(model.id.as_mut())? })
        });
        let gold = gold.iter_mut().filter_map(|gold| {
            Some(ModelId {
                key: format!("{GOLD}.id"),
                role: ModelRole::Judge,
                id: gold.id.as_mut()?,
            })
        });
        let judges = judges.iter_mut().map(|(name, table)| {
            let key = format!("{}.id", table_of(name));
            ModelId { key, role: ModelRole::Judge, id: &mut table.id }
        });
        models.chain(gold).chain(judges)
    }
}
