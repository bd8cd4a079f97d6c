//! From a recipe to its plan: sizes and trainings are worked out once, all tables tell what is
//! wrong, and paths become whole.

use std::path::Path;

use super::adapter_folder::config_folder;
use super::hub_id::hub_dataset;
use super::memory::StageMemory;
use super::plan::{Counts, Plan, StageTraining};
use super::ranges;
use super::rules::Rules;
use super::sizes::{ClassifierSizes, LmSizes, Sizes};
use super::tables::{
    AlpacaEvalTable, Model, Recipe, Stage, served_guides, served_models, without_data,
};
use crate::error::{Error, Result};

impl Plan {
    /// Settles `recipe`, whose relative paths start from the folder of `recipe_path`. Hub models
    /// have been replaced by folders before; a hub data set may stay one, in a plan that is only
    /// shown.
    ///
    /// # Errors
    /// [`Error::Recipe`] with every rule that the recipe breaks.
    pub fn new(mut recipe: Recipe, recipe_path: &Path) -> Result<Self> {
        let folder = recipe_path.parent().unwrap_or(Path::new(""));
        let sizes = sizes_of(&recipe, folder);
        let training = settle(&recipe, &sizes);
        let problems = problems(&recipe, recipe_path, &sizes, &training);
        if !problems.is_empty() {
            return Err(Error::Recipe(problems));
        }
        for path in paths(&mut recipe, folder) {
            *path = absolute(folder, path)
                .map_err(|what| Error::recipe(format!("{}: {what}", recipe_path.display())))?;
        }
        let here = folder.join(".");
        let folder = here
            .canonicalize()
            .or_else(|_| std::path::absolute(&here))
            .map_err(Error::io(folder, "finding its place"))?;
        let stages = Stage::ALL.into_iter().filter(|stage| stage.is_in(&recipe)).collect();
        let Sizes { models, gold, judges, troubles: _ } = sizes;
        let counts = Counts::default();
        Ok(Self { recipe, folder, stages, training, models, gold, judges, counts })
    }

    /// One line each on what is worth a second look, though a run does it, with the key that it is
    /// about.
    pub fn warnings(&self) -> Vec<String> {
        let tables = self.stages.iter().filter_map(|stage| stage.table(&self.recipe));
        tables.flat_map(|table| table.warnings(self)).collect()
    }

    /// What every stage that holds a model takes of memory, in the plan's order.
    pub fn memory(&self) -> Vec<(Stage, StageMemory)> {
        let stages = self.stages.iter();
        stages
            .filter_map(|stage| Some((*stage, stage.table(&self.recipe)?.memory(self)?)))
            .collect()
    }
}

/// Every broken rule, each as `file: what` with a hint where there is a way out; paths in the
/// recipe are relative to `recipe_path`.
pub fn validate(recipe: &Recipe, recipe_path: &Path) -> Vec<String> {
    let sizes = sizes_of(recipe, recipe_path.parent().unwrap_or(Path::new("")));
    problems(recipe, recipe_path, &sizes, &settle(recipe, &sizes))
}

/// What is wrong with a recipe that steers, whatever its data, sizes and folders are: the rules of
/// `w2s steer`.
pub fn steer_problems(recipe: &Recipe) -> Vec<String> {
    let (sizes, training) = (Sizes::default(), StageTraining::default());
    let (place, problems) = (String::new(), Vec::new());
    let folder = Path::new("");
    let mut rules = Rules { recipe, folder, sizes: &sizes, training: &training, place, problems };
    ranges::rules(&mut rules);
    recipe.run.rules(&mut rules);
    templates(&mut rules);
    if let Some(steer) = &recipe.steer {
        steer.settings_rules(&mut rules);
    }
    rules.problems
}

