//! Answers on stdout in the order of the prompts, as they are found, with what the judge says of
//! them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::artifacts::interrupt;
use crate::cli::{print, to_json};
use crate::engine::{Desk, SteerLine};
use crate::error::{Error, Result};
use crate::prompt::Prompt;
use crate::score::{Judge, ToJudge};

/// An answer, and what the judge says of it.
#[derive(Serialize)]
struct RewardedLine {
    #[serde(flatten)]
    line: SteerLine,
    #[serde(skip_serializing_if = "Option::is_none")]
    gold_reward: Option<f64>,
}

/// Prompts whose answers come as they are found and are printed in the order of the prompts.
pub(super) struct Printed {
    due: std::vec::IntoIter<Prompt>,
    gold: Option<Judge>,
    json: bool,
    /// Outcomes by the prompts' numbers, those without an answer too.
    waiting: BTreeMap<usize, Option<RewardedLine>>,
    next: usize,
    /// Those without an answer, and why.
    pub lost: Vec<String>,
}

impl Printed {
    pub fn new(prompts: Vec<Prompt>, gold: Option<Judge>, json: bool) -> Self {
        Self {
            due: prompts.into_iter(),
            gold,
            json,
            waiting: BTreeMap::new(),
            next: 0,
            lost: Vec::new(),
        }
    }

    fn print(&mut self, number: usize, outcome: Option<RewardedLine>) -> Result<()> {
        self.waiting.insert(number, outcome);
        while let Some(outcome) = self.waiting.remove(&self.next) {
            if let Some(rewarded) = outcome {
                let line = &rewarded.line;
                print(&if self.json {
                    to_json(&rewarded)?
                } else {
                    format!("{}{}", line.prompt, line.response)
                })?;
            }
            self.next += 1;
        }
        Ok(())
    }
}

impl Desk for Printed {
    fn next(&mut self, _in_flight: usize) -> Result<Option<Prompt>> {
        Ok(self.due.next())
    }

    fn pause(&mut self) -> Result<()> {
        interrupt::check().map_err(|_| Error::failed("interrupted"))
    }

    fn done(&mut self, number: usize, line: SteerLine) -> Result<()> {
        let gold_reward = match &self.gold {
            Some(gold) => {
                let asked = ToJudge::new(&line.id, &line.prompt, &line.response);
                gold.rewards(&[asked])?.first().copied()
            }
            None => None,
        };
        self.print(number, Some(RewardedLine { line, gold_reward }))
    }

    fn lost(&mut self, number: usize, prompt: Prompt, error: Error) -> Result<()> {
        self.lost.push(format!("prompt `{}` has no answer: {error}", prompt.id));
        self.print(number, None)
    }
}
