//! The steer stage in shards: processes that answer each its share of the prompts into journals of
//! their own, and the merge of these.
//!
//! A shard writes `<task>.shard-<i>-of-<n>.jsonl` and its manifest below `state/shards/`, and reads
//! all else; what it answered becomes the run's when a run that has the directory alone merges it.
//! Random numbers depend on (seed, prompt id) alone, so answers do not depend on who gives them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use tracing::{info, warn};

use super::applicable::not_applicable;
use super::cell_prompts::CellPrompts;
use super::cells::{Cell, Purpose};
use super::context::Context;
use super::run::{Job, remove};
use super::steer::{self, Steering};
use super::tasks::{Task, tasks};
use super::test_prompts::tell_passed_over;
use crate::artifacts::run_dir::SHARDS;
use crate::artifacts::{Manifest, Shard, interrupt, journal};
use crate::engine::SteerLine;
use crate::error::{Error, Result};
use crate::prompt::Prompt;
use crate::recipe::Stage;

/// Answers the shard's prompts of every cell and seed, continuing where the same shard stopped. All
/// that it reads must be there.
pub fn run(context: &Context, shard: Shard) -> Result<()> {
    let mut manifest = context.run.shard_manifest(shard)?;
    let mut steering = Steering::new(context, Some(shard));
    let mut lost = Vec::new();
    let prompts = CellPrompts::new(context);
    tell_passed_over(context)?;
    for task in tasks(&context.plan, Stage::Steer)? {
        let Task::Steer { cell, seed } = &task else { continue };
        interrupt::check()?;
        let job = context.job(&task)?;
        let Job { name, fingerprint, origin, .. } = &job;
        if context.run.is_done(&job) {
            info!("{name}: done already");
            continue;
        }
        let journal = shard_journal(name, shard);
        let file = context.run.path(&journal);
        if !manifest.is_under_way(name, fingerprint) {
            // Before the task is begun, or a kill in between would leave answers of other settings
            // as this task's.
            remove(&file)?;
            manifest.begin(name, fingerprint, &[journal], origin)?;
        }
        if let Some(why) = not_applicable(context, cell)? {
            steer::without_answers(name, &file, &why)?;
            continue;
        }
        let asked = prompts.asked(cell)?;
        if asked.is_empty() {
            journal::replace(&file, [])?;
            continue;
        }
        let answered = ids(&run_lines(context, &job, cell)?);
        let share = asked
            .iter()
            .enumerate()
            .filter(|(index, prompt)| shard.takes(*index) && !answered.contains(&prompt.id));
        let share: Vec<_> = share.map(|(_, prompt)| prompt.clone()).collect();
        let own = ids(&whole_lines(context, &file, cell)?);
        let due = share.iter().filter(|prompt| !own.contains(&prompt.id)).count();
        info!("{name}, shard {shard}: {due} of {} prompts to answer", share.len());
        if due > 0 {
            lost.extend(steer::losses(
                name,
                steer::answer(&mut steering, cell, *seed, &file, share),
            )?);
        }
    }
    if !lost.is_empty() {
        return Err(Error::Lost(lost));
    }
    info!("shard {shard} is done; once all are, --only evaluate merges them");
    Ok(())
}

/// A task of the steer stage that answers prompts.
struct Answering {
    job: Job,
    cell: Cell,
    prompts: Vec<Prompt>,
}

impl Answering {
    fn is_asked(&self) -> bool {
        !self.prompts.is_empty()
    }
}

/// Those that this recipe has. What a method does not apply to is asked nothing.
fn answering(context: &Context) -> Result<Vec<Answering>> {
    let (mut all, found) = (Vec::new(), CellPrompts::new(context));
    for task in tasks(&context.plan, Stage::Steer)? {
        let Task::Steer { cell, .. } = &task else { continue };
        let prompts = match not_applicable(context, cell)? {
            Some(_) => Vec::new(),
            None => found.asked(cell)?,
        };
        all.push(Answering { job: context.job(&task)?, cell: cell.clone(), prompts });
    }
    Ok(all)
}

