//! The plan: a valid recipe with absolute paths, its stages in order, every stage's optimisation
//! settled, and the sizes of its models.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{
    ClassifierSizes, GuideTable, LmSizes, Proposal, Recipe, ScratchTokenizer, Stage, StageTraining,
    config_folder, hub_dataset, validate,
};
use crate::error::{Error, Result};

/// What a run will do; written as `plan.json`. The same recipe gives the same plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub recipe: Recipe,
    pub stages: Vec<Stage>,
    pub training: StageTraining,
    /// Of every model of the recipe.
    pub models: BTreeMap<String, LmSizes>,
    pub gold: Option<ClassifierSizes>,
    /// Of every judge beside it.
    pub judges: BTreeMap<String, ClassifierSizes>,
    #[serde(skip)]
    pub counts: Counts,
}

/// How much there is to train on, where only the data themselves tell and have been read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Training texts of `[data]`.
    pub texts: Option<usize>,
    /// Training pairs of `preferences.source`.
    pub pairs: Option<usize>,
}

/// Where the weights of a guide come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GuideSource {
    /// The result of `[sft]`.
    Sft,
    /// The result of `[dpo]`.
    Dpo,
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

impl fmt::Display for GuideSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sft => f.write_str("sft/"),
            Self::Dpo => f.write_str("dpo/"),
            Self::Model(model) => write!(f, "models.{model}"),
        }
    }
}

impl Plan {
    /// Settles `recipe`, whose relative paths start from the folder of `recipe_path`. Hub models
    /// have been replaced by folders before; a hub data set may stay one, in a plan that is only
    /// shown.
    ///
    /// # Errors
    /// [`Error::Recipe`] with every rule of [`validate`] that the recipe breaks.
    pub fn new(mut recipe: Recipe, recipe_path: &Path) -> Result<Self> {
        let problems = validate(&recipe, recipe_path);
        if !problems.is_empty() {
            return Err(Error::Recipe(problems));
        }
        let folder = recipe_path.parent().unwrap_or(Path::new(""));
        for path in paths(&mut recipe, folder) {
            *path = absolute(folder, path)
                .map_err(|what| Error::recipe(format!("{}: {what}", recipe_path.display())))?;
        }
        let sizes = Sizes::of(&recipe, folder);
        let stages = Stage::ALL.into_iter().filter(|stage| stage.is_in(&recipe)).collect();
        let training = StageTraining::resolve(&recipe, &sizes);
        let Sizes { models, gold, judges, troubles: _ } = sizes;
        Ok(Self { recipe, stages, training, models, gold, judges, counts: Counts::default() })
    }

    /// Texts to train on; `None` where only the source knows.
    pub(super) fn texts(&self) -> Option<usize> {
        self.counts.texts.or(Some(self.recipe.data.train).filter(|rows| *rows > 0))
    }

    /// Pairs to train on, before equal, empty, tied and overlong ones drop out; `None` where only
    /// the source knows.
    pub(super) fn pairs(&self) -> Option<usize> {
        let preferences = self.recipe.preferences.as_ref()?;
        match preferences.source {
            Some(_) => {
                self.counts.pairs.or(Some(preferences.train_pairs).filter(|pairs| *pairs > 0))
            }
            None => Some(preferences.prompts.saturating_mul(preferences.pairs_per_prompt())),
        }
    }

    pub fn has(&self, stage: Stage) -> bool {
        self.stages.contains(&stage)
    }

    /// All guide pairs; empty without `[dpo]` and named guides.
    pub fn guide_pairs(&self) -> Vec<GuidePairSource> {
        guide_pairs(&self.recipe)
    }

    /// The recipe's model that a guide is or descends from.
    pub fn model_of<'a>(&'a self, source: &'a GuideSource) -> Option<&'a str> {
        self.recipe.model_of(source)
    }

    /// The pair that rewards in `[ppo]`.
    pub fn ppo_pair(&self) -> Option<GuidePairSource> {
        ppo_pair(&self.recipe)
    }

