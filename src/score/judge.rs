//! A judge, wherever its rewards come from: a model that is opened here, a program of the user's or
//! a server. What each of them does is its own file's; which responses are judged, the stages'.

use std::path::Path;
use std::time::Duration;

use super::judge_model::JudgeModel;
use super::program::Program;
use super::server::Server;
use super::to_judge::ToJudge;
use crate::error::Result;
use crate::prompt::PromptText;
use crate::recipe::{self, JudgeSource, ProgramWords};

/// Who says what responses are worth.
pub enum Judge {
    Model(Box<JudgeModel>),
    Program(Program),
    Server(Server),
}

impl Judge {
    /// A judge that is not opened here; `None` where it is. A program is started in `folder` once
    /// it is asked, and a server is asked nothing yet.
    ///
    /// # Errors
    /// Where the environment does not hold a server's key.
    pub fn outside(judge: recipe::Judge, folder: &Path) -> Result<Option<Self>> {
        Ok(match judge.source {
            JudgeSource::Program(ProgramWords { words, seconds }) => {
                let silence = Duration::from_secs(seconds);
                Some(Self::Program(Program::new(judge.name, words, folder.to_owned(), silence)))
            }
            JudgeSource::Server(server) => {
                Some(Self::Server(Server::new(&judge.table(), server, judge.text)?))
            }
            JudgeSource::Made | JudgeSource::Model(_) => None,
        })
    }

    /// Whether what it says of a response depends on nothing else, so that those of a group that
    /// were judged before need not be asked about again. A model's numbers depend, in their last
    /// bits, on the texts of one pass.
    pub fn asks_each_alone(&self) -> bool {
        !matches!(self, Self::Model(_))
    }

    /// One reward for each response, in order; a model by one pass over all of them.
    ///
    /// # Errors
    /// Where a reward is missing or no finite number, with the text or id that it is about.
    pub fn rewards(&self, all: &[ToJudge]) -> Result<Vec<f64>> {
        match self {
            Self::Model(model) => model.rewards(&texts(all)),
            _ => self.rewards_by_length(all, all.len()),
        }
    }

    /// The same of the responses to several prompts; a model by one pass for each prompt.
    ///
    /// # Errors
    /// As [`Self::rewards`].
    pub fn rewards_by_prompt(&self, prompts: Vec<Vec<ToJudge>>) -> Result<Vec<Vec<f64>>> {
        if let Self::Model(_) = self {
            return prompts.iter().map(|responses| self.rewards(responses)).collect();
        }
        let counts: Vec<usize> = prompts.iter().map(Vec::len).collect();
        let mut rewards = self.rewards(&prompts.into_iter().flatten().collect::<Vec<_>>())?;
        Ok(counts.into_iter().map(|count| rewards.drain(..count).collect()).collect())
    }

    /// The same of any number of responses: of a model, `batch` of like length in one pass, so that
    /// little of it is padding.
    ///
    /// # Errors
    /// As [`Self::rewards`].
    pub fn rewards_by_length(&self, all: &[ToJudge], batch: usize) -> Result<Vec<f64>> {
        let mut rewards = Vec::with_capacity(all.len());
        self.each_reward(all, batch, &mut |reward| {
            rewards.push(reward);
            Ok(())
        })?;
        Ok(rewards)
    }

    /// [`Self::rewards_by_length`], each told in order, once it and those before it are known.
    ///
    /// # Errors
    /// As [`Self::rewards`], and what `tell` fails of.
    pub fn each_reward(
        &self,
        all: &[ToJudge],
        batch: usize,
        tell: &mut dyn FnMut(f64) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Model(model) => {
                model.rewards_by_length(&texts(all), batch)?.into_iter().try_for_each(tell)
            }
            Self::Program(program) => program.each_reward(all, tell),
            Self::Server(server) => server.each_reward(all, tell),
        }
    }
}

/// What a model reads.
fn texts<'a>(all: &[ToJudge<'a>]) -> Vec<(&'a PromptText, &'a str)> {
    all.iter().map(|one| (one.prompt, one.response)).collect()
}
