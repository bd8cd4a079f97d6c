//! Which prompts a stage has, and which models read them: asked before it begins whether they fit.

use std::path::PathBuf;

use super::context::Context;
use crate::engine::{PromptReader, WordBound, check_prompts, refuse_long};
use crate::error::{Error, Result};
use crate::prompt::Prompt;
use crate::text::{answered_before, said_twice};

/// What a stage asks of its models before it begins.
pub struct Asked {
    pub prompts: Vec<Prompt>,
    pub new_tokens: usize,
    pub models: Vec<Model>,
}

/// A model of a stage.
#[derive(PartialEq)]
pub struct Model {
    /// The recipe's model that it is or descends from.
    pub name: String,
    pub folder: PathBuf,
    /// Whether it makes responses or scores them.
    pub samples: bool,
}

impl Asked {
    /// The readers that can be asked: those whose folders are there.
    fn readers(&self, context: &Context) -> Result<Vec<PromptReader>> {
        let mut readers: Vec<PromptReader> = Vec::new();
        for (index, Model { name, folder, samples }) in self.models.iter().enumerate() {
            let is_there = ["config.json", "adapter_config.json"]
                .iter()
                .any(|file| folder.join(file).is_file());
            if !is_there || self.models[..index].contains(&self.models[index]) {
                continue;
            }
            let reader =
                PromptReader::open(format!("`{name}`"), folder, context.models.template(name)?)?;
            readers.push(if *samples { reader } else { reader.scoring(&readers) });
        }
        Ok(readers)
    }

    /// Refuses prompts that end in what a model's template adds.
    fn refuse_said_twice(&self, context: &Context) -> Result<()> {
        for Model { name, .. } in &self.models {
            let model = context.models.table(name)?;
            let prompts = self.prompts.iter().map(|prompt| &prompt.text);
            if let Some(problem) = said_twice(name, model, prompts) {
                return Err(Error::failed(problem));
            }
        }
        Ok(())
    }

    /// Refuses test prompts that a model's exemplars answer.
    pub fn refuse_answered(self, context: &Context) -> Result<Self> {
        let rule = &context.recipe().data()?.prompt;
        for Model { name, .. } in &self.models {
            let model = context.models.table(name)?;
            if let Some(problem) = answered_before(name, model, &self.prompts, rule) {
                return Err(Error::failed(problem));
            }
        }
        Ok(self)
    }

    /// Those of the prompts that fit all of the models which are there, and that no exemplars
    /// answer.
    pub fn fitting(self, context: &Context) -> Result<Vec<Prompt>> {
        let (readers, rule) = (self.readers(context)?, &context.recipe().data()?.prompt);
        let tables = self.models.iter().map(|Model { name, .. }| {
            context.models.table(name).map(|table| (name.as_str(), table))
        });
        let tables = tables.collect::<Result<Vec<_>>>()?;
        let mut fitting = Vec::new();
        for prompt in self.prompts {
            let asked = std::slice::from_ref(&prompt);
            let is_answered = tables
                .iter()
                .any(|(name, table)| answered_before(name, table, asked, rule).is_some());
            let mut fits = !is_answered;
            for reader in &readers {
                fits = fits && reader.fits(&prompt.text, self.new_tokens)?;
            }
            if fits {
                fitting.push(prompt);
            }
        }
        Ok(fitting)
    }

    /// Refuses prompts that do not fit those of the models that are there already.
    pub fn refuse(&self, context: &Context) -> Result<()> {
        self.refuse_said_twice(context)?;
        refuse_long(&self.prompts, self.new_tokens, &self.readers(context)?, bound(context)?)
    }

    /// [`check_prompts`] where the models are all there.
    pub fn check(&self, context: &Context) -> Result<()> {
        self.refuse_said_twice(context)?;
        check_prompts(&self.prompts, self.new_tokens, &self.readers(context)?, bound(context)?)
    }
}

/// How long prompts can be left out where they are whole; first words are few.
fn bound(context: &Context) -> Result<Option<WordBound>> {
    let data = context.recipe().data()?;
    let does = if data.prompt.leaves_out() { "leaves out" } else { "cuts" };
    let is_whole = data.columns.prompt.is_some();
    Ok(is_whole.then_some(WordBound { key: "data.prompt.max_words", does }))
}
