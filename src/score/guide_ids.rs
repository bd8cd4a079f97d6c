//! Prompts and responses as the guides' token ids: what they read of a response, and what does not
//! fit into their context. What the ids are worth is left to the scorers.

use std::rc::Rc;

use super::guide_pair::GuidePair;
use crate::error::{Error, Result};
use crate::prompt::PromptText;
use crate::search::Response;
use crate::text::{PromptTemplate, Tokenizer};

/// How a pair of guides reads texts.
pub struct GuideIds {
    pub tokenizer: Rc<Tokenizer>,
    pub template: PromptTemplate,
    /// The base's ids are the guides' ids.
    pub same_vocabulary: bool,
    /// Ids that end a response, at least one; the first is scored.
    pub ends: Vec<i64>,
    /// Positions that both guides have.
    pub context: usize,
}

/// What the guides read of a response.
pub struct Readable {
    pub ids: Vec<i64>,
    /// The guides' EOS is scored behind it.
    pub ends: bool,
    /// There is more that does not fit.
    pub is_cut: bool,
}

impl GuideIds {
    /// # Errors
    /// If the guides have no end-of-sequence token.
    pub fn of_pair(pair: &GuidePair, same_vocabulary: bool) -> Result<Self> {
        let ends = pair.tuned.model.info().eos_token_ids.clone();
        let (tokenizer, template) = (pair.tokenizer.clone(), pair.template.clone());
        Self { tokenizer, template, same_vocabulary, ends, context: pair.context() }.checked()
    }

    /// # Errors
    /// If there is no end-of-sequence token.
    pub fn checked(self) -> Result<Self> {
        if self.ends.is_empty() {
            return Err(Error::failed(
                "the guides have no end-of-sequence token\n\nhint: set `eos_token_id` in the \
                 guide's config.json",
            ));
        }
        Ok(self)
    }

    pub fn prompt(&self, prompt: &PromptText) -> Result<Vec<i64>> {
        self.template.encode(&self.tokenizer, prompt)
    }

    /// The ids of prompts, each of which must leave room for a token.
    pub fn prompts(&self, prompts: &[&PromptText]) -> Result<Vec<Vec<i64>>> {
        let ids = prompts.iter().map(|prompt| self.prompt(prompt)).collect::<Result<Vec<_>>>()?;
        let longest = ids.iter().map(Vec::len).max();
        match longest.filter(|longest| *longest > self.context) {
            None => Ok(ids),
            Some(longest) => Err(Error::failed(format!(
                "a prompt of {longest} tokens does not fit the guides' context of {}",
                self.context
            ))),
        }
    }

    /// Whether `prompt` is nothing to the guides, so that responses begin the text.
    pub fn is_empty(&self, prompt: &PromptText) -> Result<bool> {
        self.template.is_empty(&self.tokenizer, prompt)
    }

    /// The guide's ids of a response, without its EOS where it `ends`. After an empty prompt it
    /// `begins` the text.
    pub fn response(&self, response: &Response, begins: bool, ends: bool) -> Result<Vec<i64>> {
        if self.same_vocabulary {
            // The base may go on behind a token that ends what the guides read.
            let ending =
                response.ids.iter().rev().take_while(|id| ends && self.ends.contains(id)).count();
            return Ok(response.ids[..response.ids.len() - ending].to_vec());
        }
        // A chunk may end inside a multi-byte character; its bytes are scored with the chunk that
        // completes it.
        let text = match ends {
            true => self.tokenizer.split_end(&response.text, &self.ends).0,
            false => response.text.trim_end_matches('\u{FFFD}'),
        };
        self.tokenizer.encode_response(text, begins)
    }

    /// What the guides read of a response behind a prompt of `prompt_len` tokens; after an empty
    /// prompt it `begins` the text.
    pub fn readable(
        &self,
        prompt_len: usize,
        response: &Response,
        begins: bool,
        ends: bool,
    ) -> Result<Readable> {
        let mut ids = self.response(response, begins, ends)?;
        let room = self.context.saturating_sub(prompt_len);
        let is_cut = ids.len() + usize::from(ends) > room;
        ids.truncate(room);
        Ok(Readable { ids, ends: ends && !is_cut, is_cut })
    }
}
