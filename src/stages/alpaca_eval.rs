//! `[evaluate.alpaca_eval]`: has the `alpaca_eval` package judge the responses of each cell and
//! seed, in a folder of their own. What it says goes into the summary's rows. Running the package
//! is left to `score`.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::json;
use tracing::warn;

use super::annotators::annotator_files;
use super::answered::Answered;
use super::applicable::not_applicable;
use super::cells::Cell;
use super::context::Context;
use super::run::write_json;
use super::tasks::{Task, absent, tasks};
use super::test_prompts::test_prompts;
use crate::artifacts::{fingerprint, hash_file};
use crate::engine::SteerLine;
use crate::error::{Error, Result};
use crate::prompt::Prompt;
use crate::recipe::{AlpacaEvalTable, Plan, Stage};
use crate::report::{AlpacaEval, ModelOutput, Summary, SummaryRow, WinRate};
use crate::score::{AlpacaEvalProgram, Outputs};
use crate::text::{ReferenceOutput, prompts_of_reference, read_reference_outputs};

/// The variables that tell the package of a key.
const KEYS: [&str; 3] = ["OPENAI_API_KEY", "OPENAI_API_KEYS", "OPENAI_CLIENT_CONFIG_PATH"];

/// The file of what is judged.
pub const MODEL_OUTPUTS: &str = "model_outputs.json";
/// The file of what came of it.
const RESULT: &str = "result.json";

/// So many lines of what the package failed of stand in a note: its end, and its last words' first.
const TOLD_LINES: usize = 2;

/// Reference outputs, and the prompts of the run in their order.
pub struct Referenced {
    pub reference: Vec<ReferenceOutput>,
    pub prompts: Vec<Prompt>,
}

/// The package at work for one run. What it fails of is told once all else is done: the run's other
/// results do not wait for it.
pub struct Judging<'a> {
    context: &'a Context,
    referenced: Option<Rc<Referenced>>,
    failures: Vec<(String, Error)>,
    /// What the next failure is of: the length control or some answers, or all of the package.
    is_partial: bool,
    is_off: bool,
}

impl<'a> Judging<'a> {
    pub fn new(context: &'a Context) -> Self {
        let (failures, referenced) = (Vec::new(), None);
        Self { context, referenced, failures, is_partial: false, is_off: false }
    }

    /// Whether there is no use in this task, for the package failed of an earlier one.
    pub fn skips(&self, task: &Task) -> bool {
        self.is_off && matches!(task, Task::AlpacaEval { .. })
    }

