//! Hub ids in recipes and on the command line: fetched before any work, so that all else sees local
//! folders.

use std::path::{Path, PathBuf};

use crate::artifacts::stand_in;
use crate::error::{Error, Result};
use crate::hub::{Files, Hub};
use crate::models::check_lm_config;
use crate::recipe::{
    HubId, ModelId, ModelRole, Recipe, hub_base, hub_dataset, hub_model, validate,
};
use crate::score::JudgeModel;
use crate::text::{chosen_files, chosen_pair_files};

/// The folder that `--base` and its like name: a path as it is, a hub id as its folder in the
/// cache. The base of an adapter is fetched where it is on the hub.
pub(super) fn model(id: &str) -> Result<PathBuf> {
    match Place::on_hub(Path::new(""), id) {
        Some(place) => place.fetch(&Hub::from_env()?, Files::All),
        None if Path::new(id).is_dir() => Ok(PathBuf::from(id)),
        None if Path::new(id).is_symlink() => {
            stand_in::refuse(Path::new(id)).map(|()| PathBuf::from(id))
        }
        None => Err(Error::failed(format!(
            "`{id}` is not a folder, and not a hub id\n\nhint: a hub id is `owner/name` or \
             `owner/name@revision`"
        ))),
    }
}

/// The folder of a tokenizer, whose weights are not fetched.
pub(super) fn tokenizer(id: &str) -> Result<PathBuf> {
    match Place::on_hub(Path::new(""), id) {
        Some(place) => place.fetch(&Hub::from_env()?, Files::WithoutWeights),
        None => model(id),
    }
}

/// A model of which something lies on the hub.
enum Place {
    Repository(HubId),
    /// A local one, whose base is a repository.
    Adapter(PathBuf),
}

impl Place {
    /// The place of the model that a recipe in `folder` calls `id`; `None` for one that is local.
    fn on_hub(folder: &Path, id: &str) -> Option<Self> {
        let local = || Some(folder.join(id)).filter(|local| hub_base(local).is_some());
        hub_model(folder, id).map(Self::Repository).or_else(|| local().map(Self::Adapter))
    }

    /// The model's folder, once it and its base are in the cache.
    fn fetch(&self, hub: &Hub, files: Files) -> Result<PathBuf> {
        let folder = match self {
            Self::Repository(id) => hub.model(id, files)?,
            Self::Adapter(folder) => folder.clone(),
        };
        if let Some(base) = hub_base(&folder) {
            hub.model(&base, files)?;
        }
        Ok(folder)
    }
}

/// The recipe with folders of the cache in place of its hub ids. A data set, which has no part
/// without weights, is fetched with [`Files::All`] only.
///
/// # Errors
/// [`Error::Recipe`] with what is wrong with the recipe before anything is fetched, and with the
/// configs and tokenizers of all its hub models before their weights are.
pub(super) fn resolve(asked: &Recipe, path: &Path, files: Files) -> Result<Recipe> {
    let folder = folder_of(path);
    let mut recipe = asked.clone();
    let source = recipe.data.as_ref().and_then(|data| hub_dataset(folder, &data.source));
    let dataset = source.filter(|_| files == Files::All);
    let pairs = pairs_on_hub(asked, folder);
    let fetches_pairs = files == Files::All && pairs.iter().any(Option::is_some);
    let models: Vec<(ModelId, Place)> = recipe
        .ids_mut()
        .filter_map(|model| Place::on_hub(folder, model.id).map(|place| (model, place)))
        .collect();
    if models.is_empty() && dataset.is_none() && !fetches_pairs {
        return Ok(recipe);
    }
    // A mistake in the recipe must not show after gigabytes.
    let problems = validate(asked, path);
    if !problems.is_empty() {
        return Err(Error::Recipe(problems));
    }
    let hub = Hub::from_env()?;
    let mut problems = Vec::new();
    for (ModelId { key, role, .. }, place) in &models {
        let folder = place.fetch(&hub, Files::WithoutWeights)?;
        let misfit = match role {
            ModelRole::Judge => JudgeModel::check_config(&folder),
            ModelRole::Model => check_lm_config(&folder),
            ModelRole::Tokenizer => Ok(()),
        };
        problems.extend(misfit.err().map(|error| format!("`{key}`: {error}")));
    }
    if !problems.is_empty() {
        return Err(Error::Recipe(problems));
    }
    for (model, place) in models {
        let is_tokenizer = model.role == ModelRole::Tokenizer;
        let files = if is_tokenizer { Files::WithoutWeights } else { files };
        let fetched = place.fetch(&hub, files)?;
        if let Place::Repository(_) = place {
            *model.id = text(fetched)?;
        }
    }
    if let (Some(hub_id), Some(data)) = (dataset, &mut recipe.data) {
        let choose = |names: &[&str]| {
            chosen_files(names, data).map_err(|trouble| (trouble.problem, trouble.hint))
        };
        data.source = text(hub.dataset(&hub_id, &choose)?)?;
    }
    if fetches_pairs {
        let sources = asked.pair_sources();
        for ((source, hub_id), place) in sources.iter().zip(&pairs).zip(recipe.pair_sources_mut()) {
            let Some(hub_id) = hub_id else { continue };
            let choose = |names: &[&str]| {
                chosen_pair_files(names, source).map_err(|trouble| (trouble.problem, trouble.hint))
            };
            *place = text(hub.dataset(hub_id, &choose)?)?;
        }
    }
    Ok(recipe)
}

/// The hub data set that each source of pairs is, where it is one.
fn pairs_on_hub(recipe: &Recipe, folder: &Path) -> Vec<Option<HubId>> {
    recipe.pair_sources().iter().map(|pairs| hub_dataset(folder, pairs.source)).collect()
}

/// What [`resolve`] made of `asked`, and a plan absolute, with the hub ids as they were written:
/// for people, and for another machine.
pub(super) fn as_written(resolved: &Recipe, asked: &Recipe, path: &Path) -> Recipe {
    let folder = folder_of(path);
    let mut recipe = resolved.clone();
    for (model, asked) in recipe.ids_mut().zip(asked.clone().ids_mut()) {
        if hub_model(folder, asked.id).is_some() {
            model.id.clone_from(asked.id);
        }
    }
    if let (Some(data), Some(asked)) = (&mut recipe.data, &asked.data)
        && hub_dataset(folder, &asked.source).is_some()
    {
        data.source.clone_from(&asked.source);
    }
    let on_hub = pairs_on_hub(asked, folder);
    let sources = asked.pair_sources();
    for ((place, source), _) in
        recipe.pair_sources_mut().zip(&sources).zip(&on_hub).filter(|(_, id)| id.is_some())
    {
        source.source.clone_into(place);
    }
    recipe
}

fn folder_of(recipe: &Path) -> &Path {
    recipe.parent().unwrap_or(Path::new(""))
}

fn text(folder: PathBuf) -> Result<String> {
    let not_text = |folder: std::ffi::OsString| {
        Error::failed(format!(
            "the hub cache lies at `{}`, which is not UTF-8\n\nhint: set HF_HOME",
            folder.to_string_lossy()
        ))
    };
    std::path::absolute(&folder)
        .map_err(Error::io(&folder, "finding its place"))?
        .into_os_string()
        .into_string()
        .map_err(not_text)
}
