//! Stage order: what a run does, and what `--only`, `--from`, `--fresh` and `--shard` change about
//! it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tracing::{info, warn};

use crate::artifacts::{Manifest, RunDir, Shard, atomic};
use crate::error::{Error, Result};
use crate::http::Secret;
use crate::models::{self, check_lm_folder, check_resumes, tokenizer_and_context};
use crate::prompt::PromptText;
use crate::recipe::{
    Counts, GoldRewardModel, JudgeSource, LmSizes, Lora, Plan, Recipe, RewardServer, Stage,
    chat_template, config_folder,
};
use crate::report::Summary;
use crate::score::JudgeModel;
use crate::stages::tasks::{SUMMARY, Task};
use crate::stages::{self, Context, shards};
use crate::text::{
    DataReport, LearnedPrompts, PairRow, PairRows, bos_problems, ends_otherwise, load_pair_rows,
    pair_problems, said_twice,
};

/// What `w2s run` was asked beyond the recipe.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Only these stages; empty for all.
    pub only: Vec<Stage>,
    /// Does this stage and all after it anew.
    pub from: Option<Stage>,
    /// Empties the run directory first.
    pub fresh: bool,
    /// Does this share of the steer stage and nothing else.
    pub shard: Option<Shard>,
}

/// Runs the plan's stages in `dir`, continuing where an earlier run of the same recipe stopped.
/// Returns the summary if there is one.
pub fn run(
    plan: Plan,
    recipe_text: &str,
    dir: &Path,
    options: &RunOptions,
) -> Result<Option<Summary>> {
    let stages = chosen_stages(&plan, options)?;
    let Preflight { problems, warnings, .. } = preflight(&plan.recipe);
    if !problems.is_empty() {
        return Err(Error::Recipe(problems));
    }
    warnings.iter().for_each(|warning| warn!("{warning}"));
    if let Some(shard) = options.shard {
        let context = Context::new(plan, RunDir::open_shard(dir, shard)?, false)?;
        info!("run directory {}: shard {shard} of stage steer", dir.display());
        stages::run_shard(&context, shard)?;
        return Ok(None);
    }
    if options.fresh && !options.only.is_empty() {
        stages::check_fresh(&stages, &plan)?;
    }
    let resolved =
        serde_json::to_string_pretty(&plan).map_err(|error| Error::failed(error.to_string()))?;
    let context = Context::new(plan, RunDir::open(dir)?, options.fresh)?;
    if let Some(from) = options.from {
        if from <= Stage::Steer {
            shards::discard(&context)?;
        }
        context.forget(stages.iter().copied().filter(|stage| *stage >= from))?;
    }
    let reads_shards = stages.iter().any(|stage| matches!(stage, Stage::Steer | Stage::Evaluate));
    if reads_shards {
        shards::merge(&context)?;
    }
    if !options.only.is_empty() {
        stages::check_inputs(&stages, &context)?;
    }
    atomic::write(&context.run.path("recipe.toml"), recipe_text.as_bytes())?;
    atomic::write(&context.run.path("plan.json"), format!("{resolved}\n").as_bytes())?;
    info!("run directory {}: stages {}", dir.display(), names(&stages));
    context.tell_left_overs()?;
    let warnings = context.plan.warnings().into_iter().chain(notes(&context.plan.recipe));
    warnings.for_each(|warning| warn!("{warning}"));
    stages::check_ahead(&stages, &context)?;
    for stage in &stages {
        stages::run(*stage, &context)?;
    }
    if reads_shards {
        shards::tidy(&context)?;
    }
    context.tell_outdated(&stages)?;
    // Without its stage, a summary that lies there may be another recipe's.
    if stages.contains(&Stage::Evaluate) { read_summary(dir) } else { Ok(None) }
}

/// The stages of the plan that the options leave.
///
/// # Errors
/// Where a stage is named that the plan does not have, or that `--only` leaves out.
fn chosen_stages(plan: &Plan, options: &RunOptions) -> Result<Vec<Stage>> {
    let stages: Vec<Stage> = plan
        .stages
        .iter()
        .copied()
        .filter(|stage| options.only.is_empty() || options.only.contains(stage))
        .collect();
    if let Some(absent) =
        options.only.iter().chain(&options.from).find(|stage| !plan.stages.contains(stage))
    {
        return Err(Error::recipe(format!(
            "the recipe has no stage `{}`; its stages are {}",
            absent.name(),
            names(&plan.stages)
        )));
    }
    if let Some(from) = options.from.filter(|from| !stages.contains(from)) {
        let only = options
            .only
            .iter()
            .map(|stage| format!("--only {stage}"))
            .collect::<Vec<_>>()
            .join(" ");
        return Err(Error::recipe(format!(
            "`--from {from}` asks for `{from}` anew, but `{only}` leaves it out\n\nhint: add \
             `--only {from}`, or start from one of those stages"
        )));
    }
    Ok(stages)
}

