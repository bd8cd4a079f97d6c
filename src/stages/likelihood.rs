//! What models say of the responses that steering gave, read once more: the log-probability under
//! the base, and the exact KL divergence from it of methods that sample from a distribution of
//! their own. A journal for each such cell and seed; the mathematics is `score`'s.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::applicable::not_applicable;
use super::cells::{Cell, Source};
use super::context::Context;
use super::models::Opened;
use super::source_folder::source_folder;
use super::tasks::Task;
use super::test_prompts::test_prompts;
use crate::artifacts::{Journal, interrupt, journal};
use crate::engine::SteerLine;
use crate::error::{Error, Result};
use crate::monitor::Progress;
use crate::prompt::Prompt;
use crate::recipe::{GuidePairSource, GuideSource, SamplingTable};
use crate::sampling::Sampling;
use crate::score::{Answered, Likelihood, Reader};
use crate::search::{Finish, Response};

/// Responses read together, in the order of the prompts, so that what is said does not depend on
/// where a run stopped.
const GROUP: usize = 64;

/// One line of a likelihood journal: what is said of one response, in nats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LikelihoodLine {
    /// The prompt's.
    pub id: String,
    /// Those that were read, the EOS included.
    pub tokens: usize,
    /// Under the base, at temperature 1; of the tuned guide alone under the untuned one.
    pub base_logprob: f64,
    /// KL(π ‖ π_base) summed over the tokens, at the sampling temperature before any cut; absent
    /// where sampling was greedy.
    pub kl: Option<f64>,
}

/// The models at work; those of the next cell stay open where they are the same.
pub struct Likelihoods<'a> {
    context: &'a Context,
    open: HashMap<PathBuf, Opened>,
    /// Those of all cells, once they were asked for.
    prompts: Option<Rc<[Prompt]>>,
}

/// A model that reads.
struct Asked {
    folder: PathBuf,
    /// The recipe's model that it is or descends from.
    name: String,
    /// The one whose prompt it reads: both halves of a pair read the tuned one's.
    prompt_of: String,
    /// That of its logits in what was sampled from.
    weight: f64,
}

impl<'a> Likelihoods<'a> {
    pub fn new(context: &'a Context) -> Self {
        Self { context, open: HashMap::new(), prompts: None }
    }

    /// Reads the responses of one cell and seed; `name` is the task's.
    pub fn run(&mut self, cell: &Cell, seed: u64, name: &str) -> Result<()> {
        let file = self.context.run.path(&format!("{name}.jsonl"));
        if not_applicable(self.context, cell)?.is_some() {
            return journal::replace(&file, []);
        }
        let steered = self.context.run.path(&cell.journal(seed));
        let responses: HashMap<String, (Response, bool)> =
            journal::complete_lines::<SteerLine>(&steered)?
                .into_iter()
                .map(|(line, _)| {
                    let ends = line.finish == Finish::Eos;
                    let finish = Some(line.finish);
                    (line.id, (Response { text: line.response, ids: Vec::new(), finish }, ends))
                })
                .collect();
        let prompts: Rc<[Prompt]> = match &self.prompts {
            Some(prompts) => prompts.clone(),
            None => self.prompts.insert(test_prompts(self.context)?.into()).clone(),
        };
        let (mut journal, known) = Journal::<LikelihoodLine>::open(file)?;
        let known: HashSet<String> = known.into_iter().map(|line| line.id).collect();
        let is_new = |prompt: &Prompt| !known.contains(&prompt.id);
        let mut progress = Progress::start(
            &format!("likelihood of {} {} seed {seed}", cell.base, cell.method_name),
            prompts.len() as u64,
            0,
        );
        let mut readers = None;
        for group in prompts.chunks(GROUP) {
            interrupt::check()?;
            if group.iter().any(is_new) {
                let likelihood = match &readers {
                    Some(readers) => readers,
                    None => readers.insert(self.likelihood(cell, seed)?),
                };
                let unanswered = |id: &str| {
                    Error::failed(format!("{name}: there is no response to prompt `{id}`"))
                };
                let answers = group.iter().map(|Prompt { id, text }| {
                    let (response, ends) = responses.get(id).ok_or_else(|| unanswered(id))?;
                    Ok(Answered { prompt: text, response, ends: *ends })
                });
                let said = likelihood.of(&answers.collect::<Result<Vec<_>>>()?)?;
                let new = group.iter().zip(said).filter(|(prompt, _)| is_new(prompt));
                for (prompt, said) in new {
                    journal.append(&LikelihoodLine {
                        id: prompt.id.clone(),
                        tokens: said.tokens,
                        base_logprob: said.base_logprob,
                        kl: said.kl,
                    })?;
                }
            }
            progress.advance(group.len() as u64);
        }
        progress.finish();
        Ok(())
    }

