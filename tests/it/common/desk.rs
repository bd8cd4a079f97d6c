//! A desk with prompts in a row, which keeps what comes of them.

use w2s::error::{Error, Result};
use w2s::prompt::Prompt;
use w2s::sampling::Stream;
use w2s::search::{Desk, Found, Query};

#[derive(Default)]
pub struct Queue {
    queries: Vec<Query>,
    taken: usize,
    /// What became of each prompt.
    pub answers: Vec<Option<Result<Found>>>,
    /// What was committed of each prompt's response, one after the other.
    pub committed: Vec<Vec<String>>,
    /// Rounds so far.
    pub pauses: usize,
    /// The round that is interrupted.
    pub interrupt_at: Option<usize>,
    /// (prompt, how often something of it was committed before it is cancelled).
    pub cancel: Option<(usize, usize)>,
}

impl Queue {
    pub fn new<'a>(prompts: impl IntoIterator<Item = (&'a str, Stream)>) -> Self {
        let queries = prompts.into_iter().enumerate();
        let queries: Vec<Query> = queries
            .map(|(i, (text, stream))| Query {
                prompt: Prompt::new(format!("prompt-{i}"), text),
                stream,
            })
            .collect();
        let (answers, committed) =
            (queries.iter().map(|_| None).collect(), vec![Vec::new(); queries.len()]);
        Self { queries, answers, committed, ..Self::default() }
    }

    /// All answers; each prompt must have one.
    pub fn found(self) -> Vec<Found> {
        self.answers
            .into_iter()
            .map(|answer| answer.expect("each prompt has an outcome").unwrap())
            .collect()
    }

    pub fn taken(&self) -> usize {
        self.taken
    }
}

impl Desk for Queue {
    fn next(&mut self, _in_flight: usize) -> Result<Option<Query>> {
        let query = self.queries.get(self.taken).cloned();
        self.taken += usize::from(query.is_some());
        Ok(query)
    }

    fn pause(&mut self) -> Result<()> {
        self.pauses += 1;
        if self.interrupt_at == Some(self.pauses) { Err(Error::Interrupted) } else { Ok(()) }
    }

    fn is_cancelled(&mut self, number: usize) -> bool {
        self.cancel.is_some_and(|(cancelled, after)| {
            cancelled == number && self.committed[number].len() >= after
        })
    }

    fn committed(&mut self, number: usize, text: &str) -> Result<()> {
        self.committed[number].push(text.to_owned());
        Ok(())
    }

    fn done(&mut self, number: usize, found: Found) -> Result<()> {
        assert!(self.answers[number].replace(Ok(found)).is_none(), "each is found once");
        Ok(())
    }

    fn lost(&mut self, number: usize, error: Error) -> Result<()> {
        assert!(self.answers[number].replace(Err(error)).is_none(), "each has one outcome");
        Ok(())
    }
}
