//! Steers every base with every method and seed over the test prompts; each (base, method, seed) is a task with its own journal.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tracing::{info, warn};

use super::cells::{Cell, Source, cells};
use super::context::Context;
use super::prompt_room::{Asked, Model};
use super::steer_method::{LoadedGuide, Parts, SteerLine, SteerSettings, proposer, steer_prompts};
use super::tasks::{Pupil, Task};
use crate::artifacts::{Journal, interrupt, journal};
use crate::error::{Error, Result};
use crate::models::Lm;
use crate::monitor::Progress;
use crate::recipe::{GuidePairSource, GuideSource, Steer};
use crate::score::Guide;
use crate::text::{Prompts, Split, Tokenizer};

fn settings(context: &Context) -> Result<&Steer> {
    context.recipe().steer.as_ref().ok_or_else(|| Error::recipe("the recipe has no `[steer]` table"))
}

/// The stage at work: models and tokenizers that are open, which several cells share.
pub struct Steering<'a> {
    context: &'a Context,
    open: HashMap<PathBuf, (Rc<Lm>, Rc<Tokenizer>)>,
    has_told: bool,
}

impl<'a> Steering<'a> {
    pub fn new(context: &'a Context) -> Self {
        Self { context, open: HashMap::new(), has_told: false }
    }

    /// Answers all test prompts.
    pub fn run(&mut self, cell: &Cell, seed: u64) -> Result<()> {
        if !std::mem::replace(&mut self.has_told, true) {
            tell_seen(self.context)?;
        }
        let file = self.context.run.path(&cell.journal(seed));
        answer(self.context, self, cell, seed, &file, test_prompts(self.context)?)
    }

    /// Lets go of all models but the cell's own and the guides, so that no more bases than one are held.
    fn keep_for(&mut self, cell: &Cell, seed: u64) -> Result<()> {
        let mut kept = vec![folder(self.context, cell, seed)?];
        for GuidePairSource { tuned, untuned, .. } in self.context.plan.guide_pairs() {
            kept.extend([self.context.models.guide_folder(&tuned)?, self.context.models.guide_folder(&untuned)?]);
        }
        self.open.retain(|folder, _| kept.contains(folder));
        Ok(())
    }

    /// `name`: the recipe's model that the folder is or descends from.
    fn get(&mut self, folder: &Path, name: &str) -> Result<(Rc<Lm>, Rc<Tokenizer>)> {
        if !self.open.contains_key(folder) {
            self.open.insert(folder.to_owned(), self.context.models.open(folder, name)?);
        }
        let (lm, tokenizer) = &self.open[folder];
        Ok((lm.clone(), tokenizer.clone()))
    }

    fn guide(&mut self, base: &Tokenizer) -> Result<Option<LoadedGuide>> {
        let mut guides = Vec::new();
        for GuidePairSource { tuned, untuned, weight } in self.context.plan.guide_pairs() {
            let [tuned_name, untuned_name] = [self.context.models.of_guide(&tuned)?, self.context.models.of_guide(&untuned)?];
            let template = self.context.models.template(tuned_name)?;
            let tuned = self.get(&self.context.models.guide_folder(&tuned)?, tuned_name)?;
            let untuned = self.get(&self.context.models.guide_folder(&untuned)?, untuned_name)?;
            guides.push((weight, Rc::new(Guide::new(tuned, untuned, template)?)));
        }
        Ok(if guides.is_empty() { None } else { Some(LoadedGuide::for_base(guides, base)?) })
    }
}

/// Whether a line says all that is asked for: one that lacks its trace is answered again, and says the same.
pub fn is_whole(line: &SteerLine, asks_for_trace: bool) -> bool {
    line.trace.is_some() || !asks_for_trace
}

/// Where the weights lie that propose.
fn folder(context: &Context, cell: &Cell, seed: u64) -> Result<PathBuf> {
    let result = |task: Task| context.run.path(&task.name(&context.plan));
    match &cell.source {
        Source::Model(name) => context.models.folder(name),
        Source::Guide(source) => context.models.guide_folder(source),
        Source::Direct(name) => Ok(result(Task::Dpo(Pupil::Direct(name.clone())))),
        Source::Ppo(chunk_len) => Ok(result(Task::Ppo { chunk_len: *chunk_len, seed })),
    }
}