/// Takes what shards answered with the current settings into the run's own journals, in the order
/// of the prompts, and records tasks that this makes whole as done. Lines that the run has already
/// stand.
pub fn merge(context: &Context) -> Result<()> {
    let shards = Shards::of(context)?;
    if shards.0.is_empty() {
        return Ok(());
    }
    for one in answering(context)? {
        let (is_asked, Answering { job, cell, prompts }) = (one.is_asked(), one);
        let name = &job.name;
        let is_done = context.run.is_done(&job);
        if !is_asked && !is_done && shards.with(&job).next().is_some() {
            context.run.begin(&job)?;
            journal::replace(&journal_path(context, name), [])?;
            context.run.finish(&job, 0.0)?;
        }
        if !is_asked {
            continue;
        }
        if is_done && shards.with(&job).next().is_none() {
            continue;
        }
        let path = journal_path(context, name);
        let own = match is_done {
            true => whole_lines(context, &path, &cell)?,
            false => run_lines(context, &job, &cell)?,
        };
        let known = own.len();
        // In the order of the prompts; behind them what was answered when more were asked for.
        let order: HashMap<&str, usize> =
            prompts.iter().enumerate().map(|(index, prompt)| (prompt.id.as_str(), index)).collect();
        let mut seen = HashSet::new();
        let mut lines: Vec<(SteerLine, Vec<u8>)> =
            own.into_iter().chain(shards.lines(context, &job, &cell)?).collect();
        lines.retain(|(line, _)| seen.insert(line.id.clone()));
        lines
            .sort_by_key(|(line, _)| order.get(line.id.as_str()).copied().unwrap_or(prompts.len()));
        let answered =
            lines.iter().filter(|(line, _)| order.contains_key(line.id.as_str())).count();
        if lines.len() > known {
            if !is_done && !context.run.continues(&job) {
                remove(&path)?;
            }
            context.run.begin(&job)?;
            journal::replace(&path, lines.iter().map(|(_, bytes)| bytes))?;
            info!(
                "{name}: {} answers merged from shards, {answered} of {} prompts answered",
                lines.len() - known,
                prompts.len()
            );
        }
        if answered == prompts.len() && context.run.continues(&job) {
            context.run.begin(&job)?;
            context.run.finish(&job, lines.iter().map(|(line, _)| line.seconds).sum())?;
        }
    }
    Ok(())
}

/// Removes what shards answered of the tasks that are done, the manifests of shards that have no
/// answers left, and with the last of them the folder.
pub fn tidy(context: &Context) -> Result<()> {
    let shards = Shards::of(context)?;
    let all = if shards.0.is_empty() { Vec::new() } else { answering(context)? };
    for Answering { job, .. } in all.iter().filter(|one| context.run.is_done(&one.job)) {
        for shard in shards.with(job) {
            remove(&context.run.path(&shard_journal(&job.name, shard)))?;
        }
    }
    for (shard, manifest) in &shards.0 {
        if !manifest
            .owned()
            .flat_map(|(_, owned)| owned)
            .any(|file| context.run.path(file).exists())
        {
            context.run.remove_shard(*shard)?;
        }
    }
    if context.run.shards()?.is_empty() { remove(&context.run.path(SHARDS)) } else { Ok(()) }
}

/// Removes all that shards left.
pub fn discard(context: &Context) -> Result<()> {
    for (_, manifest) in &Shards::of(context)?.0 {
        for file in manifest.owned().flat_map(|(_, owned)| owned) {
            remove(&context.run.path(file))?;
        }
    }
    remove(&context.run.path(SHARDS))
}

