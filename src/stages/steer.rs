//! Steers every base with every method and seed over the test prompts; each (base, method, seed) is
//! a task with its own journal. The search is the engine's; judges are asked later, by
//! `judging.rs`.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::applicable::not_applicable;
use super::cells::{Cell, Source, cells};
use super::context::Context;
use super::journals::once_each;
use super::models::Opened;
use super::prompt_room::{Asked, Model};
use super::served::Servers;
use super::tasks::Task;
use super::test_prompts::{tell_passed_over, test_prompts};
use super::tuning_plan::Pupil;
use crate::artifacts::{Journal, Shard, interrupt, journal};
use crate::engine::{Base, Desk, Engine, SteerLine, SteerSettings};
use crate::error::{Error, Result};
use crate::monitor::Progress;
use crate::policy::LocalPolicy;
use crate::prompt::Prompt;
use crate::recipe::{GuidePairSource, GuideSource, Steer};
use crate::score::{Guide, Half, ServedPair};

/// How often a progress line says anew what is under way.
const METER_EVERY: Duration = Duration::from_millis(500);

fn table(context: &Context) -> Result<&Steer> {
    context
        .recipe()
        .steer
        .as_ref()
        .ok_or_else(|| Error::recipe("the recipe has no `[steer]` table"))
}

/// The stage at work: models and tokenizers that are open, which several cells share.
pub struct Steering<'a> {
    context: &'a Context,
    open: HashMap<PathBuf, Opened>,
    servers: Servers,
    shard: Option<Shard>,
    has_told: bool,
}

impl<'a> Steering<'a> {
    /// `shard` is the share of the prompts that is answered, if not all are.
    pub fn new(context: &'a Context, shard: Option<Shard>) -> Self {
        let servers = Servers::default();
        Self { context, open: HashMap::new(), servers, shard, has_told: false }
    }

    /// Answers all test prompts.
    pub fn run(&mut self, cell: &Cell, seed: u64) -> Result<()> {
        if !std::mem::replace(&mut self.has_told, true) {
            tell_passed_over(self.context)?;
        }
        let file = self.context.run.path(&cell.journal(seed));
        if let Some(why) = not_applicable(self.context, cell)? {
            return without_answers(&cell.name(seed), &file, &why);
        }
        answer(self, cell, seed, &file, test_prompts(self.context)?)
    }

    /// Lets go of all models but the cell's own and the guides, so that no more bases than one are
    /// held.
    fn keep_for(&mut self, cell: &Cell, seed: u64) -> Result<()> {
        let mut kept = vec![folder(self.context, cell, seed)?];
        for GuidePairSource { tuned, untuned, .. } in &cell.guides {
            kept.extend([
                self.context.models.guide_folder(tuned)?,
                self.context.models.guide_folder(untuned)?,
            ]);
        }
        self.open.retain(|folder, _| kept.contains(folder));
        Ok(())
    }

    /// `name`: the recipe's model that the folder is or descends from.
    fn get(&mut self, folder: &Path, name: &str) -> Result<Opened> {
        if !self.open.contains_key(folder) {
            self.open.insert(folder.to_owned(), self.context.models.open(folder, name)?);
        }
        let (lm, tokenizer) = &self.open[folder];
        Ok((lm.clone(), tokenizer.clone()))
    }

    /// The cell's base and its guides, joined.
    fn engine(&mut self, cell: &Cell, seed: u64) -> Result<Engine> {
        let context = self.context;
        let steer = table(context)?;
        let answering = steer.answering(context.recipe(), &cell.base);
        let settings = SteerSettings::of(steer, answering);
        self.keep_for(cell, seed)?;
        let base = self.base(cell, seed, &settings)?;
        let mut pairs = Vec::new();
        for pair in &cell.guides {
            pairs.push((pair.weight, self.guide(pair)?));
        }
        Engine::join(cell.method.clone(), settings, base, pairs)
    }

