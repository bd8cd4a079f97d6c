//! What judges say of the responses that steering gave: a journal for each judge, base, method and
//! seed. Nothing is steered for it.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::applicable::not_applicable;
use super::cell_prompts::CellPrompts;
use super::cells::{Cell, Purpose};
use super::context::Context;
use super::journals::{JudgeLine, once_each};
use crate::artifacts::{Journal, interrupt, journal};
use crate::engine::SteerLine;
use crate::error::{Error, Result};
use crate::monitor::Progress;
use crate::prompt::Prompt;
use crate::recipe::GOLD;
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
    prompts: CellPrompts<'a>,
}

impl<'a> Judging<'a> {
    pub fn new(context: &'a Context) -> Self {
        Self { context, open: None, prompts: CellPrompts::new(context) }
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
        let mut prompts = self.prompts.of(cell)?;
        if cell.purpose != Purpose::Row {
            // Some may not have fitted.
            let answered = prompts.iter().filter(|prompt| responses.contains_key(&prompt.id));
            prompts = answered.cloned().collect::<Rc<[Prompt]>>();
        }
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

    /// Closes what is open, for who needs the memory.
    pub fn let_go(&mut self) {
        self.open = None;
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

/// What the gold says of a cell's answers to these prompts, by the prompts' ids.
pub fn gold_rewards(
    context: &Context,
    cell: &Cell,
    seed: u64,
    prompts: &[Prompt],
) -> Result<HashMap<String, f64>> {
    let asked: HashSet<&str> = prompts.iter().map(|prompt| prompt.id.as_str()).collect();
    let file = context.run.path(&format!("{}.jsonl", cell.judged_name(GOLD, seed)));
    let lines = journal::complete_lines::<JudgeLine>(&file)?.into_iter().map(|(line, _)| line);
    let lines = lines.filter(|line| asked.contains(line.id.as_str()));
    Ok(lines.map(|line| (line.id, line.reward)).collect())
}
