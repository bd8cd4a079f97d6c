//! How a served model is asked, and what of it a server cannot take.

use std::rc::Rc;

use super::facts::Ids;
use super::server::Server;
use crate::error::{Error, Result};
use crate::recipe::Unsupported;
use crate::sampling::Sampling;
use crate::text::{PromptTemplate, Tokenizer};

/// How a served model is asked.
pub struct Asking {
    pub template: PromptTemplate,
    /// The model's own, where it is here.
    pub tokenizer: Option<Rc<Tokenizer>>,
    pub sampling: Sampling,
    pub stop: Vec<String>,
    pub max_new_tokens: usize,
    /// What becomes of settings that the server cannot take.
    pub unsupported: Unsupported,
}

impl Asking {
    /// What a server must be able to do, whatever its sampling.
    ///
    /// # Errors
    /// [`Error::Recipe`] where its tokenizer is another one, or responses do not fit what it reads.
    pub fn check(&self, server: &Server) -> Result<()> {
        if let Some(tokenizer) = self.tokenizer.as_ref().filter(|_| server.facts.ids != Ids::No) {
            server.check_tokenizer(tokenizer)?;
        }
        match server.facts.context.filter(|context| self.max_new_tokens >= *context) {
            None => Ok(()),
            Some(context) => Err(Error::recipe(format!(
                "`{}`: responses of up to {} tokens do not fit the {context} tokens that the \
                 server reads, prompt and response together\n\nhint: lower `max_new_tokens`, \
                 or give the server a longer context",
                server.service.name, self.max_new_tokens
            ))),
        }
    }

    /// What the server cannot take, as a recipe says it, where that may be left out.
    ///
    /// # Errors
    /// [`Error::Recipe`] where it may not.
    pub fn dropped(&self, server: &Server) -> Result<Vec<String>> {
        let mut all = server.facts.unsupported(&self.sampling);
        let by_ids = self.tokenizer.is_some() && server.facts.ids != Ids::No;
        match self.template.bos() {
            Some(false) if server.facts.takes_special => {}
            Some(bos) if !by_ids => all.push(format!("bos = {bos}")),
            _ => {}
        }
        if all.is_empty() || self.unsupported == Unsupported::Drop {
            return Ok(all);
        }
        let (name, dialect, told) = (&server.service.name, server.dialect.name(), all.join(", "));
        let by_itself = match told.contains("bos = ") {
            true => "give the model's tokenizer, as `api.tokenizer` or `--base-tokenizer`",
            false => "give the model a `sampling` of its own without it",
        };
        Err(Error::recipe(format!(
            "`{name}`: the server at {} ({dialect}) cannot take {told}\n\nhint: {by_itself}, or \
             sample without it (`api.unsupported = \"drop\"`, `--drop-unsupported`), which the \
             summary tells",
            server.service.url
        )))
    }
}