    /// Judges the responses of one cell and seed; `name` is the task's.
    pub fn run(&mut self, cell: &Cell, seed: u64, name: &str) -> Result<()> {
        let (context, table) = (self.context, table(self.context)?);
        let folder = context.run.path(name);
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder, "creating the folder"))?;
        if not_applicable(context, cell)?.is_some() {
            return Ok(());
        }
        let referenced = self.referenced()?;
        let journal = context.run.path(&cell.journal(seed));
        let answered = Answered::read(&journal, &referenced.prompts)?;
        if let Some(lacking) = answered.lacking() {
            return Err(Error::failed(format!("{}: {lacking}", journal.display())));
        }
        let generator = generator(&context.recipe().run.name, cell);
        let rows = referenced.rows(&answered, &generator);
        let file = folder.join(MODEL_OUTPUTS);
        write_json(&file, &rows)?;
        let ids: Vec<(&str, &str)> = rows
            .iter()
            .zip(&answered.lines)
            .map(|(row, line)| (row.instruction, line.id.as_str()))
            .collect();
        let program = AlpacaEvalProgram::new(table, &context.plan.folder)?;
        let verdicts = self.verdicts(cell, seed)?;
        let outputs = Outputs { name, file: &file, prompts: &ids, verdicts: &verdicts };
        let judged = program.judge(&outputs)?;
        self.is_partial = judged.trouble.is_some();
        write_json(&folder.join(RESULT), &judged.win_rate)?;
        judged.trouble.map_or(Ok(()), Err)
    }

    /// Where the verdicts of these annotators are kept, which were paid for: no task's own, so that
    /// they stay when it is done again. The package goes by instruction and both responses.
    fn verdicts(&self, cell: &Cell, seed: u64) -> Result<PathBuf> {
        let table = table(self.context)?;
        let files = annotator_files(table)?;
        let hashes = files.iter().map(|file| hash_file(file)).collect::<Result<Vec<_>>>()?;
        let tag = &fingerprint(&[table.outcome(), json!(hashes)])[..12];
        let folder = format!("requests/alpaca_eval/{tag}/{}/{}", cell.base, cell.method_name);
        let folder = self.context.run.path(&folder);
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder, "creating the folder"))?;
        Ok(folder.join(format!("seed-{seed}.json")))
    }

    /// The outcome of a task; a failure of the package is kept for [`Self::end`].
    pub fn keep(&mut self, task: &Task, outcome: Result<()>) -> Result<()> {
        match outcome {
            Err(error) if matches!(task, Task::AlpacaEval { .. }) && !is_stop(&error) => {
                self.is_off |= !std::mem::take(&mut self.is_partial);
                // The summary that lies there may tell what is not so any more.
                self.forget_summary()?;
                self.failures.push((task.name(), error));
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Tells what the package failed of. The summary, which goes without it, is made again once it
    /// is there.
    pub fn end(self) -> Result<()> {
        if self.failures.is_empty() {
            return Ok(());
        }
        self.forget_summary()?;
        let mut failures = self.failures.into_iter();
        let Some((_, first)) = failures.next() else { return Ok(()) };
        let others: Vec<String> = failures.map(|(name, _)| name).collect();
        let skipped = if self.is_off { "; what is left was not tried" } else { "" };
        let others = match others.is_empty() {
            true => String::new(),
            false => format!("\n\nnor did it work for {}", others.join(", ")),
        };
        let rest = format!("the run's other results are there{skipped}");
        Err(Error::Unjudged(format!("{first}{others}\n\n{rest}")))
    }

    /// Notes which of its rows have no win rate, or one of some responses alone.
    pub fn note(&self, summary: &mut Summary) {
        let recipe = self.context.recipe();
        let Some(table) = recipe.alpaca_eval() else { return };
        let seeds = &recipe.run.seeds;
        for row in summary.rows.iter().filter(|row| row.not_applicable.is_none()) {
            let SummaryRow { base, method, .. } = row;
            if !seeds.iter().any(|seed| table.asks(base, method, *seed)) {
                continue;
            }
            let note = match &row.alpaca_eval {
                Some(found) => found.part().map(|part| {
                    format!("{part} responses have a verdict; the same command asks for the others")
                }),
                None => Some(format!("has no win rate: {}", self.why(base, method))),
            };
            let note =
                note.map(|note| format!("{}: {base} {method}: {note}", AlpacaEvalTable::NAME));
            summary.notes.extend(note);
        }
    }

    /// Why a row has no win rate, in one line.
    fn why(&self, base: &str, method: &str) -> String {
        let folder = format!("evaluate/{}/{base}/{method}/", AlpacaEvalTable::NAME);
        let of_row = self.failures.iter().find(|(name, _)| name.starts_with(&folder));
        match of_row {
            Some((name, error)) => {
                let told = error.to_string();
                let told = told.split("\n\n").next().unwrap_or_default();
                let told = told.strip_prefix(&format!("{name}: ")).unwrap_or(told);
                told.lines().take(TOLD_LINES).map(str::trim).collect::<Vec<_>>().join(" ")
            }
            None => "the package failed of another row before, and was not asked".to_owned(),
        }
    }

    fn forget_summary(&self) -> Result<()> {
        self.context.run.forget(|name| name == Task::Evaluate.name())
    }

    fn referenced(&mut self) -> Result<Rc<Referenced>> {
        if let Some(known) = &self.referenced {
            return Ok(known.clone());
        }
        let file = PathBuf::from(&table(self.context)?.reference);
        let referenced = Rc::new(Referenced::read(&file, test_prompts(self.context)?)?);
        Ok(self.referenced.insert(referenced).clone())
    }
}

impl Referenced {
    /// # Errors
    /// Where the file is none of reference outputs, or they are for other instructions than
    /// `prompts`: each that has no counterpart.
    pub fn read(file: &Path, prompts: Vec<Prompt>) -> Result<Self> {
        let reference = read_reference_outputs(file)?;
        let places = prompts_of_reference(file, &reference, &prompts)?;
        let prompts = places.into_iter().map(|place| prompts[place].clone()).collect();
        Ok(Self { reference, prompts })
    }

    /// The rows of `model_outputs.json`, in the order of the reference; `answered` answers all of
    /// its prompts.
    pub fn rows<'a>(&'a self, answered: &'a Answered, generator: &'a str) -> Vec<ModelOutput<'a>> {
        let row = |(reference, line): (&'a ReferenceOutput, &'a SteerLine)| {
            let dataset = reference.dataset.as_deref();
            ModelOutput::new(dataset, &reference.instruction, &line.response, generator)
        };
        self.reference.iter().zip(&answered.lines).map(row).collect()
    }
}

