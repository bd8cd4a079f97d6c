//! A guide that others serve: the log-probabilities of given tokens, asked of a server that tells
//! them. What a pair makes of them is left to `served_pair.rs`, how requests fare to `http`.

mod row;
mod telling;
mod trial;

use std::cell::Cell;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

pub use self::row::Row;
use self::telling::{Telling, Told};
use crate::artifacts::interrupt;
use crate::error::{Error, Result};
use crate::http::{Call, Calls};
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
        let asked = Cell::default();
        Ok(Self { server, tokenizer, template, ends, context, telling, calls, asked })
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Sends requests for `rows`; their numbers.
    pub fn ask(&self, rows: &[Row]) -> Result<Range<u64>> {
        let first = self.asked.get();
        let calls = rows
            .iter()
            .map(|row| self.telling.call(&self.server, &self.tokenizer, row))
            .collect::<Result<Vec<Call>>>()?;
        for (number, call) in (first..).zip(calls) {
            self.calls.submit(number, call);
        }
        self.asked.set(first + rows.len() as u64);
        Ok(first..self.asked.get())
    }

    /// The log-probabilities of the tokens of `rows`, asked for as `numbers`, each from where they
    /// are asked for.
    ///
    /// # Errors
    /// Where one of them stays unanswered; the others are then not waited for.
    pub fn told(&self, rows: &[Row], numbers: Range<u64>) -> Result<Vec<Vec<f32>>> {
        let mut told: Vec<Option<Told>> = vec![None; rows.len()];
        let mut open = rows.len();
        while open > 0 {
            interrupt::check()?;
            for (number, end) in self.calls.collect(LOOK_EVERY) {
                match end {
                    Ok(answer) if numbers.contains(&number) => {
                        told[(number - numbers.start) as usize] = Some(answer.value);
                        open -= 1;
                    }
                    Ok(_) => {}
                    Err(failure) => {
                        numbers.clone().for_each(|number| self.calls.cancel(number));
                        return Err(failure.into());
                    }
                }
            }
        }
        let told = told.into_iter().flatten().zip(rows);
        told.map(|(told, row)| self.telling.of_row(&told, row, self.tokenizer.bos_id()))
            .map(|logps| logps.map_err(|problem| self.cannot(&problem)))
            .collect()
    }

    fn cannot(&self, problem: &str) -> Error {
        Error::failed(format!("{}: {problem}", self.server.service.name))
    }
}