    /// A pair, wherever its halves are.
    fn guide(&mut self, pair: &GuidePairSource) -> Result<Guide> {
        let context = self.context;
        let sources = [&pair.tuned, &pair.untuned];
        let [tuned, untuned] =
            sources.map(|source| self.servers.guide(context, source, self.shard));
        let (tuned, untuned) = (tuned?, untuned?);
        if tuned.is_none() && untuned.is_none() {
            let pair = context.models.guide(pair, &mut |folder, name| self.get(folder, name))?;
            return Ok(Guide::Here(pair));
        }
        let mut half = |served: Option<Half>, source| -> Result<Half> {
            let Some(half) = served else {
                let name = context.models.of_guide(source)?;
                let (lm, tokenizer) = self.get(&context.models.guide_folder(source)?, name)?;
                return Ok(Half::Here(lm, tokenizer));
            };
            Ok(half)
        };
        let (tuned, untuned) = (half(tuned, sources[0])?, half(untuned, sources[1])?);
        let template = context.models.template(context.models.of_guide(sources[0])?)?;
        Ok(Guide::Served(Rc::new(ServedPair::new(tuned, untuned, template)?)))
    }

    fn base(&mut self, cell: &Cell, seed: u64, settings: &SteerSettings) -> Result<Box<dyn Base>> {
        let context = self.context;
        let api = context.recipe().api(&cell.base);
        if let Some(api) = api.filter(|_| matches!(cell.source, Source::Model(_))) {
            let base = self.servers.open(context, (cell, api), settings, (seed, self.shard))?;
            return Ok(Box::new(base));
        }
        let (lm, tokenizer) = self.get(&folder(context, cell, seed)?, &cell.base)?;
        let template = context.models.template(&cell.base)?;
        let (sampling, stop) = (settings.sampling, settings.stop.clone());
        Ok(Box::new(LocalPolicy::new(lm, tokenizer, template, sampling, stop)))
    }
}

/// Leaves the journal of a cell whose method does not apply, and says why.
pub fn without_answers(task: &str, file: &Path, why: &str) -> Result<()> {
    info!("{task}: not applicable: {why}");
    journal::replace(file, [])
}

/// Whether a line says all that is asked for: one that lacks its trace is answered again, and says
/// the same.
pub fn is_whole(line: &SteerLine, asks_for_trace: bool) -> bool {
    line.trace.is_some() || !asks_for_trace
}

/// Where the weights lie that propose.
fn folder(context: &Context, cell: &Cell, seed: u64) -> Result<PathBuf> {
    let result = |task: Task| context.run.path(&task.name());
    match &cell.source {
        Source::Model(name) => context.models.folder(name),
        Source::Guide(source) => context.models.guide_folder(source),
        Source::Direct(name) => Ok(result(Task::Dpo(Pupil::Direct(name.clone())))),
        Source::Ppo(chunk_len) => {
            let policy = cell.base.clone();
            Ok(result(Task::Ppo { policy, chunk_len: *chunk_len, seed }))
        }
    }
}

/// Answers those of `prompts` that the journal does not hold yet; what it holds of others stays.
///
/// # Errors
/// [`Error::Lost`] where some have no answer; the others have.
pub fn answer(
    steering: &mut Steering,
    cell: &Cell,
    seed: u64,
    file: &Path,
    prompts: Vec<Prompt>,
) -> Result<()> {
    let mut engine = steering.engine(cell, seed)?;
    let asked: HashSet<&str> = prompts.iter().map(|prompt| prompt.id.as_str()).collect();
    let stays = |line: &SteerLine| {
        is_whole(line, engine.settings.trace) || !asked.contains(line.id.as_str())
    };
    let (whole, lacking): (Vec<_>, Vec<_>) =
        once_each::<SteerLine>(file)?.into_iter().partition(|(line, _)| stays(line));
    if !lacking.is_empty() {
        journal::replace(file, whole.iter().map(|(_, bytes)| bytes))?;
    }
    let (journal, done) = Journal::<SteerLine>::open(file)?;
    let done: HashSet<String> = done.into_iter().map(|line| line.id).collect();
    let what = format!("{} {} seed {seed}", cell.base, cell.method_name);
    let count = prompts.len();
    let due: Vec<Prompt> =
        prompts.into_iter().filter(|prompt| !done.contains(&prompt.id)).collect();
    let progress = Progress::start(&what, count as u64, (count - due.len()) as u64);
    let in_flight = engine.plan(&due)?;
    let meter = engine.meter().map(|tell| (tell, Instant::now()));
    let ids: Vec<String> = due.iter().map(|prompt| prompt.id.clone()).collect();
    let mut desk = Answers {
        due: due.into_iter(),
        journal,
        progress,
        meter,
        answered: HashSet::new(),
        lost: Vec::new(),
    };
    if let Err(error) = engine.answer(seed, in_flight, &mut desk) {
        tell_unanswered(&what, ids.iter().filter(|id| !desk.answered.contains(*id)), count);
        return Err(error);
    }
    desk.progress.finish();
    if desk.lost.is_empty() { Ok(()) } else { Err(Error::Lost(desk.lost)) }
}