    /// The first pair's tuned guide π*; `None` without `[dpo]` and named guides.
    pub fn tuned(&self) -> Option<GuideSource> {
        self.guide_pairs().into_iter().next().map(|pair| pair.tuned)
    }

    /// The first pair's untuned guide π_ref; without a pair what would be one: [`Self::reference`].
    pub fn untuned(&self) -> Option<GuideSource> {
        untuned(&self.recipe)
    }

    /// What `[dpo]` starts from and keeps as its reference: the result of `[sft]`, or else
    /// `preferences.policy`.
    pub fn reference(&self) -> Option<GuideSource> {
        reference(&self.recipe)
    }
}

pub(super) fn guide_pairs(recipe: &Recipe) -> Vec<GuidePairSource> {
    let Some(steer) = &recipe.steer else { return Vec::new() };
    let single =
        GuideTable { tuned: steer.tuned.clone(), untuned: steer.untuned.clone(), weight: 1.0 };
    let tables = if steer.guide.is_empty() { std::slice::from_ref(&single) } else { &steer.guide };
    let of_table = |table: &GuideTable| {
        let tuned = match &table.tuned {
            Some(model) => GuideSource::Model(model.clone()),
            None => recipe.dpo.as_ref().map(|_| GuideSource::Dpo)?,
        };
        let untuned =
            table.untuned.clone().map(GuideSource::Model).or_else(|| reference(recipe))?;
        Some(GuidePairSource { tuned, untuned, weight: table.weight })
    };
    tables.iter().filter_map(of_table).collect()
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
        Some(GuidePairSource { tuned: GuideSource::Dpo, untuned: reference(recipe)?, weight: 1.0 })
    };
    guide_pairs(recipe).into_iter().next().or_else(stages)
}

pub(super) fn untuned(recipe: &Recipe) -> Option<GuideSource> {
    let named =
        recipe.steer.as_ref().and_then(|steer| steer.untuned.clone()).map(GuideSource::Model);
    named
        .or_else(|| Some(guide_pairs(recipe).into_iter().next()?.untuned))
        .or_else(|| reference(recipe))
}

fn reference(recipe: &Recipe) -> Option<GuideSource> {
    match recipe.sft {
        Some(_) => Some(GuideSource::Sft),
        None => recipe
            .preferences
            .as_ref()
            .and_then(|preferences| preferences.policy.clone())
            .map(GuideSource::Model),
    }
}

impl Recipe {
    /// The models that guides are or descend from, each once.
    pub fn guide_models(&self) -> Vec<&str> {
        let pairs = guide_pairs(self);
        self.models_of(
            pairs.into_iter().flat_map(|pair| [pair.tuned, pair.untuned]).chain(untuned(self)),
        )
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
        self.models_of(
            steer.method.iter().flat_map(|method| &method.proposals).flat_map(of_proposal),
        )
    }

    /// The same of the pair that rewards in `[ppo]`.
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
            GuideSource::Sft | GuideSource::Dpo => self.guide_model(),
            GuideSource::Model(name) => Some(name),
        }
    }

    fn models_of(&self, sources: impl Iterator<Item = GuideSource>) -> Vec<&str> {
        let mut models: Vec<&str> = Vec::new();
        for source in sources {
            let model = match source {
                GuideSource::Sft | GuideSource::Dpo => self.guide_model(),
                GuideSource::Model(name) => {
                    self.models.get_key_value(&name).map(|(name, _)| name.as_str())
                }
            };
            models.extend(model.filter(|model| !models.contains(model)));
        }
        models
    }
}

/// All paths that a recipe in `folder` names.
fn paths<'a>(recipe: &'a mut Recipe, folder: &Path) -> impl Iterator<Item = &'a mut String> {
    let Recipe { models, gold, judges, data, preferences, .. } = recipe;
    let models = models.values_mut().filter_map(|model| model.id.as_mut());
    let judges = judges.values_mut().map(|judge| &mut judge.id);
    let gold = gold.as_mut().and_then(|gold| gold.id.as_mut());
    let source = Some(&mut data.source)
        .filter(|source| !source.starts_with("builtin:") && hub_dataset(folder, source).is_none());
    let pairs = preferences.as_mut().and_then(|preferences| preferences.source.as_mut());
    models.chain(gold).chain(judges).chain(source).chain(pairs)
}