fn problems(
    recipe: &Recipe,
    recipe_path: &Path,
    sizes: &Sizes,
    training: &StageTraining,
) -> Vec<String> {
    let folder = recipe_path.parent().unwrap_or(Path::new(""));
    let (place, problems) = (format!("{}: ", recipe_path.display()), Vec::new());
    let mut rules = Rules { recipe, folder, sizes, training, place, problems };
    ranges::rules(&mut rules);
    recipe.run.rules(&mut rules);
    match &recipe.data {
        Some(data) => data.rules(&mut rules),
        None => without_data(&mut rules),
    }
    recipe.models.iter().for_each(|(name, model)| model.rules(name, &mut rules));
    recipe.judges.iter().for_each(|(name, judge)| judge.rules(name, &mut rules));
    recipe.judges().iter().for_each(|judge| judge.rules(&mut rules));
    served_models(&mut rules);
    served_guides(&mut rules);
    templates(&mut rules);
    for (table, trouble) in &sizes.troubles {
        rules.problem(format!("`{table}.id`: {trouble}"));
    }
    stages(&mut rules);
    rules.problems
}

/// What models and judges are told to read.
fn templates(rules: &mut Rules) {
    let recipe = rules.recipe;
    recipe.models.iter().for_each(|(name, model)| model.template_rules(name, rules));
    recipe.judges().iter().for_each(|judge| judge.text_rules(rules));
}

/// What stages need of each other, and the rules of their tables.
fn stages(rules: &mut Rules) {
    let recipe = rules.recipe;
    let scratch = recipe.models.iter().find(|(_, model)| model.scratch.is_some());
    if let (Some((name, _)), None) = (scratch, &recipe.pretrain) {
        rules.problem_hint(
            format!("`models.{name}.scratch` is to be pretrained, but there is no `[pretrain]`"),
            "add `[pretrain]`; all its keys have defaults",
        );
    }
    if !recipe.judges.is_empty() && recipe.evaluate.is_none() {
        rules.problem_hint(
            "`[judges]` are asked by `[evaluate]`, and there is none",
            "add `[evaluate]`; all its keys have defaults",
        );
    }
    let tables: Vec<_> =
        Stage::ALL.into_iter().filter_map(|stage| Some((stage, stage.table(recipe)?))).collect();
    for (stage, table) in &tables {
        for needed in table.needs() {
            if tables.iter().any(|(stage, _)| *stage == needed) {
                continue;
            }
            match table.without(needed, recipe) {
                Some((what, hint)) => {
                    rules.problem_hint(format!("`[{stage}]` needs `[{needed}]`{what}"), hint);
                }
                None => rules.problem(format!("`[{stage}]` needs `[{needed}]`")),
            }
        }
    }
    if tables.is_empty() {
        let all = Stage::ALL.iter().filter(|stage| **stage != Stage::Evaluate);
        let all: Vec<String> = all.map(|stage| format!("`[{stage}]`")).collect();
        let hint = format!("add the table of a stage: {}", all.join(", "));
        rules.problem_hint("the recipe has no stage", hint);
    }
    tables.iter().for_each(|(_, table)| table.rules(rules));
}

/// The optimisation of every stage: its table over its defaults, and lengths that fit what the
/// model reads.
fn settle(recipe: &Recipe, sizes: &Sizes) -> StageTraining {
    let mut settled = StageTraining::default();
    if let Some(pretrain) = &recipe.pretrain {
        for (name, model) in &recipe.models {
            let Some(scratch) = &model.scratch else { continue };
            let training = pretrain.settle(scratch, sizes.models.get(name));
            settled.pretrain.insert(name.clone(), training);
        }
    }
    settled.gold = recipe.gold.as_ref().and_then(|gold| gold.settle(sizes));
    settled.sft = recipe.sft.as_ref().map(|sft| sft.settle(recipe, sizes));
    settled.reward_model =
        recipe.reward_model.as_ref().and_then(|table| table.settle(recipe, sizes));
    if let Some(dpo) = &recipe.dpo {
        settled.dpo = dpo.settle(recipe, sizes);
    }
    if let Some(direct) = &recipe.direct {
        for model in recipe.direct_models() {
            settled.direct.insert(model.clone(), direct.settle(model, recipe, sizes));
        }
    }
    if let Some(ppo) = &recipe.ppo {
        let of_policy = |policy: &String| (policy.clone(), ppo.settle(policy, recipe, sizes));
        settled.ppo = ppo.policy.0.iter().map(of_policy).collect();
    }
    settled
}