/// One name for the responses of a cell, which no other run's have.
pub fn generator(run: &str, cell: &Cell) -> String {
    format!("{run}/{}/{}", cell.base, cell.method_name)
}

/// How many judgements the recipe asks the package for, as a paragraph of the plan; empty where it
/// asks for none.
///
/// # Errors
/// Where a method needs guides that the recipe does not have.
pub fn judgements(plan: &Plan) -> Result<String> {
    let is_asked = |task: &Task| matches!(task, Task::AlpacaEval { .. });
    let asked = tasks(plan, Stage::Evaluate)?.into_iter().filter(is_asked).count();
    let Some(steer) = plan.recipe.steer.as_ref().filter(|_| asked > 0) else {
        return Ok(String::new());
    };
    let prompts = steer.prompts;
    let unheard = plan.recipe.alpaca_eval().and_then(without_key);
    let warning = unheard.map_or_else(String::new, |why| format!("  warning: {why}\n"));
    Ok(format!(
        "alpaca_eval\n  {asked} × {prompts} = {} judgements at most, a request each: those of a \
         base, method and seed for each prompt\n{warning}",
        asked * prompts
    ))
}

/// What keeps the package from judging, before anything is done: reference outputs for other
/// instructions are refused, and no key is warned of.
pub fn check_ahead(context: &Context) -> Result<()> {
    let Some(table) = context.recipe().alpaca_eval() else { return Ok(()) };
    Referenced::read(Path::new(&table.reference), test_prompts(context)?)?;
    let asked = tasks(&context.plan, Stage::Evaluate)?;
    let is_due = |task: &Task| {
        matches!(task, Task::AlpacaEval { .. }) && !context.run.was_done(&task.name())
    };
    if let Some(why) = without_key(table).filter(|_| asked.iter().any(is_due)) {
        warn!("{why}");
    }
    Ok(())
}

/// Why the judge that the package knows by a name will refuse to answer, as far as the recipe and
/// the environment tell.
fn without_key(table: &AlpacaEvalTable) -> Option<String> {
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_named = table.url.is_some() || table.key.is_some() || table.has_own_annotators();
    (!is_named && !KEYS.iter().any(is_set)).then(|| {
        format!(
            "`evaluate.alpaca_eval` names no `key` and no `url`, and neither OPENAI_API_KEY nor \
             OPENAI_CLIENT_CONFIG_PATH is set: the package can ask no judge of OpenAI's, which \
             most of its annotators are (`{}`)",
            table.annotators
        )
    })
}

/// What the package said of the responses of a cell, as far as it was asked with these settings.
pub fn of_cell(context: &Context, cell: &Cell) -> Result<Option<AlpacaEval>> {
    let Some(table) = context.recipe().alpaca_eval() else { return Ok(None) };
    let (mut all, mut asked) = (Vec::new(), 0);
    let prompts = context.recipe().steer.as_ref().map_or(0, |steer| steer.prompts);
    for &seed in &context.recipe().run.seeds {
        if !table.asks(&cell.base, &cell.method_name, seed) {
            continue;
        }
        asked += prompts;
        let task = Task::AlpacaEval { cell: cell.clone(), seed };
        let job = context.job(&task)?;
        // Without its length control a task is not done, and its win rate is there.
        if context.run.is_done(&job) || context.run.continues(&job) {
            let path = context.run.path(&format!("{}/{RESULT}", job.name));
            all.extend(read_result(&path)?);
        }
    }
    Ok(AlpacaEval::of_seeds(&all, asked))
}

fn read_result(path: &Path) -> Result<Option<WinRate>> {
    match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        bytes => serde_json::from_slice(&bytes.map_err(Error::io(path, "reading"))?)
            .map(Some)
            .map_err(|error| Error::data(path, Some(error.line()), error.to_string())),
    }
}

fn table(context: &Context) -> Result<&AlpacaEvalTable> {
    context.recipe().alpaca_eval().ok_or_else(|| absent("evaluate.alpaca_eval"))
}

/// Whether the run was asked to stop.
fn is_stop(error: &Error) -> bool {
    matches!(error, Error::Interrupted)
}
