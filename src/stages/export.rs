//! What a run has answered, in files that other programs read: `model_outputs.json` of the
//! `alpaca_eval` package, and logs of Inspect. Reads the run directory and changes nothing there,
//! so that the run may be at work; what the files say is told by `report`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};
use tracing::{info, warn};

use super::alpaca_eval::{MODEL_OUTPUTS, Referenced, generator};
use super::answered::Answered;
use super::cells::{Cell, cells};
use super::judged::{Record, Rewards};
use super::run::write_json;
use crate::engine::SteerLine;
use crate::error::{Error, Result};
use crate::prompt::Prompt;
use crate::recipe::{Plan, Stage, Steer};
use crate::report::{InspectLog, InspectSample, ModelOutput};
use crate::text::{LearnedPrompts, instruction, load_dataset};

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// `<base>/<method>/seed-<s>/model_outputs.json`.
    AlpacaEval,
    /// `<base>/<method>/<time>_<task>_<id>.json`.
    Inspect,
}

/// Whose responses are exported; of lists that are empty all.
#[derive(Debug, Clone, Default)]
pub struct Exported {
    pub bases: Vec<String>,
    pub methods: Vec<String>,
    pub seeds: Vec<u64>,
    /// Reference outputs, whose instructions must be the prompts; those of the recipe where it is
    /// left out.
    pub reference: Option<PathBuf>,
}

/// A run that is read.
struct Reading<'a> {
    run: &'a Path,
    plan: Plan,
    prompts: Vec<Prompt>,
    rows: Vec<(Cell, Vec<u64>)>,
}

/// Writes files of `format` below `to` and gives their paths.
///
/// # Errors
/// Where `run` is none, its data are gone, or nothing is chosen that has responses. For the
/// `alpaca_eval` package all responses must be there: what is missing, and nothing is written.
pub fn export(
    run: &Path,
    to: &Path,
    format: ExportFormat,
    which: &Exported,
) -> Result<Vec<PathBuf>> {
    let reading = Reading::open(run, which)?;
    if format == ExportFormat::Inspect && which.reference.is_some() {
        return Err(Error::recipe(
            "`--reference` is for `--format alpaca-eval`: a log of Inspect has no reference outputs",
        ));
    }
    match format {
        ExportFormat::AlpacaEval => reading.alpaca_eval(to, which.reference.as_deref()),
        ExportFormat::Inspect => reading.inspect(to),
    }
}

impl<'a> Reading<'a> {
    fn open(run: &'a Path, which: &Exported) -> Result<Self> {
        let plan = read_plan(run)?;
        let absent = || Error::failed(format!("{}: the run steers nothing", run.display()));
        let count = plan.recipe.steer.as_ref().map(|steer| steer.prompts).ok_or_else(absent)?;
        let prompts = test_prompts(&plan, count)?;
        let rows = rows(run, &plan, which)?;
        Ok(Self { run, plan, prompts, rows })
    }

    fn alpaca_eval(&self, to: &Path, reference: Option<&Path>) -> Result<Vec<PathBuf>> {
        let of_recipe = self.plan.recipe.alpaca_eval().map(|table| Path::new(&table.reference));
        let reference = reference.or(of_recipe);
        let referenced =
            reference.map(|file| Referenced::read(file, self.prompts.clone())).transpose()?;
        let prompts = referenced.as_ref().map_or(&self.prompts, |known| &known.prompts);
        let (mut whole, mut troubles) = (Vec::new(), Vec::new());
        for (cell, seed) in self.each() {
            let answered = Answered::read(&self.run.join(cell.journal(seed)), prompts)?;
            match answered.lacking() {
                _ if answered.lines.is_empty() => tell_empty(&cell.name(seed)),
                Some(lacking) => troubles.push(format!("{}: {lacking}", cell.name(seed))),
                None => whole.push((cell, seed, answered)),
            }
        }
        if !troubles.is_empty() {
            return Err(Error::failed(format!(
                "{}\n\nhint: `w2s run` with the same recipe answers the rest; the package wants all \
                 of them, and --base, --method and --seed choose rows that are whole",
                troubles.join("\n")
            )));
        }
        let mut written = Vec::new();
        for (cell, seed, answered) in whole {
            let generator = generator(&self.plan.recipe.run.name, cell);
            let rows = match &referenced {
                Some(referenced) => referenced.rows(&answered, &generator),
                None => rows_alone(&answered, &generator)?,
            };
            let folder = to.join(&cell.base).join(&cell.method_name);
            let file = folder.join(format!("seed-{seed}")).join(MODEL_OUTPUTS);
            write(&file, &json!(rows))?;
            written.push(file);
        }
        self.any(written)
    }

