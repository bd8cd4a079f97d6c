//! What every stage is given: the plan, the run, the models and the data. What a stage makes of it
//! is the stage's.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use tracing::{info, warn};

use super::lineage::Lineage;
use super::models::Models;
use super::run::{self, Job, Run};
use super::tasks::{self, Task};
use crate::artifacts::{FileHashes, RunDir};
use crate::error::Result;
use crate::recipe::{Plan, Recipe, Stage};
use crate::text::{DataReport, Dataset, LearnedPrompts, Prompts, Split, load_dataset};

/// One run, opened.
pub struct Context {
    pub plan: Rc<Plan>,
    pub run: Run,
    pub models: Models,
    lineage: Lineage,
    dataset: OnceCell<Dataset>,
    learned_prompts: OnceCell<LearnedPrompts>,
}

impl Context {
    /// With `fresh`, the run directory is emptied once all that is asked for is known to be there.
    pub fn new(plan: Plan, dir: RunDir, fresh: bool) -> Result<Self> {
        let plan = Rc::new(plan);
        let models = Models::new(plan.clone(), dir.path())?;
        if fresh {
            let outputs = tasks::all(&plan)?.iter().flat_map(|task| task.outputs()).collect();
            run::clear(&dir, outputs)?;
        }
        let hashes = Rc::new(FileHashes::load(dir.join("state/hashes.json")));
        let run = Run::open(dir, hashes.clone())?;
        let lineage = Lineage::new(hashes);
        let (dataset, learned_prompts) = (OnceCell::new(), OnceCell::new());
        Ok(Self { plan, run, models, lineage, dataset, learned_prompts })
    }

    pub fn recipe(&self) -> &Recipe {
        &self.plan.recipe
    }

    /// Drives data, training and preferences.
    pub fn seed(&self) -> u64 {
        self.recipe().run.seed()
    }

    pub fn dataset(&self) -> Result<&Dataset> {
        if let Some(dataset) = self.dataset.get() {
            return Ok(dataset);
        }
        let dataset = load_dataset(self.recipe().data()?, self.seed())?;
        tell("data", &dataset.report);
        Ok(self.dataset.get_or_init(|| dataset))
    }

    /// The prompts of the first `count` texts of a split; see [`Dataset::prompts`].
    pub fn prompts(&self, split: Split, count: usize) -> Result<Prompts> {
        Ok(self.dataset()?.prompts(split, &self.recipe().data()?.prompt, self.seed(), count))
    }

    /// The prompts of the pairs that the recipe learns from, which no test prompt may be.
    pub fn learned_prompts(&self) -> Result<&LearnedPrompts> {
        if let Some(learned) = self.learned_prompts.get() {
            return Ok(learned);
        }
        let learned = LearnedPrompts::read(self.recipe())?;
        Ok(self.learned_prompts.get_or_init(|| learned))
    }

    /// A task as this recipe and these files have it.
    pub fn job(&self, task: &Task) -> Result<Job> {
        let known = self.lineage.of(task, &self.plan, self.models.placements())?;
        Ok(Job {
            name: task.name(),
            fingerprint: known.fingerprint.clone(),
            reach: task.reach(&self.plan),
            outputs: task.outputs(),
            origin: known.origin.clone(),
        })
    }

    pub fn is_done(&self, task: &Task) -> Result<bool> {
        Ok(self.run.is_done(&self.job(task)?))
    }

    /// Forgets that the tasks of these stages were done.
    pub fn forget(&self, stages: impl Iterator<Item = Stage>) -> Result<()> {
        let tasks = stages
            .map(|stage| tasks::tasks(&self.plan, stage))
            .collect::<Result<Vec<_>>>()?
            .concat();
        let names: BTreeSet<String> = tasks.iter().map(|task| task.name()).collect();
        self.run.forget(|name| names.contains(name))
    }

    /// Says which results lie here that nothing in the recipe asks for any more.
    pub fn tell_left_overs(&self) -> Result<()> {
        let known: BTreeSet<String> =
            tasks::all(&self.plan)?.iter().map(|task| task.name()).collect();
        const NAMED: usize = 8;
        let left = self.run.left_by_others(&known);
        if !left.is_empty() {
            let more = left.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let named = left[..left.len().min(NAMED)].join(", ");
            info!(
                "results of settings that the recipe no longer has lie here too ({named}{more}); \
                 --fresh removes them with all others"
            );
        }
        Ok(())
    }

    /// Says which stages that were not asked for hold results that these settings would not give.
    pub fn tell_outdated(&self, asked: &[Stage]) -> Result<()> {
        let mut outdated = BTreeSet::new();
        for task in tasks::all(&self.plan)?.iter().filter(|task| !asked.contains(&task.stage())) {
            // What was never done is not looked into: that reads files of any size.
            if !self.run.was_done(&task.name()) {
                continue;
            }
            let job = self.job(task)?;
            if !self.run.is_done(&job) && !self.run.continues(&job) {
                outdated.insert(task.stage());
            }
        }
        if !outdated.is_empty() {
            let named: Vec<String> = outdated.iter().map(|stage| format!("`{stage}`")).collect();
            warn!(
                "{} hold results of other settings than these; a run without --only makes them \
                 anew",
                named.join(", ")
            );
        }
        Ok(())
    }
}

/// Which files were read for what, into the log.
pub fn tell(what: &str, report: &DataReport) {
    report.lines.iter().for_each(|line| info!("{what}: {line}"));
    report.warnings.iter().for_each(|warning| warn!("{what}: {warning}"));
}
