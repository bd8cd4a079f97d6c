//! Steers every base with every method and seed over the test prompts; each (base, method, seed) is a task with its own journal.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tracing::{info, warn};

use super::context::{Context, Task};
use super::prompt_room::{Asked, Model};
use super::steer_method::{LoadedGuide, Parts, SteerLine, SteerSettings, proposer, steer_prompts};
use super::{direct, dpo, gold, ppo};
use crate::artifacts::{Journal, Reach, interrupt, journal};
use crate::error::{Error, Result};
use crate::models::Lm;
use crate::monitor::Progress;
use crate::recipe::{ChunkLen, GuidePairSource, GuideSource, Method, MethodTable, Proposal, Steer};
use crate::score::Guide;
use crate::text::{Prompts, Split, Tokenizer};

/// One (base, method) of the recipe: a folder below `steer/`.
pub struct Cell {
    /// A model of the recipe; for the guides sampled alone, the model they descend from.
    pub base: String,
    pub method_name: String,
    pub method: Method,
    source: Source,
}

/// Which weights propose.
enum Source {
    Model(String),
    Guide(GuideSource),
    /// What `[direct]` made of this model.
    Direct(String),
    /// What `[ppo]` with this chunk length made of its policy, for each seed.
    Ppo(ChunkLen),
}

impl Cell {
    pub(super) fn task(&self, context: &Context, seed: u64) -> Result<Task> {
        let steer = settings(context)?;
        let traced = if steer.trace { steer.prompts } else { 0 };
        let reach = [("prompts", steer.prompts), ("traced", traced)].map(|(what, count)| (what.to_owned(), count));
        Ok(Task { reach: Reach::from(reach), ..Task::new(self.name(seed), fingerprint(context, self, seed)?) })
    }

    /// Of the task.
    fn name(&self, seed: u64) -> String {
        format!("steer/{}/{}/seed-{seed}", self.base, self.method_name)
    }

    pub fn journal(&self, seed: u64) -> String {
        journal_of(&self.name(seed))
    }

    fn folder(&self, context: &Context, seed: u64) -> Result<PathBuf> {
        match &self.source {
            Source::Model(name) => context.model_folder(name),
            Source::Guide(source) => context.guide_folder(source),
            Source::Direct(name) => Ok(context.path(&direct::tuning(context, name)?.dpo_task)),
            Source::Ppo(chunk_len) => Ok(context.path(&ppo::cell(context, *chunk_len, seed)?.task)),
        }
    }
}

/// Where a task keeps its lines, relative to the run directory.
pub(super) fn journal_of(task: &str) -> String {
    format!("{task}.jsonl")
}

/// Every cell of the recipe, in its order: bases by methods, then the guides alone, once.
pub fn cells(context: &Context) -> Result<Vec<Cell>> {
    let steer = settings(context)?;
    let mut cells = Vec::new();
    for base in &steer.bases {
        for table in &steer.method {
            for (name, method) in table.methods() {
                let source = match method.proposal {
                    Proposal::Tuned | Proposal::Untuned => continue,
                    Proposal::Direct => Source::Direct(base.clone()),
                    Proposal::Ppo { chunk_len } if is_policy(context, base) => Source::Ppo(chunk_len),
                    Proposal::Ppo { .. } => continue,
                    Proposal::Base | Proposal::Tilted { .. } => Source::Model(base.clone()),
                };
                cells.push(Cell { base: base.clone(), method_name: name, method, source });
            }
        }
    }
    for (name, method) in steer.method.iter().flat_map(MethodTable::methods) {
        let source = match method.proposal {
            Proposal::Tuned => context.plan.tuned(),
            Proposal::Untuned => context.plan.untuned(),
            _ => continue,
        };
        let source = source.ok_or_else(|| Error::recipe(format!("method `{name}` needs a guide pair")))?;
        let base = context.guide_model(&source)?.to_owned();
        cells.push(Cell { base, method_name: name, method, source: Source::Guide(source) });
    }
    Ok(cells)
}

/// Whether `[ppo]` trains this model.
fn is_policy(context: &Context, model: &str) -> bool {
    context.recipe().ppo.as_ref().is_some_and(|ppo| ppo.policy == model)
}

pub fn run(context: &Context) -> Result<()> {
    let mut models = Models::new(context);
    let mut told = false;
    for cell in cells(context)? {
        for &seed in &context.recipe().run.seeds {
            let file = cell.journal(seed);
            context.task(&cell.task(context, seed)?, &[&file], |_| {
                if !std::mem::replace(&mut told, true) {
                    tell_seen(context)?;
                }
                steer(context, &mut models, &cell, seed, &context.path(&file), test_prompts(context)?)
            })?;
        }
    }
    Ok(())
}

/// Over all cells and seeds.
pub fn tasks(context: &Context) -> Result<Vec<Task>> {
    let seeds = &context.recipe().run.seeds;
    let cells = cells(context)?;
    let tasks = cells.iter().flat_map(|cell| seeds.iter().map(move |&seed| (cell, seed)));
    tasks.map(|(cell, seed)| cell.task(context, seed)).collect()
}

