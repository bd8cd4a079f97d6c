//! Prompts as a server reads them: as token ids where both sides have them, as texts, or as turns.

use std::cell::RefCell;

use super::ask::Read;
use super::asking::Asking;
use super::dialect::Dialect;
use super::facts::Ids;
use super::joining::Said;
use super::server::Server;
use crate::error::{Error, Result};
use crate::prompt::{Message, PromptText};
use crate::text::Tokenizer;

/// A prompt that was opened.
#[derive(Default)]
pub struct Asked {
    text: String,
    turns: Vec<Message>,
    /// Its ids, once they are known.
    pub ids: RefCell<Option<Vec<i64>>>,
    /// Whether it is empty, so that responses begin the text.
    pub begins: bool,
}

impl Asked {
    /// `prompt` as it is sent to `server`.
    pub fn of(prompt: &PromptText, server: &Server, asking: &Asking) -> Result<Self> {
        let Asking { template, tokenizer, .. } = asking;
        if server.dialect == Dialect::Chat {
            return Ok(Self { turns: template.turns(prompt)?, ..Self::default() });
        }
        let reads_ids = server.facts.ids != Ids::No;
        let text = match tokenizer {
            Some(tokenizer) if reads_ids => template.render(tokenizer, prompt)?,
            Some(tokenizer) => without_bos(template.render(tokenizer, prompt)?, tokenizer)?,
            None => template.render_alone(prompt)?,
        };
        let ids = tokenizer.as_ref().filter(|_| reads_ids);
        let ids = ids.map(|tokenizer| template.encode(tokenizer, prompt)).transpose()?;
        let begins = text.is_empty();
        if begins && ids.is_none() {
            return Err(Error::failed(
                "an empty prompt gives a served model nothing to read\n\nhint: give a prompt, or \
                 the model's tokenizer (`api.tokenizer`, `--base-tokenizer`)",
            ));
        }
        Ok(Self { text, turns: Vec::new(), ids: RefCell::new(ids), begins })
    }

    /// The text that a response begins behind.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What the server reads to go on from `said`.
    pub fn read(&self, server: &Server, said: &Said) -> Read {
        if server.dialect == Dialect::Chat {
            return Read::Turns(self.turns.clone(), said.text.clone());
        }
        match (server.facts.ids, self.ids.borrow().as_ref()) {
            (Ids::Both | Ids::Mixed, Some(ids)) => Read::Ids([ids.as_slice(), &said.ids].concat()),
            (Ids::Mixed, None) if !said.ids.is_empty() => {
                Read::Mixed(self.text.clone(), said.ids.clone())
            }
            _ => Read::Text(format!("{}{}", self.text, said.text)),
        }
    }
}

/// A text for a server that puts BOS before it by itself, as the tokenizer does.
fn without_bos(text: String, tokenizer: &Tokenizer) -> Result<String> {
    let bos = tokenizer.bos_id().filter(|bos| text_begins(&text, tokenizer, *bos));
    let adds = |bos: &i64| tokenizer.added().map(|[before, _]| before.first() == Some(bos));
    match bos {
        Some(bos) if adds(&bos)? => {
            let token = tokenizer.token(bos).unwrap_or_default();
            Ok(text[token.len()..].to_owned())
        }
        _ => Ok(text),
    }
}

fn text_begins(text: &str, tokenizer: &Tokenizer, token: i64) -> bool {
    tokenizer.token(token).is_some_and(|token| !token.is_empty() && text.starts_with(&token))
}

/// Tokens of what is read, at most: a text has no more than bytes, and BOS.
pub fn prompt_tokens(read: &Read) -> u64 {
    let of_text = |text: &str| text.len() + 1;
    let tokens = match read {
        Read::Text(text) => of_text(text),
        Read::Ids(ids) => ids.len(),
        Read::Mixed(text, ids) => of_text(text) + ids.len(),
        Read::Turns(turns, said) => {
            let turns = turns.iter().map(|turn| of_text(&turn.content) + 8);
            turns.sum::<usize>() + of_text(said)
        }
    };
    tokens as u64
}