/// Answers those of `prompts` that the journal does not hold yet; what it holds of others stays.
pub fn answer(context: &Context, models: &mut Steering, cell: &Cell, seed: u64, file: &Path, prompts: Vec<(String, String)>) -> Result<()> {
    let steer = settings(context)?;
    let settings = SteerSettings::of(steer);
    models.keep_for(cell, seed)?;
    let (lm, tokenizer) = models.get(&folder(context, cell, seed)?, &cell.base)?;
    let mut guide = models.guide(&tokenizer)?;
    let gold = match context.recipe().gold {
        Some(_) => Some(context.models.open_gold()?),
        None => None,
    };
    let mut policy = proposer(&cell.method, (lm, tokenizer, context.models.template(&cell.base)?), guide.as_ref(), &settings)?;
    let asked: HashSet<&str> = prompts.iter().map(|(id, _)| id.as_str()).collect();
    let stays = |line: &SteerLine| is_whole(line, settings.trace) || !asked.contains(line.id.as_str());
    let (whole, lacking): (Vec<_>, Vec<_>) = journal::complete_lines::<SteerLine>(file)?.into_iter().partition(|(line, _)| stays(line));
    if !lacking.is_empty() {
        journal::replace(file, whole.iter().map(|(_, bytes)| bytes))?;
    }
    let (mut journal, done) = Journal::<SteerLine>::open(file)?;
    let done: HashSet<String> = done.into_iter().map(|line| line.id).collect();
    let what = format!("{} {} seed {seed}", cell.base, cell.method_name);
    let count = prompts.len();
    let due: Vec<(String, String)> = prompts.into_iter().filter(|(id, _)| !done.contains(id)).collect();
    let mut progress = Progress::start(&what, count as u64, (count - due.len()) as u64);
    let parts = Parts { policy: &mut policy, guide: guide.as_mut(), gold: gold.as_ref() };
    steer_prompts(&cell.method, &settings, parts, seed, &due, &mut interrupt::check, &mut |_, line| {
        journal.append(&line)?;
        progress.advance(1);
        Ok(())
    })?;
    progress.finish();
    Ok(())
}

/// The prompts of the stage, and what reads them.
pub fn asked(context: &Context) -> Result<Asked> {
    let mut models = Vec::new();
    let pairs = context.plan.guide_pairs();
    let guide = |source: &GuideSource, samples| -> Result<Model> {
        Ok(Model { name: context.models.of_guide(source)?.to_owned(), folder: context.models.guide_folder(source)?, samples })
    };
    for cell in cells(&context.plan)? {
        // The seeds differ in weights.
        let folder = folder(context, &cell, context.seed())?;
        models.push(Model { name: cell.base.clone(), folder, samples: true });
        let is_mixed = cell.method.proposal.tilt().is_some();
        for source in pairs.iter().flat_map(|pair| [&pair.tuned, &pair.untuned]).filter(|_| is_mixed) {
            models.push(guide(source, true)?);
        }
    }
    for source in pairs.iter().flat_map(|pair| [&pair.tuned, &pair.untuned]) {
        models.push(guide(source, false)?);
    }
    Ok(Asked { prompts: test_prompts(context)?, new_tokens: settings(context)?.max_new_tokens, models })
}

/// (id, prompt) of as many test texts as are steered over: the first that are long enough for one. Prompts that training or validation texts
/// make too come last, and only where the others are too few.
pub fn test_prompts(context: &Context) -> Result<Vec<(String, String)>> {
    let count = settings(context)?.prompts;
    let rule = &context.recipe().data.prompt;
    let Prompts { mut prompts, seen } = context.prompts(Split::Test, count)?;
    prompts.extend(seen.into_iter().take(count - prompts.len()));
    if prompts.len() < count {
        return Err(Error::failed(format!(
            "only {} test texts have the {} words of a prompt; `steer.prompts` asks for {count}\n\nhint: lower it, or raise `data.test`",
            prompts.len(),
            rule.min_words
        )));
    }
    Ok(prompts)
}

/// Says how many prompts were not new to what was trained.
pub fn tell_seen(context: &Context) -> Result<()> {
    let count = settings(context)?.prompts;
    let Prompts { prompts, seen } = context.prompts(Split::Test, count)?;
    match (count - prompts.len(), seen.len()) {
        (0, 0) => {}
        (0, seen) => info!("steer: {seen} test texts are passed over, for training or validation texts make the same prompts"),
        (taken, _) => warn!(
            "steer: {taken} of {count} prompts are those of training or validation texts too; other `data.prompt.min_words` or more test \
             texts make new ones"
        ),
    }
    Ok(())
}