/// The sizes of all models and judges, and what kept some from being known; folders and files that
/// are missing have their own rules.
fn sizes_of(recipe: &Recipe, folder: &Path) -> Sizes {
    let mut sizes = Sizes::default();
    for (name, model) in &recipe.models {
        let found = match (&model.scratch, &model.id) {
            (Some(_), _) => recipe.scratch_sizes(name),
            (None, Some(id)) => {
                read(&mut sizes, &format!("models.{name}"), &folder.join(id), LmSizes::of_folder)
            }
            (None, None) => None,
        };
        sizes.models.extend(found.map(|found| (name.clone(), found)));
    }
    if let Some(gold) = &recipe.gold {
        sizes.gold = match (&gold.scratch, &gold.id, &gold.reward_model) {
            (Some(scratch), ..) => scratch.sizes(),
            (None, Some(id), _) => {
                read(&mut sizes, "gold", &folder.join(id), ClassifierSizes::of_folder)
            }
            (None, None, Some(table)) => sizes.models.get(&table.model).map(ClassifierSizes::of_lm),
            (None, None, None) => None,
        };
    }
    for (name, judge) in &recipe.judges {
        let (place, Some(id)) = (format!("judges.{name}"), &judge.id) else { continue };
        let found = read(&mut sizes, &place, &folder.join(id), ClassifierSizes::of_folder);
        sizes.judges.extend(found.map(|found| (name.clone(), found)));
    }
    sizes
}

fn read<T>(
    sizes: &mut Sizes,
    name: &str,
    folder: &Path,
    read: impl Fn(&Path) -> Result<T, String>,
) -> Option<T> {
    let folder = config_folder(folder);
    if !folder.join("config.json").is_file() {
        return None;
    }
    read(&folder).map_err(|trouble| sizes.troubles.push((name.to_owned(), trouble))).ok()
}

/// All paths that a recipe in `folder` names.
fn paths<'a>(
    recipe: &'a mut Recipe,
    folder: &Path,
) -> impl Iterator<Item = &'a mut String> + use<'a> {
    let Recipe { models, gold, judges, data, preferences, evaluate, .. } = recipe;
    let models = models.values_mut().filter_map(|model| {
        let Model { id, api, .. } = model;
        id.as_mut().or_else(|| api.as_mut().and_then(|api| api.tokenizer.as_mut()))
    });
    let judges = judges.values_mut().filter_map(|judge| judge.id.as_mut());
    let is_here = |source: &&mut String| {
        !source.starts_with("builtin:") && hub_dataset(folder, source).is_none()
    };
    let gold = gold.iter_mut().flat_map(|gold| {
        let pairs = gold.reward_model.as_mut().map(|table| &mut table.source);
        gold.id.as_mut().into_iter().chain(pairs.filter(is_here))
    });
    let data = data.as_mut().map(|data| &mut data.source).filter(is_here);
    let pairs = preferences.as_mut().and_then(|preferences| preferences.source.as_mut());
    let pairs = pairs.filter(is_here);
    let alpaca_eval = evaluate.as_mut().and_then(|evaluate| evaluate.alpaca_eval.as_mut());
    let alpaca_eval = alpaca_eval.into_iter().flat_map(AlpacaEvalTable::paths_mut);
    let all: Vec<&mut String> =
        models.chain(gold).chain(judges).chain(data).chain(pairs).chain(alpaca_eval).collect();
    all.into_iter()
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
    let text = full.into_os_string().into_string();
    text.map_err(|full| format!("`{}` is not UTF-8", full.to_string_lossy()))
}
