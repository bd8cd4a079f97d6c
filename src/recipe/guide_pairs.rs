//! Which models guide: the pairs that score and reward, where their weights come from, and what is
//! sampled of them.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::tables::{Proposal, Recipe};

/// Where the weights of a guide come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GuideSource {
    /// The result of `[sft]`.
    Sft,
    /// The result of `[dpo]`, with one setting of its sweep where it has one.
    Dpo(Option<String>),
    /// A model of the recipe.
    Model(String),
}

/// Where the weights of a guide pair come from, and the weight of its score.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GuidePairSource {
    pub tuned: GuideSource,
    pub untuned: GuideSource,
    pub weight: f64,
}

/// The guides that score together.
#[derive(Debug, Clone, PartialEq)]
pub struct GuideSet {
    /// The setting of `dpo.sweep` that made the tuned guide.
    pub setting: Option<String>,
    pub pairs: Vec<GuidePairSource>,
}

impl fmt::Display for GuideSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sft => f.write_str("sft/"),
            Self::Dpo(None) => f.write_str("dpo/"),
            Self::Dpo(Some(setting)) => write!(f, "dpo/{setting}/"),
            Self::Model(model) => write!(f, "models.{model}"),
        }
    }
}

impl GuidePairSource {
    /// In words, where both halves are one model, whose every score is 0; paths of the recipe are
    /// whole.
    pub(super) fn one_model(&self, recipe: &Recipe) -> Option<String> {
        match (&self.tuned, &self.untuned) {
            (GuideSource::Model(tuned), GuideSource::Model(untuned))
                if is_one_model(recipe, Path::new(""), tuned, untuned) =>
            {
                Some(match tuned == untuned {
                    true => format!("`{tuned}`"),
                    false => format!("`{tuned}` and `{untuned}`, which are one model"),
                })
            }
            _ => None,
        }
    }
}

/// One set of guides, or one for each setting of `dpo.sweep` where a result of `[dpo]` guides.
pub(super) fn guide_sets(recipe: &Recipe) -> Vec<GuideSet> {
    let settings = recipe.guide_settings();
    let of = |setting: &Option<String>| GuideSet {
        setting: setting.clone(),
        pairs: pairs_with(recipe, setting),
    };
    let is_made = |pair: &GuidePairSource| matches!(pair.tuned, GuideSource::Dpo(_));
    let mut sets: Vec<GuideSet> = settings.iter().map(of).collect();
    if !sets.iter().flat_map(|set| &set.pairs).any(is_made) {
        sets.truncate(1);
        sets.iter_mut().for_each(|set| set.setting = None);
    }
    sets
}

/// The pairs of the first set, which stand for those of the others in all but the tuned guide's
/// weights.
pub(super) fn guide_pairs(recipe: &Recipe) -> Vec<GuidePairSource> {
    guide_sets(recipe).into_iter().next().map(|set| set.pairs).unwrap_or_default()
}

fn pairs_with(recipe: &Recipe, setting: &Option<String>) -> Vec<GuidePairSource> {
    let Some(steer) = &recipe.steer else { return Vec::new() };
    let pair = |tuned: &Option<String>, untuned: &Option<String>, weight: f64| {
        let tuned = match tuned {
            Some(model) => GuideSource::Model(model.clone()),
            None => recipe.dpo.as_ref().map(|_| GuideSource::Dpo(setting.clone()))?,
        };
        let untuned = untuned.clone().map(GuideSource::Model).or_else(|| reference(recipe))?;
        Some(GuidePairSource { tuned, untuned, weight })
    };
    if steer.guide.is_empty() {
        return pair(&steer.tuned, &steer.untuned, 1.0).into_iter().collect();
    }
    let guides = steer.guide.iter();
    guides.filter_map(|guide| pair(&guide.tuned, &guide.untuned, guide.weight)).collect()
}

/// The models named in `[ppo]`; else the first pair of `[steer]`; else the results of `[dpo]` and
/// `[sft]`.
pub(super) fn ppo_pair(recipe: &Recipe) -> Option<GuidePairSource> {
    let table = recipe.ppo.as_ref()?;
    if let (Some(tuned), Some(untuned)) = (&table.tuned, &table.untuned) {
        let [tuned, untuned] = [tuned, untuned].map(|name| GuideSource::Model(name.clone()));
        return Some(GuidePairSource { tuned, untuned, weight: 1.0 });
    }
    let stages = || {
        recipe.dpo.as_ref()?;
        let untuned = reference(recipe)?;
        Some(GuidePairSource { tuned: GuideSource::Dpo(None), untuned, weight: 1.0 })
    };
    guide_pairs(recipe).into_iter().next().or_else(stages)
}

