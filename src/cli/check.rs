//! `w2s check`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{hub, print, recipe_file};
use crate::error::{Error, Result};
use crate::hub::Files;
use crate::pipeline::{self, Preflight};
use crate::prompt::Prompt;
use crate::recipe::{
    self, Counts, Plan, PromptRule, Recipe, Steer, hub_base, hub_dataset, hub_model,
};
use crate::stages;
use crate::text::{
    DataReport, Dataset, Split, TestPrompts, answered_before, load_dataset, plan_report,
    prompts_of_reference, read_reference_outputs, said_twice,
};

#[derive(Debug, Args)]
pub struct CheckCommand {
    #[arg(required_unless_present = "schema")]
    recipe: Option<PathBuf>,
    /// Override a key of the recipe, for example `steer.prompts=50`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print every key with its value and what it means, instead of the plan
    #[arg(long)]
    keys: bool,
    /// Print the JSON schema of recipes, by which editors complete and check them
    #[arg(long, conflicts_with_all = ["recipe", "set", "keys"])]
    schema: bool,
}

impl CheckCommand {
    pub fn execute(self) -> Result<()> {
        let Some(path) = self.recipe else {
            let schema = serde_json::to_string_pretty(recipe::schema());
            return print(&schema.map_err(|error| Error::failed(error.to_string()))?);
        };
        let asked = recipe_file::load(&path, &self.set)?;
        let planned = hub::resolve(&asked, &path, Files::WithoutWeights)
            .and_then(|recipe| Plan::new(recipe, &path));
        let (told, plan) = match planned {
            Ok(plan) => (Vec::new(), Some(plan)),
            Err(Error::Recipe(problems)) => (problems, None),
            Err(other) => return Err(other),
        };
        let Findings { problems, counts, data, pairs } = match &plan {
            Some(plan) => find(&asked, &plan.recipe, &path),
            None => find(&asked, &recipe::with_joined_paths(&asked, &path), &path),
        };
        let problems = pipeline::with_more(told, problems);
        let Some(mut plan) = plan.filter(|_| problems.is_empty()) else {
            return Err(Error::Recipe(problems));
        };
        if self.keys {
            plan.recipe = hub::as_written(&plan.recipe, &asked, &path);
            return print(plan.explain().trim_end());
        }
        plan.counts = counts;
        let vocabularies = plan_report(&plan)?;
        let notes = pipeline::notes(&plan.recipe);
        plan.recipe = hub::as_written(&plan.recipe, &asked, &path);
        let data = data.iter().map(|report| words("data files", report));
        let pairs = pairs.iter().map(|(table, report)| match *table {
            "preferences" => words("pair files", report),
            table => words(&format!("pair files of {table}"), report),
        });
        let read = data.chain(pairs).collect::<Vec<_>>();
        let judgements = stages::judgements(&plan)?;
        let parts = [plan.describe(), judgements, vocabularies, of_models(&notes)]
            .into_iter()
            .chain(read)
            .filter(|part| !part.is_empty());
        print(parts.collect::<Vec<_>>().join("\n").trim_end())
    }
}