/// The recipe with its paths as seen from here, for one that cannot be planned and is only looked
/// at further.
pub fn with_joined_paths(recipe: &Recipe, recipe_path: &Path) -> Recipe {
    let (mut recipe, folder) = (recipe.clone(), recipe_path.parent().unwrap_or(Path::new("")));
    for path in paths(&mut recipe, folder) {
        if let Some(joined) = folder.join(&*path).to_str() {
            *path = joined.to_owned();
        }
    }
    recipe
}

/// The file or folder by its full path. Only its parent is resolved: a data file may be a link
/// whose own name tells its format.
fn absolute(folder: &Path, path: &str) -> Result<String, String> {
    let joined = std::path::absolute(folder.join(path))
        .map_err(|error| format!("`{path}` has no absolute path: {error}"))?;
    let full = match (joined.parent(), joined.file_name()) {
        (Some(parent), Some(name)) => parent.canonicalize().map(|parent| parent.join(name)),
        _ => joined.canonicalize(),
    };
    let full = full.map_err(|error| format!("`{path}` cannot be resolved: {error}"))?;
    full.into_os_string()
        .into_string()
        .map_err(|full| format!("`{}` is not UTF-8", full.to_string_lossy()))
}

/// Sizes of all models, and what kept some from being known.
pub(super) struct Sizes {
    pub models: BTreeMap<String, LmSizes>,
    pub gold: Option<ClassifierSizes>,
    pub judges: BTreeMap<String, ClassifierSizes>,
    /// `models.<name>`, `gold` or `judges.<name>`, and what is wrong with its config; folders and
    /// files that are missing have their own rules.
    pub troubles: Vec<(String, String)>,
}

impl Sizes {
    pub fn of(recipe: &Recipe, folder: &Path) -> Self {
        let mut sizes = Self {
            models: BTreeMap::new(),
            gold: None,
            judges: BTreeMap::new(),
            troubles: Vec::new(),
        };
        for (name, model) in &recipe.models {
            let found = match (&model.scratch, &model.id) {
                (Some(scratch), _) => vocab_size(recipe, name)
                    .and_then(|vocab_size| LmSizes::of_scratch(scratch, vocab_size)),
                (None, Some(id)) => {
                    sizes.read(&format!("models.{name}"), &folder.join(id), LmSizes::of_folder)
                }
                (None, None) => None,
            };
            if let Some(found) = found {
                sizes.models.insert(name.clone(), found);
            }
        }
        sizes.gold = match recipe.gold.as_ref().map(|gold| (&gold.scratch, &gold.id)) {
            Some((Some(scratch), _)) => ClassifierSizes::of_scratch(scratch),
            Some((None, Some(id))) => {
                sizes.read("gold", &folder.join(id), ClassifierSizes::of_folder)
            }
            _ => None,
        };
        for (name, judge) in &recipe.judges {
            let found = sizes.read(
                &format!("judges.{name}"),
                &folder.join(&judge.id),
                ClassifierSizes::of_folder,
            );
            sizes.judges.extend(found.map(|found| (name.clone(), found)));
        }
        sizes
    }

    fn read<T>(
        &mut self,
        name: &str,
        folder: &Path,
        read: impl Fn(&Path) -> Result<T, String>,
    ) -> Option<T> {
        let folder = config_folder(folder);
        if !folder.join("config.json").is_file() {
            return None;
        }
        read(&folder).map_err(|trouble| self.troubles.push((name.to_owned(), trouble))).ok()
    }
}

fn vocab_size(recipe: &Recipe, model: &str) -> Option<usize> {
    match recipe.models.get(recipe.tokenizer_owner(model))?.scratch.as_ref()?.tokenizer {
        ScratchTokenizer::Bpe { vocab_size } => Some(vocab_size),
        ScratchTokenizer::SameAs { .. } => None,
    }
}
