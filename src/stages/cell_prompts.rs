//! The prompts of each cell: all test prompts of the rows, and for what is measured beside them
//! those of validation. Which test prompts there are is told by `test_prompts.rs`.

use std::cell::OnceCell;
use std::rc::Rc;

use super::cells::{Cell, Purpose};
use super::context::Context;
use super::prompt_room::{Asked, Model};
use super::source_folder::source_folder;
use super::test_prompts::test_prompts;
use crate::error::{Error, Result};
use crate::prompt::Prompt;
use crate::text::Split;

/// The prompts of both splits, found when they are asked for.
pub struct CellPrompts<'a> {
    context: &'a Context,
    test: OnceCell<Rc<[Prompt]>>,
    validation: OnceCell<Rc<[Prompt]>>,
}

impl<'a> CellPrompts<'a> {
    pub fn new(context: &'a Context) -> Self {
        Self { context, test: OnceCell::new(), validation: OnceCell::new() }
    }

    /// Those that a cell may be asked.
    pub fn of(&self, cell: &Cell) -> Result<Rc<[Prompt]>> {
        match cell.purpose {
            Purpose::Row => self.test(),
            Purpose::Choice | Purpose::Gap(Split::Validation) => self.validation(),
            Purpose::Gap(_) => {
                let (all, count) = (self.test()?, cell.prompts(self.context.recipe()));
                Ok(all.iter().take(count).cloned().collect())
            }
        }
    }

    /// Those that it is asked: prompts of rows have been found to fit before, of the others those
    /// are left out that do not.
    pub fn asked(&self, cell: &Cell) -> Result<Vec<Prompt>> {
        let (context, prompts) = (self.context, self.of(cell)?.to_vec());
        if cell.purpose == Purpose::Row {
            return Ok(prompts);
        }
        let steer = context.recipe().steer.as_ref();
        let steer = steer.ok_or_else(|| Error::recipe("the recipe has no `[steer]` table"))?;
        let new_tokens = steer.answering(context.recipe(), &cell.base).max_new_tokens;
        let sampled = |name: &str, folder| Model { name: name.to_owned(), folder, samples: true };
        let folder = source_folder(context, cell, context.seed())?;
        let mut models = vec![sampled(&cell.base, folder)];
        for guide in cell.guides.iter().flat_map(|pair| [&pair.tuned, &pair.untuned]) {
            let name = context.models.of_guide(guide)?;
            models.push(sampled(name, context.models.guide_folder(guide)?));
        }
        Asked { prompts, new_tokens, models }.fitting(context)
    }

    fn test(&self) -> Result<Rc<[Prompt]>> {
        found(&self.test, || test_prompts(self.context))
    }

    fn validation(&self) -> Result<Rc<[Prompt]>> {
        let count = self.context.recipe().measuring_prompts();
        let prompts = || Ok(self.context.prompts(Split::Validation, count)?.prompts);
        found(&self.validation, prompts)
    }
}

/// What is known, or else found now.
fn found(
    known: &OnceCell<Rc<[Prompt]>>,
    find: impl FnOnce() -> Result<Vec<Prompt>>,
) -> Result<Rc<[Prompt]>> {
    if let Some(known) = known.get() {
        return Ok(known.clone());
    }
    let found = find()?.into();
    Ok(known.get_or_init(|| found).clone())
}