/// What is found before any work.
pub struct Preflight {
    pub problems: Vec<String>,
    /// What a run does all the same; those of pairs are in their reports, too.
    pub warnings: Vec<String>,
    pub counts: Counts,
    /// What was found of the pairs that are there already, by the table that names them.
    pub pairs: Vec<(&'static str, DataReport)>,
    /// Their prompts.
    pub learned: LearnedPrompts,
}

/// What is wrong with the models and preference pairs that the recipe, whose paths are full, takes
/// from folders and files: configs, headers of weights, adapters, tokenizers, columns. Folders and
/// files that are not there are told by the recipe's own rules.
pub fn preflight(recipe: &Recipe) -> Preflight {
    let folder =
        |id: &Option<String>| id.as_ref().map(PathBuf::from).filter(|folder| folder.is_dir());
    let sampled = recipe.preferences.as_ref().is_some_and(|table| table.source.is_none());
    let tuned = recipe.sft.is_some()
        || recipe.dpo.is_some()
        || recipe.direct.is_some()
        || recipe.ppo.is_some();
    let generates = sampled || tuned || recipe.steer.is_some();
    let models = recipe
        .models
        .iter()
        .filter_map(|(name, model)| Some((format!("models.{name}.id"), folder(&model.id)?)));
    let mut problems: Vec<String> = models
        .filter_map(|(key, folder)| {
            Some(format!("`{key}`: {}", check_lm_folder(&folder, generates).err()?))
        })
        .chain(pair_problems(recipe))
        .chain(bos_problems(recipe))
        .collect();
    for (name, table) in recipe.lora_starts() {
        let Some(folder) = recipe.models.get(name).and_then(|model| folder(&model.id)) else {
            continue;
        };
        let lora = Lora::resolve(table, LmSizes::of_folder(&config_folder(&folder)).ok().as_ref());
        let key = format!("`models.{name}.id`");
        if !problems.iter().any(|problem| problem.starts_with(&key)) {
            problems
                .extend(check_resumes(&folder, &lora).err().map(|error| format!("{key}: {error}")));
        }
    }
    let (mut counts, mut learned) = (Counts::default(), LearnedPrompts::new(recipe));
    let (mut pairs, mut warnings) = (Vec::new(), Vec::new());
    let sources = recipe.pair_sources().into_iter().filter(|source| source.path().exists());
    for source in sources {
        match load_pair_rows(&source) {
            Ok(mut rows) => {
                let count = Some(rows.train.len());
                if source.table == GoldRewardModel::TABLE {
                    counts.gold_pairs = count;
                } else {
                    counts.pairs = count;
                    problems.extend(without_chat(recipe, &rows));
                    problems.extend(ending_twice(recipe, &rows));
                }
                let rule = recipe.data.as_ref().map(|data| &data.prompt);
                if let Some(otherwise) = rule.and_then(|rule| ends_otherwise(&rows, rule)) {
                    warnings.push(format!("`{}`: {otherwise}", source.table));
                    rows.report.warnings.push(otherwise);
                }
                learned.add(source.table, &rows);
                pairs.push((source.table, rows.report));
            }
            Err(error) => problems.push(format!("`{}`: {error}", source.key("source"))),
        }
    }
    for judge in recipe.judges() {
        let (key, found) = match judge.source {
            JudgeSource::Model(id) => match folder(&Some(id.to_owned())) {
                Some(folder) => ("id", JudgeModel::check_folder(&folder)),
                None => continue,
            },
            JudgeSource::Server(RewardServer { key: Some(key), .. }) => {
                ("key", Secret::of_variable(key).map(drop))
            }
            _ => continue,
        };
        problems.extend(found.err().map(|error| format!("`{}.{key}`: {error}", judge.table())));
    }
    let missing = recipe
        .alpaca_eval()
        .into_iter()
        .filter_map(|table| Secret::of_variable(table.key.as_deref()?).err())
        .map(|error| format!("`evaluate.alpaca_eval.key`: {error}"));
    problems.extend(missing);
    Preflight { problems, warnings, counts, pairs, learned }
}

/// Models that are tuned on pairs whose prompts end in what their templates add.
fn ending_twice(recipe: &Recipe, rows: &PairRows) -> Vec<String> {
    let tuned = tuned_models(recipe);
    let twice = |name: &&str| {
        let prompts = rows.train.iter().map(|row| &row.prompt);
        let problem = said_twice(name, recipe.models.get(*name)?, prompts)?;
        Some(format!("`preferences.source`: {problem}"))
    };
    tuned.iter().filter_map(twice).collect()
}

/// The models of the recipe that are tuned on the pairs.
fn tuned_models(recipe: &Recipe) -> Vec<&str> {
    let direct = recipe.direct_models().iter().map(String::as_str);
    let mut tuned: Vec<&str> = recipe.guide_model().into_iter().chain(direct).collect();
    tuned.dedup();
    tuned
}

/// What keeps models from reading the chats that they are tuned on. One that has a chat template is
/// to read by it, in training as in search; one that has none reads a single turn as a text.
fn without_chat(recipe: &Recipe, rows: &PairRows) -> Vec<String> {
    let all = || rows.train.iter().chain(&rows.validation);
    let is_chat = |row: &&PairRow| matches!(row.prompt, PromptText::Chat(_));
    let Some(first) = all().find(is_chat) else { return Vec::new() };
    let several = all().filter(is_chat).find(|row| row.prompt.single_turn().is_none());
    let tuned = tuned_models(recipe);
    let problem = |name: &str| {
        let model = recipe.models.get(name).filter(|model| model.chat.is_none())?;
        let folder = model.id.as_ref().map(Path::new);
        let template = folder.and_then(|folder| chat_template(folder).ok().flatten());
        match (template, several) {
            (Some(_), _) => Some(format!(
                "`models.{name}.chat` is missing, but the pairs of `preferences.source`, on which \
                 it is tuned, are chats (`{}`)\n\nhint: `chat = {{}}` has it read prompts by its \
                 chat template, in training as in search",
                first.id
            )),
            (None, Some(row)) => Some(format!(
                "`models.{name}` has no chat template, but the pairs of `preferences.source`, on \
                 which it is tuned, are chats of several turns (`{}`)\n\nhint: put a \
                 `chat_template.jinja` into its folder and give it `chat = {{}}`",
                row.id
            )),
            (None, None) => None,
        }
    };
    tuned.into_iter().filter_map(problem).collect()
}

/// What is to be known of the language models that the recipe, whose paths are full, takes from
/// folders: [`models::notes`], once for each folder. A folder that cannot be read is told by
/// [`preflight`].
pub fn notes(recipe: &Recipe) -> Vec<String> {
    let bases = recipe.steer.iter().flat_map(|steer| &steer.bases);
    let policies = recipe.ppo.iter().flat_map(|ppo| &ppo.policy.0);
    let sampled = recipe.preferences.iter().filter_map(|table| table.policy.as_ref());
    let folder = |name: &String| recipe.models.get(name)?.id.as_ref();
    let answering: BTreeSet<&String> =
        bases.chain(policies).chain(sampled).filter_map(folder).collect();
    let mut told = BTreeSet::new();
    let mut all = Vec::new();
    for (name, model) in &recipe.models {
        let Some(id) = model.id.as_ref().filter(|id| told.insert(*id)) else { continue };
        let folder = Path::new(id);
        let notes = tokenizer_and_context(folder)
            .and_then(|(tokenizer, _)| models::notes(folder, &tokenizer, answering.contains(id)));
        let notes = notes.unwrap_or_default().into_iter();
        all.extend(notes.map(|note| format!("`models.{name}.id`: {note}")));
    }
    all
}

/// `told`, what the recipe's rules find wrong, and of `more` (`` `key`: … ``) what they do not say
/// already: of the same key and the same file or field.
pub fn with_more(told: Vec<String>, more: Vec<String>) -> Vec<String> {
    let words = |problem: &str| {
        problem.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
    };
    let is_new = |problem: &String| {
        let own = words(problem);
        let Some((key, about)) = own.split_first().filter(|_| !problem.contains(" problems\n"))
        else {
            return true;
        };
        let says = |other: &String| {
            let words = words(other);
            words.first() == Some(key) && about.iter().any(|word| words[1..].contains(word))
        };
        !told.iter().any(says)
    };
    let new: Vec<String> = more.into_iter().filter(is_new).collect();
    told.into_iter().chain(new).collect()
}

/// The summary of a run directory; `None` before its evaluation.
pub fn read_summary(dir: &Path) -> Result<Option<Summary>> {
    let path: PathBuf = dir.join(SUMMARY);
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| Error::data(&path, None, error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path, "reading")(error)),
    }
}

