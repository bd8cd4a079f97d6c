//! A guide that others serve: the log-probabilities of given tokens, asked of a server that tells
//! them. What a pair makes of them is left to `served_pair.rs`, how requests fare to `http`.

mod kept;
mod row;
mod telling;
mod trial;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

pub use self::kept::Kept;
pub use self::row::Row;
use self::telling::{Telling, Told};
use crate::artifacts::interrupt;
use crate::error::{Error, Result};
use crate::http::{Answer, Call, Calls};
use crate::models::{end_token_ids, tokenizer_and_context};
use crate::policy::remote::Server;
use crate::text::{PromptTemplate, Tokenizer};

/// How soon a stop is seen.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// One half of a pair, behind HTTP.
pub struct ServedGuide {
    server: Server,
    pub tokenizer: Rc<Tokenizer>,
    /// How its prompts are made.
    pub template: PromptTemplate,
    /// Ids that end a response; the first is scored.
    pub ends: Vec<i64>,
    /// The most tokens of prompt and response together that it reads.
    pub context: usize,
    telling: Telling,
    calls: Calls<Told>,
    asked: Cell<u64>,
    kept: Option<RefCell<Kept>>,
}

impl ServedGuide {
    /// The model that `server` serves, whose tokenizer lies in `folder`. It is asked for a few
    /// log-probabilities, which must be those that it samples by.
    ///
    /// # Errors
    /// [`Error::Recipe`] where the server does not tell them, or how many tokens it reads is not
    /// known.
    pub fn open(server: Server, folder: &Path, template: PromptTemplate) -> Result<Self> {
        let tokenizer = Rc::new(Tokenizer::open(folder)?);
        // Its architecture may be none of ours.
        let own = tokenizer_and_context(folder).ok().map(|(_, context)| context);
        let context = [own, server.facts.context].into_iter().flatten().min().ok_or_else(|| {
            Error::recipe(format!(
                "`{}`: how many tokens the model reads is not known\n\nhint: its config.json \
                 beside the tokenizer says so",
                server.service.name
            ))
        })?;
        let of_tokenizer = || tokenizer.eos_id().into_iter().collect();
        let ends = end_token_ids(folder, &tokenizer).unwrap_or_else(|_| of_tokenizer());
        let telling = trial::find(&server, &tokenizer, &template)?;
        let calls = Calls::start(server.service.clone(), move |call: &Call, reply| {
            telling.read(call, &reply)
        });
        // Servers sample at least one token behind what they read.
        let context = context.saturating_sub(1);
        let (asked, kept) = (Cell::default(), None);
        Ok(Self { server, tokenizer, template, ends, context, telling, calls, asked, kept })
    }

    /// Answers are written down there, and those that it holds are not asked for again.
    pub fn keep_in(&mut self, kept: Kept) {
        self.calls.spent_before(kept.spent());
        self.kept = Some(RefCell::new(kept));
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Sends requests for those of `rows` that are not known; their numbers.
    pub fn ask(&self, rows: &[Row]) -> Result<Asked> {
        let mut asked = Asked { open: HashMap::new(), logps: Vec::with_capacity(rows.len()) };
        let mut calls = Vec::new();
        for (place, row) in rows.iter().enumerate() {
            let known = self
                .kept
                .as_ref()
                .and_then(|kept| kept.borrow().known(&self.key(row)).map(<[f32]>::to_vec));
            if known.is_none() {
                let number = self.asked.replace(self.asked.get() + 1);
                asked.open.insert(number, place);
                calls.push((number, self.telling.call(&self.server, &self.tokenizer, row)?));
            }
            asked.logps.push(known);
        }
        calls.into_iter().for_each(|(number, call)| self.calls.submit(number, call));
        Ok(asked)
    }

    /// The log-probabilities of the tokens of `rows`, each from where they are asked for.
    ///
    /// # Errors
    /// Where one of them stays unanswered; the others are then not waited for.
    pub fn told(&self, rows: &[Row], mut asked: Asked) -> Result<Vec<Vec<f32>>> {
        while !asked.open.is_empty() {
            interrupt::check()?;
            for (number, end) in self.calls.collect(LOOK_EVERY) {
                let Some(place) = asked.open.remove(&number) else { continue };
                let logps = end
                    .map_err(Error::from)
                    .and_then(|answer| self.answered(&rows[place], &answer));
                match logps {
                    Ok(logps) => asked.logps[place] = Some(logps),
                    Err(error) => {
                        asked.open.keys().for_each(|number| self.calls.cancel(*number));
                        return Err(error);
                    }
                }
            }
        }
        Ok(asked.logps.into_iter().flatten().collect())
    }

    fn answered(&self, row: &Row, answer: &Answer<Told>) -> Result<Vec<f32>> {
        let logps = self.telling.of_row(&answer.value, row, self.tokenizer.bos_id());
        let logps = logps
            .map_err(|problem| Error::failed(format!("{}: {problem}", self.server.service.name)))?;
        if let Some(kept) = &self.kept {
            kept.borrow_mut().keep(self.key(row), &logps, answer.used, answer.seconds)?;
        }
        Ok(logps)
    }

    fn key(&self, row: &Row) -> String {
        kept::key(self.server.model.as_deref().unwrap_or(&self.server.service.url), row)
    }
}

/// Rows that were asked for.
pub struct Asked {
    /// Places of those that are on their way, by the numbers of their requests.
    open: HashMap<u64, usize>,
    logps: Vec<Option<Vec<f32>>>,
}
