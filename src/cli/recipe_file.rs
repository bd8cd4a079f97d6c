//! A recipe from its file, with the files that its prompts are made of.

use std::path::Path;

use crate::error::{Error, Result};
use crate::recipe::{self, Recipe, validate};
use crate::text::read_recipe_texts;

/// The recipe at `path` with overrides, and what its templates and exemplars say.
///
/// # Errors
/// [`Error::Recipe`] with every problem.
pub(super) fn load(path: &Path, set: &[String]) -> Result<Recipe> {
    let mut recipe = recipe::load(path, set)?;
    let found = read_recipe_texts(&mut recipe, path.parent().unwrap_or(Path::new("")));
    if found.is_empty() {
        return Ok(recipe);
    }
    let found = found.into_iter().map(|problem| format!("{}: {problem}", path.display()));
    Err(Error::Recipe(found.chain(validate(&recipe, path)).collect()))
}
