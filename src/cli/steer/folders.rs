//! Where the models of `w2s steer` lie, and what is wrong with them before any weights are read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::cli::settings::Words;
use crate::engine::{PromptReader, SteerSettings, check_prompts};
use crate::error::{Error, Result};
use crate::models::{notes, tokenizer_and_context};
use crate::prompt::Prompt;
use crate::recipe::{Proposal, Recipe};
use crate::text::{PromptTemplate, two_vocabularies_problems};

/// Where the models lie.
pub(super) struct Folders {
    /// `None` where others serve it.
    pub base: Option<PathBuf>,
    /// The tuned and the untuned model of each pair.
    pub pairs: Vec<(PathBuf, PathBuf)>,
    pub gold: Option<PathBuf>,
}

impl Folders {
    /// Says what is to be known of the models, once for each folder.
    pub fn tell_notes(&self) -> Result<()> {
        let mut told = BTreeSet::new();
        for folder in self.base.as_deref().into_iter().chain(self.guides()) {
            if told.insert(folder) {
                let (tokenizer, _) = tokenizer_and_context(folder)?;
                let notes = notes(folder, &tokenizer, Some(folder) == self.base.as_deref())?;
                notes.iter().for_each(|note| warn!("{}: {note}", folder.display()));
            }
        }
        Ok(())
    }

    pub fn guides(&self) -> impl Iterator<Item = &Path> {
        self.pairs.iter().flat_map(|(tuned, untuned)| [tuned.as_path(), untuned])
    }
}

/// How base and guides are prompted.
pub(super) struct Templates {
    pub base: PromptTemplate,
    pub guides: PromptTemplate,
}

/// Prompts that are too long, and a folder without a chat template, are told before any weights are
/// read.
pub(super) fn check_lengths(
    prompts: &[Prompt],
    (settings, proposal): (&SteerSettings, Proposal),
    folders: &Folders,
    templates: &Templates,
) -> Result<()> {
    let base = folders
        .base
        .iter()
        .map(|folder| PromptReader::open("the model".to_owned(), folder, templates.base.clone()));
    let mut readers = base.collect::<Result<Vec<_>>>()?;
    for folder in folders.guides() {
        let guide = PromptReader::open("the guide".to_owned(), folder, templates.guides.clone())?;
        readers.push(if proposal.tilt().is_some() { guide } else { guide.scoring(&readers) });
    }
    check_prompts(prompts, settings.max_new_tokens, &readers, None)
}

/// The rule of recipes on guides that propose, of the folders where the models lie.
pub(super) fn check_vocabularies(recipe: &Recipe, words: &Words, folders: &Folders) -> Result<()> {
    let mut recipe = recipe.clone();
    let guides = folders.pairs.iter().enumerate().flat_map(|(index, (tuned, untuned))| {
        [
            (format!("tuned-{index}"), tuned.as_path()),
            (format!("untuned-{index}"), untuned.as_path()),
        ]
    });
    let base = folders.base.iter().map(|folder| ("base".to_owned(), folder.as_path()));
    for (name, folder) in guides.chain(base) {
        if let (Some(model), Some(folder)) = (recipe.models.get_mut(&name), folder.to_str()) {
            model.id = Some(folder.to_owned());
        }
    }
    let problems: Vec<String> = two_vocabularies_problems(&recipe)
        .into_iter()
        .map(|problem| words.translated(problem))
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(Error::Recipe(problems)) }
}