    fn likelihood(&mut self, cell: &Cell, seed: u64) -> Result<Likelihood> {
        let [base, others @ ..] = &asked(self.context, cell, seed)?[..] else {
            return Err(Error::failed("no model reads"));
        };
        let is_asked = |folder: &PathBuf| {
            [base].into_iter().chain(others).any(|asked| asked.folder == *folder)
        };
        self.open.retain(|folder, _| is_asked(folder));
        let (_, tokenizer) = self.get(&base.folder, &base.name)?;
        let base = self.reader(base)?;
        let others = others.iter().map(|asked| self.reader(asked)).collect::<Result<Vec<_>>>()?;
        Likelihood::new(base, others, tokenizer, sampling(self.context, cell)?)
    }

    fn reader(&mut self, asked: &Asked) -> Result<Reader> {
        let (lm, _) = self.get(&asked.folder, &asked.name)?;
        let template = self.context.models.template(&asked.prompt_of)?;
        Ok(Reader { lm, template, weight: asked.weight })
    }

    fn get(&mut self, folder: &Path, name: &str) -> Result<Opened> {
        if !self.open.contains_key(folder) {
            self.open.insert(folder.to_owned(), self.context.models.open(folder, name)?);
        }
        let (lm, tokenizer) = &self.open[folder];
        Ok((lm.clone(), tokenizer.clone()))
    }
}

/// How the responses of the cell were sampled.
pub fn sampling(context: &Context, cell: &Cell) -> Result<Sampling> {
    let steer = context.recipe().steer.as_ref();
    let steer = steer.ok_or_else(|| Error::recipe("the recipe has no `[steer]` table"))?;
    let SamplingTable { temperature, top_k, top_p } =
        steer.answering(context.recipe(), &cell.base).sampling;
    Ok(Sampling::new(temperature, top_k, top_p))
}

/// The base of the divergence, and behind it what else was sampled from.
fn asked(context: &Context, cell: &Cell, seed: u64) -> Result<Vec<Asked>> {
    let models = &context.models;
    let guide = |pair: &GuidePairSource, source: &GuideSource, weight: f64| -> Result<Asked> {
        Ok(Asked {
            folder: models.guide_folder(source)?,
            name: models.of_guide(source)?.to_owned(),
            prompt_of: models.of_guide(&pair.tuned)?.to_owned(),
            weight,
        })
    };
    let of_base = |folder: PathBuf, weight: f64| Asked {
        folder,
        name: cell.base.clone(),
        prompt_of: cell.base.clone(),
        weight,
    };
    let sampled = source_folder(context, cell, seed)?;
    Ok(match &cell.source {
        Source::Model(_) => {
            let tilt = cell.method.proposal.tilt().unwrap_or(0.0);
            let mut all = vec![of_base(sampled, 1.0)];
            for pair in &cell.guides {
                all.push(guide(pair, &pair.tuned, tilt * pair.weight)?);
                all.push(guide(pair, &pair.untuned, -tilt * pair.weight)?);
            }
            all
        }
        Source::Guide(_) => {
            let pair = cell.guides.first();
            let pair = pair.ok_or_else(|| Error::failed("a guide without its pair"))?;
            vec![guide(pair, &pair.untuned, 0.0)?, guide(pair, &pair.tuned, 1.0)?]
        }
        Source::Direct(_) | Source::Ppo(_) => {
            vec![of_base(models.folder(&cell.base)?, 0.0), of_base(sampled, 1.0)]
        }
    })
}

/// What was said of the responses of one cell and seed, by the prompts' ids; nothing where the cell
/// has no such task.
pub fn said(context: &Context, cell: &Cell, seed: u64) -> Result<HashMap<String, LikelihoodLine>> {
    let task = Task::Likelihood { cell: cell.clone(), seed };
    let file = context.run.path(&format!("{}.jsonl", task.name()));
    let lines = journal::complete_lines::<LikelihoodLine>(&file)?;
    Ok(lines.into_iter().map(|(line, _)| (line.id.clone(), line)).collect())
}
