//! The responses of one steer journal in the order of the prompts, for those who need all of them.
//! Changes nothing: a run may be writing the journal.

use std::collections::HashMap;
use std::path::Path;

use super::journals::once_each;
use crate::engine::SteerLine;
use crate::error::Result;
use crate::prompt::Prompt;

/// At most so many missing prompts are named.
const NAMED: usize = 5;

/// What a journal says to the prompts that are asked for.
pub struct Answered {
    /// In the order of the prompts.
    pub lines: Vec<SteerLine>,
    /// The prompts without a response.
    pub missing: Vec<String>,
}

impl Answered {
    /// Responses to other prompts are left out, and so is the half line of a run that was killed.
    ///
    /// # Errors
    /// Where the journal cannot be read, or answers a prompt twice.
    pub fn read(journal: &Path, prompts: &[Prompt]) -> Result<Self> {
        let lines = once_each::<SteerLine>(journal)?.into_iter();
        let mut found: HashMap<String, SteerLine> =
            lines.map(|(line, _)| (line.id.clone(), line)).collect();
        let (mut lines, mut missing) = (Vec::new(), Vec::new());
        for prompt in prompts {
            match found.remove(&prompt.id) {
                Some(line) => lines.push(line),
                None => missing.push(prompt.id.clone()),
            }
        }
        Ok(Self { lines, missing })
    }

    /// What is missing, in words; `None` where nothing is.
    pub fn lacking(&self) -> Option<String> {
        let asked = self.lines.len() + self.missing.len();
        let more = self.missing.len().saturating_sub(NAMED);
        let named: Vec<String> =
            self.missing.iter().take(NAMED).map(|id| format!("`{id}`")).collect();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (!self.missing.is_empty()).then(|| {
            format!(
                "{} of {asked} responses are there; missing: {}{more}",
                self.lines.len(),
                named.join(", ")
            )
        })
    }
}
