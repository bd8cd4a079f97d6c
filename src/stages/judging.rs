//! What judges say of the responses that steering gave: a journal for each judge, base, method and
//! seed. Nothing is steered for it.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::applicable::not_applicable;
use super::cells::Cell;
use super::context::Context;
use super::journals::{JudgeLine, once_each};
use super::test_prompts::test_prompts;
use crate::artifacts::{Journal, interrupt, journal};
use crate::engine::SteerLine;
use crate::error::{Error, Result};
use crate::monitor::Progress;
use crate::prompt::Prompt;
use crate::score::{Judge, ToJudge};

/// Responses judged together, in the order of the prompts, so that rewards do not depend on where a
/// run stopped.
const GROUP: usize = 64;

/// The same of a judge whose rewards do not depend on what is judged together.
const LONG_GROUP: usize = 1024;

/// Texts of one forward pass, chosen by length among those of a group.
const TEXTS: usize = 16;

/// The judges at work: one is open at a time, for all that it has to say.
pub struct Judging<'a> {
    context: &'a Context,
    open: Option<(String, Judge)>,
    /// Those of all cells, once they were asked for.
    prompts: Option<Rc<[Prompt]>>,
}

impl<'a> Judging<'a> {
    pub fn new(context: &'a Context) -> Self {
        Self { context, open: None, prompts: None }
    }

    /// Judges the responses of one cell and seed; `name` is the task's.
    pub fn run(&mut self, judge: &str, cell: &Cell, seed: u64, name: &str) -> Result<()> {
        let file = self.context.run.path(&format!("{name}.jsonl"));
        if not_applicable(self.context, cell)?.is_some() {
            return journal::replace(&file, []);
        }
        let lines = once_each::<SteerLine>(&self.context.run.path(&cell.journal(seed)))?;
        let responses: HashMap<String, String> =
            lines.into_iter().map(|(line, _)| (line.id, line.response)).collect();
        let prompts: Rc<[Prompt]> = match &self.prompts {
            Some(prompts) => prompts.clone(),
            None => self.prompts.insert(test_prompts(self.context)?.into()).clone(),
        };
        let known = once_each::<JudgeLine>(&file)?;
        let known: HashSet<String> = known.into_iter().map(|(line, _)| line.id).collect();
        let (mut journal, _) = Journal::<JudgeLine>::open(file)?;
        let reward = self.judge(judge)?;
        let mut progress = Progress::start(
            &format!("{judge} judges {} {} seed {seed}", cell.base, cell.method_name),
            prompts.len() as u64,
            0,
        );
        let group = if reward.asks_each_alone() { LONG_GROUP } else { GROUP };
        for group in prompts.chunks(group) {
            interrupt::check()?;
            let is_new = |prompt: &&Prompt| !known.contains(&prompt.id);
            let is_asked = |prompt: &&Prompt| !reward.asks_each_alone() || is_new(prompt);
            if group.iter().any(|prompt| is_new(&prompt)) {
                let asked: Vec<&Prompt> = group.iter().filter(is_asked).collect();
                let unanswered = |id: &str| {
                    Error::failed(format!("{name}: there is no response to prompt `{id}`"))
                };
                let answers = asked.iter().map(|Prompt { id, text }| {
                    let response = responses.get(id).ok_or_else(|| unanswered(id))?;
                    Ok(ToJudge::new(id, text, response))
                });
                let mut judged = asked.iter();
                let mut note = |reward| match judged.next().filter(|prompt| is_new(prompt)) {
                    Some(Prompt { id, .. }) => {
                        journal.append(&JudgeLine { id: id.clone(), reward })
                    }
                    None => Ok(()),
                };
                let answers = answers.collect::<Result<Vec<_>>>()?;
                reward.each_reward(&answers, TEXTS, &mut note)?;
            }
            progress.advance(group.len() as u64);
        }
        progress.finish();
        Ok(())
    }

    /// The judge of this name, open.
    fn judge(&mut self, name: &str) -> Result<&Judge> {
        let open = match self.open.take().filter(|(open, _)| open == name) {
            Some(open) => open,
            // The one before has gone by now.
            None => (name.to_owned(), self.context.models.open_judge(name)?),
        };
        Ok(&self.open.insert(open).1)
    }
}
