//! A desk of an engine with prompts in a row, which keeps the lines that answer them.

use w2s::engine::{Desk, SteerLine};
use w2s::error::{Error, Result};
use w2s::prompt::Prompt;

#[derive(Default)]
pub struct Lines {
    prompts: Vec<Prompt>,
    taken: usize,
    /// What became of each prompt.
    pub outcomes: Vec<Option<Result<SteerLine>>>,
    /// What was committed of each prompt's response, one after the other.
    pub committed: Vec<Vec<String>>,
    /// A prompt that is cancelled once something of it was committed.
    pub cancel: Option<usize>,
}

impl Lines {
    pub fn new(prompts: Vec<Prompt>) -> Self {
        let (outcomes, committed) =
            (prompts.iter().map(|_| None).collect(), vec![Vec::new(); prompts.len()]);
        Self { prompts, outcomes, committed, ..Self::default() }
    }

    /// All lines; each prompt must have one.
    pub fn answered(self) -> Vec<SteerLine> {
        self.outcomes
            .into_iter()
            .map(|outcome| outcome.expect("each prompt has an outcome").unwrap())
            .collect()
    }
}

impl Desk for Lines {
    fn next(&mut self, _in_flight: usize) -> Result<Option<Prompt>> {
        let prompt = self.prompts.get(self.taken).cloned();
        self.taken += usize::from(prompt.is_some());
        Ok(prompt)
    }

    fn is_cancelled(&mut self, number: usize) -> bool {
        self.cancel == Some(number) && !self.committed[number].is_empty()
    }

    fn committed(&mut self, number: usize, text: &str) -> Result<()> {
        self.committed[number].push(text.to_owned());
        Ok(())
    }

    fn done(&mut self, number: usize, line: SteerLine) -> Result<()> {
        assert_eq!(line.id, self.prompts[number].id);
        assert!(self.outcomes[number].replace(Ok(line)).is_none(), "each is answered once");
        Ok(())
    }

    fn lost(&mut self, number: usize, prompt: Prompt, error: Error) -> Result<()> {
        assert_eq!(prompt, self.prompts[number]);
        assert!(self.outcomes[number].replace(Err(error)).is_none(), "each has one outcome");
        Ok(())
    }
}
