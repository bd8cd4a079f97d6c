//! Who judges responses: the `[gold]` of the recipe, and further `[judges.<name>]` that evaluation
//! asks beside it (the paper has a gold and two reward models). Judging is left to `score`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::rules::Rules;
use super::api::ApiLimits;
use super::judge_source::{JudgeSource, OutsideKeys, one_origin};
use super::run::Dtype;
use super::{AlpacaEvalTable, FIGURES, GOLD, LIKELIHOOD, Recipe};

/// A further judge that `[evaluate]` asks beside `[gold]` about every response: a sequence
/// classifier, a reward model, a program of one's own or a server. One of `id`, `command` and
/// `url`. Nothing is steered or learned by what it says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JudgeTable {
    /// A folder or a hub id, as `gold.id`.
    #[schemars(example = &"../models/reward-model")]
    pub id: Option<String>,
    /// A program and its arguments, as `gold.command`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &["python3", "reward.py"])]
    pub command: Option<Vec<String>>,
    /// As `gold.seconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), example = 600)]
    pub seconds: Option<u64>,
    /// The address of a server of rewards, as `gold.url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-also" = ["remote_rm_url"]), example = &"http://127.0.0.1:5000/get_reward")]
    pub url: Option<String>,
    /// As `gold.model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"owner/reward-model")]
    pub model: Option<String>,
    /// As `gold.key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"REWARD_KEY")]
    pub key: Option<String>,
    /// As `gold.limits`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ApiLimits>,
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
    pub source: JudgeSource<'a>,
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
        let Self { name: _, source: _, text, device: _, dtype: _ } = self;
        json!(text)
    }

    pub(in crate::recipe) fn rules(&self, rules: &mut Rules) {
        let table = self.table();
        if let JudgeSource::Model(id) = self.source {
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
    /// Where its rewards come from; `None` where the table does not say.
    fn source(&self) -> Option<JudgeSource<'_>> {
        self.id.as_deref().map(JudgeSource::Model).or_else(|| self.outside().source())
    }

    fn outside(&self) -> OutsideKeys<'_> {
        let Self { command, seconds, url, model, key, limits, .. } = self;
        OutsideKeys { command, seconds: *seconds, url, model, key, limits }
    }

    pub(in crate::recipe) fn rules(&self, name: &str, rules: &mut Rules) {
        rules.folder_name("judges", name);
        let origins = [
            ("id", self.id.is_some()),
            ("command", self.command.is_some()),
            ("url", self.url.is_some()),
        ];
        let hint = "`id` is a folder or a hub id, `command` a program of your own, `url` a server";
        one_origin(&table_of(name), &origins, hint, rules);
        let local = [("device", self.device.is_some()), ("dtype", self.dtype.is_some())];
        self.outside().rules(&table_of(name), &local, self.text.is_some(), rules);
        if name == GOLD {
            rules.problem_hint(
                format!("`judges.{GOLD}` has the name of the judge that `[gold]` is"),
                "give it another name",
            );
        }
        if [LIKELIHOOD, FIGURES, AlpacaEvalTable::NAME].contains(&name) {
            rules.problem_hint(
                format!("`judges.{name}` has the name of a folder that evaluation has of its own"),
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
            let [text, device] = [&gold.text, &gold.device].map(Option::as_deref);
            Judge { name: GOLD, source: gold.source(), text, device, dtype: gold.dtype }
        });
        let others = self.judges.iter().filter_map(|(name, table)| {
            let [text, device] = [&table.text, &table.device].map(Option::as_deref);
            Some(Judge { name, source: table.source()?, text, device, dtype: table.dtype })
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
        let judges = judges.iter_mut().filter_map(|(name, table)| {
            let key = format!("{}.id", table_of(name));
            Some(ModelId { key, role: ModelRole::Judge, id: table.id.as_mut()? })
        });
        models.chain(gold).chain(judges)
    }
}
