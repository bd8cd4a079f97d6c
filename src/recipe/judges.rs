//! Who judges responses: the `[gold]` of the recipe, and further `[judges.<name>]` that evaluation
//! asks beside it (the paper has a gold and two reward models).

use serde::{Deserialize, Serialize};

use super::{Dtype, Gold, Recipe};

/// The name of the judge that `[gold]` is.
pub const GOLD: &str = "gold";

/// A further judge: a sequence classifier or a reward model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeTable {
    /// A folder or a hub id.
    pub id: String,
    /// What the judge reads, with `{prompt}` and `{response}`; by default the layout that its kind
    /// was trained with.
    pub text: Option<String>,
    /// Instead of `run.device`.
    pub device: Option<String>,
    /// Of a reward model's weights, instead of `run.dtype`; classifiers are always f32.
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
    pub is_judge: bool,
    pub id: &'a mut String,
}

impl Judge<'_> {
    /// Where its table stands in a recipe.
    pub fn table(&self) -> String {
        table_of(self.name)
    }
}

fn table_of(name: &str) -> String {
    if name == GOLD { name.to_owned() } else { format!("judges.{name}") }
}

impl Recipe {
    /// `[gold]`, and then the others by their names.
    pub fn judges(&self) -> Vec<Judge<'_>> {
        let gold = self.gold.iter().map(|gold| {
            let Gold { id, scratch: _, text, device, dtype, training: _ } = gold;
            Judge {
                name: GOLD,
                id: id.as_deref(),
                text: text.as_deref(),
                device: device.as_deref(),
                dtype: *dtype,
            }
        });
        let others = self.judges.iter().map(|(name, table)| {
            let JudgeTable { id, text, device, dtype } = table;
            Judge {
                name,
                id: Some(id),
                text: text.as_deref(),
                device: device.as_deref(),
                dtype: *dtype,
            }
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
            Some(ModelId {
                key: format!("models.{name}.id"),
                is_judge: false,
                id: model.id.as_mut()?,
            })
        });
        let gold = gold.iter_mut().filter_map(|gold| {
            Some(ModelId { key: format!("{GOLD}.id"), is_judge: true, id: gold.id.as_mut()? })
        });
        let judges = judges.iter_mut();
        let judges = judges.map(|(name, table)| ModelId {
            key: format!("{}.id", table_of(name)),
            is_judge: true,
            id: &mut table.id,
        });
        models.chain(gold).chain(judges)
    }
}