/// What the data that lies here is like.
struct Findings {
    problems: Vec<String>,
    counts: Counts,
    data: Option<DataReport>,
    /// By the table that names them.
    pairs: Vec<(&'static str, DataReport)>,
}

/// What a run would trip over later: model folders and data that lie here. Of hub models only
/// config and tokenizer are at hand, which [`hub::resolve`] has looked at, and of a hub data set
/// nothing.
fn find(asked: &Recipe, recipe: &Recipe, path: &Path) -> Findings {
    let folder = path.parent().unwrap_or(Path::new(""));
    let is_hub = |id: &Option<String>| id.as_ref().is_some_and(|id| stands_on_hub(folder, id));
    let mut local = recipe.clone();
    local.models.retain(|name, _| !is_hub(&asked.models[name].id));
    local.gold = local.gold.filter(|_| asked.gold.as_ref().is_some_and(|gold| !is_hub(&gold.id)));
    local.judges.retain(|name, _| !is_hub(&asked.judges[name].id));
    let Preflight { mut problems, mut counts, pairs, learned, warnings: _ } =
        pipeline::preflight(&local);
    let mut data = None;
    let lies_here =
        |source: &str| hub_dataset(folder, source).is_none() && !source.starts_with("builtin:");
    if let (Some(asked), Some(table), Some(seed)) =
        (&asked.data, &recipe.data, recipe.run.seeds.first())
        && lies_here(&asked.source)
        && Path::new(&table.source).exists()
    {
        match load_dataset(table, *seed) {
            Ok(read) => {
                counts.texts = Some(read.train.len());
                problems.extend(lacking(recipe, &read).map(|error| error.to_string()));
                if let Some(steer) = &recipe.steer {
                    let found = read.test_prompts(table, *seed, steer.prompts, &learned);
                    problems.extend(found.too_few(table, steer.prompts));
                    problems.extend(misread_prompts(recipe, steer, &found, &table.prompt));
                    problems.extend(unlike_reference(recipe, found.taken(steer.prompts)));
                }
                data = Some(read.report);
            }
            Err(error) => problems.push(error.to_string()),
        }
    }
    Findings { problems, counts, data, pairs }
}

/// What a stage reads of the texts that they do not have.
fn lacking(recipe: &Recipe, dataset: &Dataset) -> Option<Error> {
    let is_learned = recipe.models.values().any(|model| model.scratch.is_some());
    let is_labelled = recipe.gold.as_ref().is_some_and(|gold| gold.scratch.is_some());
    let texts = (is_learned || is_labelled).then(|| dataset.texts(Split::Train).map(drop));
    let labels = is_labelled.then(|| dataset.labels(Split::Train).map(drop));
    texts.and_then(Result::err).or_else(|| labels.and_then(Result::err))
}

/// What the templates and exemplars of models that are steered, or steer, do not go with in the
/// test prompts, which are as `rule` makes them.
fn misread_prompts(
    recipe: &Recipe,
    steer: &Steer,
    TestPrompts { prompts, .. }: &TestPrompts,
    rule: &PromptRule,
) -> Vec<String> {
    let bases = steer.bases.iter().map(String::as_str);
    let names: BTreeSet<&str> = bases.chain(recipe.guide_models()).collect();
    let models = names.iter().filter_map(|name| Some((*name, recipe.models.get(*name)?)));
    let problems = models.flat_map(|(name, model)| {
        let texts = prompts.iter().map(|prompt| &prompt.text);
        [said_twice(name, model, texts), answered_before(name, model, prompts, rule)]
    });
    problems.flatten().collect()
}

/// Why the reference outputs of `[evaluate.alpaca_eval]` are none for these prompts. A file that is
/// not there is told by the recipe's own rules.
fn unlike_reference(recipe: &Recipe, prompts: Vec<Prompt>) -> Option<String> {
    let file = Some(Path::new(&recipe.alpaca_eval()?.reference)).filter(|file| file.is_file())?;
    let unlike = read_reference_outputs(file)
        .and_then(|reference| prompts_of_reference(file, &reference, &prompts));
    unlike.err().map(|error| format!("`evaluate.alpaca_eval.reference`: {error}"))
}

/// What is to be known of the models, as a paragraph of the plan.
fn of_models(notes: &[String]) -> String {
    let lines: String = notes.iter().map(|note| format!("  warning: {note}\n")).collect();
    if lines.is_empty() { lines } else { format!("model folders\n{lines}") }
}

/// Whether weights of the model may not be here: those of a hub id, or of an adapter's base.
fn stands_on_hub(folder: &Path, id: &str) -> bool {
    hub_model(folder, id).is_some() || hub_base(&folder.join(id)).is_some()
}

/// A paragraph of the plan.
fn words(what: &str, report: &DataReport) -> String {
    let warnings = report.warnings.iter().map(|warning| format!("  warning: {warning}\n"));
    let lines = report.lines.iter().map(|line| format!("  {line}\n"));
    format!("{what}\n{}", lines.chain(warnings).collect::<String>())
}
