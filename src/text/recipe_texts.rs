//! The files that a recipe's prompts are made of, put into the recipe: what a run depends on, and
//! what it keeps, is what they hold.

use std::path::Path;

use super::records;
use crate::artifacts::stand_in;
use crate::error::{Error, Result};
use crate::recipe::{Exemplar, ModelPrompt, Recipe};

/// Puts the contents of templates and exemplars in the place of their files, which are looked for
/// from `folder`. What cannot be read stays as it is and is told; of files that are not there the
/// recipe's rules tell.
pub fn read_recipe_texts(recipe: &mut Recipe, folder: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, model) in &mut recipe.models {
        if let Some(path) = lies_here(folder, model.prompt.file()) {
            match template(&path) {
                Ok(text) => model.prompt = ModelPrompt::Text(text),
                Err(error) => problems.push(format!("`models.{name}.prompt.file`: {error}")),
            }
        }
        let Some(exemplars) = &mut model.exemplars else { continue };
        let path = lies_here(folder, exemplars.file.as_deref());
        if let Some(path) = path.filter(|_| exemplars.rows.is_empty()) {
            match rows(&path) {
                Ok(rows) => (exemplars.rows, exemplars.file) = (rows, None),
                Err(error) => problems.push(format!("`models.{name}.exemplars.file`: {error}")),
            }
        }
    }
    problems
}

fn lies_here(folder: &Path, file: Option<&str>) -> Option<std::path::PathBuf> {
    file.map(|file| folder.join(file)).filter(|path| path.is_file())
}

/// A text without the end of its last line.
fn template(path: &Path) -> Result<String> {
    stand_in::refuse(path)?;
    let bytes = std::fs::read(path).map_err(Error::io(path, "reading the prompt"))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        Error::data(path, None, format!("byte {good} of the file is not UTF-8"))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let line = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text));
    Ok(line.unwrap_or(text).to_owned())
}

fn rows(path: &Path) -> Result<Vec<Exemplar>> {
    let records = records::read(path, 0)?;
    let rows = records.iter().map(|record| {
        let text = |column| record.text(path, column, "exemplars.rows").map(str::to_owned);
        Ok(Exemplar { prompt: text("prompt")?, response: text("response")? })
    });
    rows.collect()
}
