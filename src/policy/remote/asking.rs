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
        Err(Error::recipe(format!(
            "`{name}`: the server at {} ({dialect}) cannot take {told}\n\nhint: give the model a \
             `sampling` of its own without it, or `api.unsupported = \"drop\"`, which the summary \
             tells",
            server.service.url
        )))
    }
}