/// Refuses a steer stage that shards have worked on and that is not whole once they are merged;
/// says which of them are to go on.
pub fn check_complete(context: &Context) -> Result<()> {
    let shards = Shards::of(context)?;
    let all = answering(context)?;
    let counts: BTreeSet<usize> =
        all.iter().flat_map(|one| shards.with(&one.job).map(Shard::count)).collect();
    if counts.is_empty() {
        return Ok(());
    }
    // The task, how many prompts it has, and the places of those without an answer.
    let mut lacking: Vec<(&str, usize, Vec<usize>)> = Vec::new();
    let is_due = |one: &&Answering| one.is_asked() && !context.run.is_done(&one.job);
    for Answering { job, cell, prompts } in all.iter().filter(is_due) {
        let answered = ids(&run_lines(context, job, cell)?);
        let missing = prompts
            .iter()
            .enumerate()
            .filter(|(_, prompt)| !answered.contains(&prompt.id))
            .map(|(index, _)| index);
        lacking.push((&job.name, prompts.len(), missing.collect()));
    }
    let Some((task, prompts, missing)) = lacking.first() else { return Ok(()) };
    let unfinished = counts.iter().map(|&count| {
        let numbers = lacking
            .iter()
            .flat_map(|(_, _, missing)| missing)
            .map(|index| Shard::of_item(*index, count).number());
        let numbers: BTreeSet<usize> = numbers.collect();
        format!("{} of {count} ({})", numbers.len(), ranges(&numbers))
    });
    Err(Error::failed(format!(
        "`{task}` lacks the answers to {} of {} prompts{}; shards that have not finished: {}\n\n\
         hint: run these shards again with the same settings, or `w2s run` without --only to \
         answer the rest in one process",
        missing.len(),
        prompts,
        if lacking.len() > 1 {
            format!(", and {} of {} tasks lack some", lacking.len(), all.len())
        } else {
            String::new()
        },
        unfinished.collect::<Vec<_>>().join(", ")
    )))
}

/// The shards that left a manifest.
struct Shards(Vec<(Shard, Manifest)>);

impl Shards {
    fn of(context: &Context) -> Result<Self> {
        Ok(Self(context.run.shards()?))
    }

    /// Those whose answers to the task were given with these settings.
    fn with(&self, job: &Job) -> impl Iterator<Item = Shard> {
        let same = |manifest: &Manifest| {
            manifest.fingerprint_of(&job.name).as_ref() == Some(&job.fingerprint)
        };
        self.0.iter().filter(move |(_, manifest)| same(manifest)).map(|(shard, _)| *shard)
    }

    /// All lines of the task that were written with these settings.
    fn lines(
        &self,
        context: &Context,
        job: &Job,
        cell: &Cell,
    ) -> Result<Vec<(SteerLine, Vec<u8>)>> {
        let same: BTreeSet<Shard> = self.with(job).collect();
        let mut lines = Vec::new();
        for (shard, manifest) in &self.0 {
            let file = context.run.path(&shard_journal(&job.name, *shard));
            if same.contains(shard) {
                lines.extend(whole_lines(context, &file, cell)?);
            } else if manifest.fingerprint_of(&job.name).is_some() && file.exists() {
                warn!("{}: answers given with other settings are left out", file.display());
            }
        }
        Ok(lines)
    }
}

/// The lines of the run's own journal, if they are of this very task.
fn run_lines(context: &Context, job: &Job, cell: &Cell) -> Result<Vec<(SteerLine, Vec<u8>)>> {
    match context.run.continues(job) {
        true => whole_lines(context, &journal_path(context, &job.name), cell),
        false => Ok(Vec::new()),
    }
}

fn whole_lines(context: &Context, file: &Path, cell: &Cell) -> Result<Vec<(SteerLine, Vec<u8>)>> {
    let mut lines = journal::complete_lines(file)?;
    let asks_for_traces = context.recipe().steer.as_ref().is_some_and(|steer| steer.trace);
    let asks_for_traces = asks_for_traces && cell.purpose == Purpose::Row;
    lines.retain(|(line, _): &(SteerLine, Vec<u8>)| steer::is_whole(line, asks_for_traces));
    Ok(lines)
}

fn ids(lines: &[(SteerLine, Vec<u8>)]) -> HashSet<String> {
    lines.iter().map(|(line, _)| line.id.clone()).collect()
}

fn journal_path(context: &Context, task: &str) -> PathBuf {
    context.run.path(&format!("{task}.jsonl"))
}

/// Where a shard keeps its answers, relative to the run directory.
fn shard_journal(task: &str, shard: Shard) -> String {
    format!("{task}.shard-{}.jsonl", shard.tag())
}

/// Numbers as job arrays take them: `3,7-9`.
fn ranges(numbers: &BTreeSet<usize>) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let text = ranges.iter().map(|(first, last)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    });
    text.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_shards_are_named_as_job_arrays_take_them() {
        for (numbers, text) in
            [(&[][..], ""), (&[3], "3"), (&[1, 2], "1-2"), (&[1, 3, 4, 5, 9], "1,3-5,9")]
        {
            assert_eq!(ranges(&numbers.iter().copied().collect()), text);
        }
    }
}