fn settings(context: &Context) -> Result<&Steer> {
    context.recipe().steer.as_ref().ok_or_else(|| Error::recipe("the recipe has no `[steer]` table"))
}

fn fingerprint(context: &Context, cell: &Cell, seed: u64) -> Result<String> {
    let mut parents = vec![context.test_prompts_fingerprint()?];
    parents.push(match &cell.source {
        Source::Model(name) => context.model_fingerprint(name)?,
        Source::Guide(source) => context.guide_fingerprint(source)?,
        Source::Direct(name) => dpo::fingerprint(context, &direct::tuning(context, name)?)?,
        Source::Ppo(chunk_len) => ppo::cell(context, *chunk_len, seed)?.fingerprint(context)?,
    });
    let pairs = context.plan.guide_pairs();
    for GuidePairSource { tuned, untuned, .. } in &pairs {
        parents.extend([context.guide_fingerprint(tuned)?, context.guide_fingerprint(untuned)?]);
        parents.push(context.model_fingerprint(context.guide_model(tuned)?)?);
    }
    if context.recipe().gold.is_some() {
        parents.push(gold::fingerprint(context)?);
    }
    let search = (cell.method.settings(), cell.method_name.as_str());
    context.fingerprint("steer", (search, settings(context)?.outcome(&pairs), seed), &parents)
}

/// Models and tokenizers that are open; several cells share them.
pub(super) struct Models<'a> {
    context: &'a Context,
    open: HashMap<PathBuf, (Rc<Lm>, Rc<Tokenizer>)>,
}

impl<'a> Models<'a> {
    pub(super) fn new(context: &'a Context) -> Self {
        Self { context, open: HashMap::new() }
    }

    /// Lets go of all models but the cell's own and the guides, so that no more bases than one are held.
    pub(super) fn keep_for(&mut self, cell: &Cell, seed: u64) -> Result<()> {
        let mut kept = vec![cell.folder(self.context, seed)?];
        for GuidePairSource { tuned, untuned, .. } in self.context.plan.guide_pairs() {
            kept.extend([self.context.guide_folder(&tuned)?, self.context.guide_folder(&untuned)?]);
        }
        self.open.retain(|folder, _| kept.contains(folder));
        Ok(())
    }

    /// `name`: the recipe's model that the folder is or descends from.
    fn get(&mut self, folder: &Path, name: &str) -> Result<(Rc<Lm>, Rc<Tokenizer>)> {
        if !self.open.contains_key(folder) {
            self.open.insert(folder.to_owned(), self.context.open(folder, name)?);
        }
        let (lm, tokenizer) = &self.open[folder];
        Ok((lm.clone(), tokenizer.clone()))
    }

    fn guide(&mut self, base: &Tokenizer) -> Result<Option<LoadedGuide>> {
        let mut guides = Vec::new();
        for GuidePairSource { tuned, untuned, weight } in self.context.plan.guide_pairs() {
            let [tuned_name, untuned_name] = [self.context.guide_model(&tuned)?, self.context.guide_model(&untuned)?];
            let template = self.context.template(tuned_name)?;
            let tuned = self.get(&self.context.guide_folder(&tuned)?, tuned_name)?;
            let untuned = self.get(&self.context.guide_folder(&untuned)?, untuned_name)?;
            guides.push((weight, Rc::new(Guide::new(tuned, untuned, template)?)));
        }
        Ok(if guides.is_empty() { None } else { Some(LoadedGuide::for_base(guides, base)?) })
    }
}

/// Whether a line says all that is asked for: one that lacks its trace is answered again, and says the same.
pub(super) fn is_whole(line: &SteerLine, asks_for_trace: bool) -> bool {
    line.trace.is_some() || !asks_for_trace
}

/// Answers those of `prompts` that the journal does not hold yet; what it holds of others stays.
pub(super) fn steer(
    context: &Context,
    models: &mut Models,
    cell: &Cell,
    seed: u64,
    file: &Path,
    prompts: Vec<(String, String)>,
) -> Result<()> {
    let steer = settings(context)?;
    let settings = SteerSettings::of(steer);
    models.keep_for(cell, seed)?;
    let (lm, tokenizer) = models.get(&cell.folder(context, seed)?, &cell.base)?;
    let mut guide = models.guide(&tokenizer)?;
    let gold = match context.recipe().gold {
        Some(_) => Some(context.open_gold()?),
        None => None,
    };
    let mut policy = proposer(&cell.method, (lm, tokenizer, context.template(&cell.base)?), guide.as_ref(), &settings)?;
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
        Ok(Model { name: context.guide_model(source)?.to_owned(), folder: context.guide_folder(source)?, samples })
    };
    for cell in cells(context)? {
        // The seeds differ in weights.
        let folder = cell.folder(context, context.seed())?;
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
pub(super) fn test_prompts(context: &Context) -> Result<Vec<(String, String)>> {
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
pub(super) fn tell_seen(context: &Context) -> Result<()> {
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