/// The prompts of one task, and the journal of their answers.
struct Answers {
    due: std::vec::IntoIter<Prompt>,
    journal: Journal<SteerLine>,
    progress: Progress,
    /// Tells what is under way with others, and when it last did.
    meter: Option<(Box<dyn Fn() -> String>, Instant)>,
    /// Ids of the prompts that this run has answered.
    answered: HashSet<String>,
    /// Those without an answer, and why.
    lost: Vec<String>,
}

/// Says what an error leaves undone.
fn tell_unanswered<'a>(what: &str, left: impl Iterator<Item = &'a String>, of: usize) {
    const NAMED: usize = 10;
    let left: Vec<&str> = left.map(String::as_str).collect();
    let more = left.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let named = left[..left.len().min(NAMED)].join(", ");
    warn!("{what}: {} of {of} prompts have no answer yet: {named}{more}", left.len());
}

impl Desk for Answers {
    fn next(&mut self, _in_flight: usize) -> Result<Option<Prompt>> {
        Ok(self.due.next())
    }

    fn pause(&mut self) -> Result<()> {
        if let Some((tell, last)) = &mut self.meter
            && last.elapsed() > METER_EVERY
        {
            *last = Instant::now();
            self.progress.note(tell());
        }
        interrupt::check()
    }

    fn done(&mut self, _number: usize, line: SteerLine) -> Result<()> {
        self.journal.append(&line)?;
        self.answered.insert(line.id);
        self.progress.advance(1);
        Ok(())
    }

    fn lost(&mut self, _number: usize, prompt: Prompt, error: Error) -> Result<()> {
        let lost = format!("prompt `{}` has no answer: {error}", prompt.id);
        warn!("{lost}");
        self.lost.push(lost);
        Ok(())
    }
}

/// What a task could not do while it did the rest; any other error ends the stage.
pub fn losses(task: &str, outcome: Result<()>) -> Result<Vec<String>> {
    match outcome {
        Err(Error::Lost(lost)) => {
            Ok(lost.into_iter().map(|lost| format!("{task}: {lost}")).collect())
        }
        outcome => outcome.map(|()| Vec::new()),
    }
}

/// The prompts of the stage, and what reads them: one for the models whose responses may have as
/// many tokens.
pub fn asked(context: &Context) -> Result<Vec<Asked>> {
    let mut all: Vec<Asked> = Vec::new();
    let sets = context.plan.guide_sets();
    let guide = |source: &GuideSource, samples| -> Result<Model> {
        Ok(Model {
            name: context.models.of_guide(source)?.to_owned(),
            folder: context.models.guide_folder(source)?,
            samples,
        })
    };
    let (steer, prompts) = (table(context)?, test_prompts(context)?);
    for cell in cells(&context.plan)? {
        let new_tokens = steer.answering(context.recipe(), &cell.base).max_new_tokens;
        let known = all.iter().position(|asked| asked.new_tokens == new_tokens);
        let asked = known.unwrap_or_else(|| {
            all.push(Asked { prompts: prompts.clone(), new_tokens, models: Vec::new() });
            all.len() - 1
        });
        let models = &mut all[asked].models;
        // The seeds differ in weights.
        let folder = folder(context, &cell, context.seed())?;
        models.push(Model { name: cell.base.clone(), folder, samples: true });
        if cell.method.proposal.tilt().is_some() && not_applicable(context, &cell)?.is_none() {
            for source in cell.guides.iter().flat_map(|pair| [&pair.tuned, &pair.untuned]) {
                models.push(guide(source, true)?);
            }
        }
    }
    for asked in &mut all {
        let pairs = sets.iter().flat_map(|set| &set.pairs);
        for source in pairs.flat_map(|pair| [&pair.tuned, &pair.untuned]) {
            asked.models.push(guide(source, false)?);
        }
    }
    all.into_iter().map(|asked| asked.refuse_answered(context)).collect()
}