/// The first pair's untuned guide π_ref; without a pair what would be one: [`reference`].
pub(super) fn untuned(recipe: &Recipe) -> Option<GuideSource> {
    let named = recipe.steer.as_ref().and_then(|steer| steer.untuned.clone());
    let first = || Some(guide_pairs(recipe).into_iter().next()?.untuned);
    named.map(GuideSource::Model).or_else(first).or_else(|| reference(recipe))
}

/// What `[dpo]` starts from and keeps as its reference: the result of `[sft]`, or else
/// `preferences.policy`.
pub(super) fn reference(recipe: &Recipe) -> Option<GuideSource> {
    match recipe.sft {
        Some(_) => Some(GuideSource::Sft),
        None => recipe.preferences.as_ref()?.policy.clone().map(GuideSource::Model),
    }
}

impl Recipe {
    /// The models that guides are or descend from, each once.
    pub fn guide_models(&self) -> Vec<&str> {
        let pairs = guide_pairs(self);
        let guides = pairs.into_iter().flat_map(|pair| [pair.tuned, pair.untuned]);
        self.models_of(guides.chain(untuned(self)))
    }

    /// Those of them that methods of `[steer]` sample from, alone or in a mixture.
    pub(super) fn sampled_guides(&self) -> Vec<&str> {
        let Some(steer) = &self.steer else { return Vec::new() };
        let pairs = guide_pairs(self);
        let of_proposal = |proposal: &Proposal| match proposal {
            Proposal::Tilted { .. } => {
                pairs.iter().flat_map(|pair| [pair.tuned.clone(), pair.untuned.clone()]).collect()
            }
            Proposal::Tuned => pairs.first().map(|pair| pair.tuned.clone()).into_iter().collect(),
            Proposal::Untuned => untuned(self).into_iter().collect(),
            Proposal::Base | Proposal::Direct | Proposal::Ppo { .. } => Vec::new(),
        };
        let rows = steer.method.iter().flat_map(|method| &method.rows);
        let proposals = rows.flat_map(|row| &row.proposals);
        self.models_of(proposals.flat_map(of_proposal))
    }

    /// The models that the pair of `[ppo]` is or descends from.
    pub fn ppo_guide_models(&self) -> Vec<&str> {
        self.models_of(ppo_pair(self).into_iter().flat_map(|pair| [pair.tuned, pair.untuned]))
    }

    /// All pairs that score or reward.
    pub fn guide_pairs(&self) -> Vec<GuidePairSource> {
        guide_pairs(self).into_iter().chain(ppo_pair(self)).collect()
    }

    /// The recipe's model that a guide is or descends from.
    pub fn model_of<'a>(&'a self, source: &'a GuideSource) -> Option<&'a str> {
        match source {
            GuideSource::Sft | GuideSource::Dpo(_) => self.guide_model(),
            GuideSource::Model(name) => Some(name),
        }
    }

    fn models_of(&self, sources: impl Iterator<Item = GuideSource>) -> Vec<&str> {
        let mut models: Vec<&str> = Vec::new();
        for source in sources {
            let model = match source {
                GuideSource::Sft | GuideSource::Dpo(_) => self.guide_model(),
                GuideSource::Model(name) => {
                    self.models.get_key_value(&name).map(|(name, _)| name.as_str())
                }
            };
            models.extend(model.filter(|model| !models.contains(model)));
        }
        models
    }
}

/// Whether two models of the recipe, whose paths start from `folder`, have one name or lie in one
/// folder.
pub(super) fn is_one_model(recipe: &Recipe, folder: &Path, one: &str, other: &str) -> bool {
    let id = |name: &str| recipe.models.get(name).and_then(|model| model.id.as_ref());
    let place = |id: &String| folder.join(id).canonicalize().unwrap_or_else(|_| id.into());
    one == other || id(one).zip(id(other)).is_some_and(|(one, other)| place(one) == place(other))
}