/// Warns where answers or verdicts were made anew since the summary of a run was.
pub fn tell_outdated_summary(dir: &Path) -> Result<()> {
    const NAMED: usize = 3;
    let manifest = Manifest::load(dir)?;
    let outdated = manifest.outdated_inputs(&Task::Evaluate.name());
    if let Some(named) = outdated.get(..outdated.len().min(NAMED)).filter(|it| !it.is_empty()) {
        let more = outdated.len() - named.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        warn!(
            "{}: the summary is older than what it is of: {}{more}; `w2s run RECIPE --only \
             evaluate` makes it anew",
            dir.display(),
            named.join(", ")
        );
    }
    Ok(())
}

fn names(stages: &[Stage]) -> String {
    stages.iter().map(|stage| stage.name()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_rules_say_is_not_said_again_and_hides_nothing() {
        let told = vec![
            "r.toml: `models.a.id`: `/a` holds no `config.json`\n\nhint: …".to_owned(),
            "r.toml: `models.b.id`: `/b` holds no `tokenizer.json`".to_owned(),
        ];
        let more = [
            "`models.a.id`: /a: there is no `config.json`",
            "`models.a.id`: /a: 2 problems\n  there is no `config.json`\n  cut short",
            "`models.b.id`: /b: `use_dora` = true is not supported",
            "`models.c.id`: /c: there is no `config.json`",
            "the data",
        ]
        .map(str::to_owned);
        let all = with_more(told.clone(), more.to_vec());
        assert_eq!(all, [&told[..], &more[1..]].concat());
    }
}