    fn inspect(&self, to: &Path) -> Result<Vec<PathBuf>> {
        let record = Record::open(self.run)?;
        let mut written = Vec::new();
        for (cell, seeds) in &self.rows {
            let (mut samples, mut lacking) = (Vec::new(), Vec::new());
            for &seed in seeds {
                let (of_seed, troubles) = self.samples(&record, cell, seed)?;
                samples.extend(of_seed);
                lacking.extend(troubles.into_iter().map(|it| format!("seed {seed}: {it}")));
            }
            let name = format!("steer/{}/{}", cell.base, cell.method_name);
            if samples.is_empty() {
                tell_empty(&name);
                continue;
            }
            if !lacking.is_empty() {
                warn!(
                    "{name}: the log's status is `cancelled`: {}; `w2s run` with the same recipe \
                     and --set makes what is missing",
                    lacking.join(", ")
                );
            }
            let log = self.log(cell, seeds, samples);
            let file = to.join(&cell.base).join(&cell.method_name).join(log.file_name());
            write(&file, &log.value())?;
            written.push(file);
        }
        self.any(written)
    }

    fn any(&self, written: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
        if written.is_empty() {
            let run = self.run.display();
            return Err(Error::failed(format!(
                "{run}: there are no responses yet\n\nhint: `w2s run` makes them"
            )));
        }
        Ok(written)
    }

    fn each(&self) -> impl Iterator<Item = (&Cell, u64)> {
        self.rows.iter().flat_map(|(cell, seeds)| seeds.iter().map(move |seed| (cell, *seed)))
    }

    fn log(&self, cell: &Cell, seeds: &[u64], samples: Vec<InspectSample>) -> InspectLog {
        let recipe = &self.plan.recipe;
        let journals = seeds.iter().map(|seed| self.run.join(cell.journal(*seed)));
        let times = journals.filter_map(|path| std::fs::metadata(path).ok()?.modified().ok());
        let model = recipe.models.get(&cell.base);
        InspectLog {
            run: recipe.run.name.clone(),
            base: cell.base.clone(),
            method: cell.method_name.clone(),
            dataset: recipe.data.as_ref().map_or_else(String::new, |data| data.source.clone()),
            prompts: self.prompts.len(),
            judges: self.judges().map(str::to_owned).collect(),
            seeds: seeds.to_vec(),
            written: times.max().unwrap_or(SystemTime::UNIX_EPOCH),
            metadata: json!({
                "recipe": recipe.run.name,
                "base": cell.base,
                "model": model.map(|model| json!({ "id": model.id, "api": model.api })),
                "method": cell.method_name,
                "settings": cell.settings(),
                "steer": recipe.steer.as_ref().map(|steer| answering(steer, &self.plan, cell)),
                "seeds": seeds,
                "w2s": env!("CARGO_PKG_VERSION"),
            }),
            samples,
        }
    }

    /// The judges that the run asks.
    fn judges(&self) -> impl Iterator<Item = &str> {
        let judges = self.plan.recipe.judges().into_iter().map(|judge| judge.name);
        judges.filter(|_| self.plan.has(Stage::Evaluate))
    }

    /// The responses of one cell and seed that are there, with what judges say of them so far; and
    /// what is missing, in words.
    fn samples(
        &self,
        record: &Record,
        cell: &Cell,
        seed: u64,
    ) -> Result<(Vec<InspectSample>, Vec<String>)> {
        let answered = Answered::read(&self.run.join(cell.journal(seed)), &self.prompts)?;
        let (asked, count) = (self.prompts.len(), answered.lines.len());
        let mut lacking = Vec::new();
        if count < asked {
            lacking.push(format!("{count} of {asked} responses are there"));
        }
        let mut rewards: Vec<(&str, Rewards)> = Vec::new();
        for judge in self.judges() {
            rewards.push((judge, record.rewards(judge, cell, seed)?));
        }
        for (judge, known) in rewards.iter().filter(|_| count > 0) {
            let known = known.as_ref().map(|known| {
                answered.lines.iter().filter(|line| known.contains_key(&line.id)).count()
            });
            match known {
                Ok(known) if known == count => {}
                Ok(known) => lacking.push(format!("{judge} has judged {known} of {count}")),
                Err(why) => lacking.push(format!("no score of {judge}, for {why}")),
            }
        }
        let scores = |id: &str| -> BTreeMap<String, f64> {
            let of = |(judge, known): &(&str, Rewards)| {
                Some(((*judge).to_owned(), *known.as_ref().ok()?.get(id)?))
            };
            rewards.iter().filter_map(of).collect()
        };
        let lines = answered.lines.into_iter();
        Ok((lines.map(|line| sample(line, seed, &scores)).collect(), lacking))
    }
}

fn sample(
    line: SteerLine,
    seed: u64,
    scores: &impl Fn(&str) -> BTreeMap<String, f64>,
) -> InspectSample {
    InspectSample {
        seed,
        is_complete: line.finish.is_complete(),
        tokens: line.response_tokens,
        seconds: line.seconds,
        scores: scores(&line.id),
        metadata: json!({
            "finish": line.finish,
            "score": line.score,
            "base_logprob_per_token": line.base_logprob_per_token,
            "response_tokens": line.response_tokens,
            "tokens": line.tokens,
            "seconds": line.seconds,
        }),
        id: line.id,
        prompt: line.prompt,
        response: line.response,
    }
}

/// The rows of `model_outputs.json` in the order of the prompts, where there is no reference.
fn rows_alone<'a>(answered: &'a Answered, generator: &'a str) -> Result<Vec<ModelOutput<'a>>> {
    let row = |line: &'a SteerLine| {
        let asked = instruction(&line.prompt).ok_or_else(|| {
            Error::failed(format!(
                "prompt `{}` is a chat of several turns, and the package knows one instruction \
                 alone",
                line.id
            ))
        })?;
        Ok(ModelOutput::new(None, asked, &line.response, generator))
    };
    answered.lines.iter().map(row).collect()
}

/// What holds for all methods of a base.
fn answering(steer: &Steer, plan: &Plan, cell: &Cell) -> Value {
    let answering = steer.answering(&plan.recipe, &cell.base);
    json!({
        "sampling": answering.sampling,
        "stop": answering.stop,
        "max_new_tokens": answering.max_new_tokens,
    })
}

/// The plan of a run directory.
fn read_plan(run: &Path) -> Result<Plan> {
    let path = run.join("plan.json");
    let bytes = match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::failed(format!(
                "{}: is no run directory (it holds no `plan.json`)",
                run.display()
            )));
        }
        bytes => bytes.map_err(Error::io(&path, "reading"))?,
    };
    serde_json::from_slice(&bytes).map_err(|error| {
        let what = format!(
            "not a plan of this program: {error}\n\nhint: another version of it may have written \
             it; `w2s run` with the same recipe writes it anew"
        );
        Error::data(&path, Some(error.line()), what)
    })
}

/// The prompts that the run asks, in the order of the data.
fn test_prompts(plan: &Plan, count: usize) -> Result<Vec<Prompt>> {
    let (data, seed) = (plan.recipe.data()?, plan.recipe.run.seed());
    let learned = LearnedPrompts::read(&plan.recipe)?;
    let found = load_dataset(data, seed)?.test_prompts(data, seed, count, &learned);
    match found.too_few(data, count) {
        Some(too_few) => Err(Error::failed(too_few)),
        None => Ok(found.taken(count)),
    }
}

/// The cells and seeds that are asked for.
fn rows(run: &Path, plan: &Plan, which: &Exported) -> Result<Vec<(Cell, Vec<u64>)>> {
    let cells = cells(plan)?;
    let known = |what: &str, asked: &[String], names: Vec<&str>| {
        let unknown = asked.iter().find(|name| !names.contains(&name.as_str()));
        unknown.map_or(Ok(()), |unknown| {
            let mut names = names;
            names.dedup();
            Err(Error::recipe(format!(
                "--{what} `{unknown}`: {} has {}",
                run.display(),
                names.join(", ")
            )))
        })
    };
    known("base", &which.bases, cells.iter().map(|cell| cell.base.as_str()).collect())?;
    known("method", &which.methods, cells.iter().map(|cell| cell.method_name.as_str()).collect())?;
    let all = &plan.recipe.run.seeds;
    if let Some(unknown) = which.seeds.iter().find(|seed| !all.contains(seed)) {
        let all: Vec<String> = all.iter().map(u64::to_string).collect();
        let what = format!("--seed {unknown}: {} has {}", run.display(), all.join(", "));
        return Err(Error::recipe(what));
    }
    let is_asked = |asked: &[String], name: &String| asked.is_empty() || asked.contains(name);
    let asked = cells.into_iter().filter(|cell| {
        is_asked(&which.bases, &cell.base) && is_asked(&which.methods, &cell.method_name)
    });
    let seeds: Vec<u64> = all
        .iter()
        .copied()
        .filter(|seed| which.seeds.is_empty() || which.seeds.contains(seed))
        .collect();
    Ok(asked.map(|cell| (cell, seeds.clone())).collect())
}

fn write(file: &Path, value: &Value) -> Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(Error::io(folder, "creating the folder"))?;
    write_json(file, value)
}

fn tell_empty(name: &str) {
    info!("{name}: there are no responses, and it is left out");
}
