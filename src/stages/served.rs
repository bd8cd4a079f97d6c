//! Bases and guides that others serve: how one is opened for a cell, where answers are kept, and
//! what a cell has cost. How a server is asked is left to `policy` and `score`.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::cells::Cell;
use super::context::Context;
use super::run::write_json;
use super::tasks::{Task, tasks};
use crate::artifacts::{Shard, journal};
use crate::engine::SteerSettings;
use crate::error::Result;
use crate::policy::remote::{Asking, Paid, Receipt, RemoteBase, Server};
use crate::recipe::{Api, GuideSource, Stage, tokenizer_folder};
use crate::report::Served;
use crate::score::{Half, Kept, ServedGuide};
use crate::text::Tokenizer;

/// Where answers of servers are kept, relative to the run directory.
const FOLDER: &str = "requests";

/// The servers of one run, each asked once what it is.
#[derive(Default)]
pub struct Servers {
    known: HashMap<String, Server>,
    tokenizers: HashMap<String, Rc<Tokenizer>>,
    guides: HashMap<String, Rc<ServedGuide>>,
}

/// What is known of a server for those who read results.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    model: Option<String>,
    dialect: String,
    /// Settings of the sampling that it cannot take and that were left out.
    dropped: Vec<String>,
    facts: serde_json::Value,
}

impl Servers {
    /// The base of a cell.
    pub fn open(
        &mut self,
        context: &Context,
        (cell, api): (&Cell, &Api),
        settings: &SteerSettings,
        (seed, shard): (u64, Option<Shard>),
    ) -> Result<RemoteBase> {
        let name = cell.base.as_str();
        let (server, asking) =
            (self.server(name, api)?, self.asking(context, name, api, settings)?);
        let (own, others) = own_and_others(context, name, shard)?;
        let paid = Paid::open(&own, &others, &cell.name(seed))?;
        let base = RemoteBase::new(server, asking, Some(paid))?;
        base.tell_dropped();
        let (server, dropped) = (base.server(), base.dropped().to_vec());
        let about = About {
            model: server.model.clone(),
            dialect: server.dialect.name().to_owned(),
            dropped,
            facts: serde_json::json!(server.facts),
        };
        write_json(&context.run.path(&format!("{FOLDER}/{name}.json")), &about)?;
        Ok(base)
    }

    fn asking(
        &mut self,
        context: &Context,
        name: &str,
        api: &Api,
        settings: &SteerSettings,
    ) -> Result<Asking> {
        Ok(Asking {
            template: context.models.template(name)?,
            tokenizer: self.tokenizer(api)?,
            sampling: settings.sampling,
            stop: settings.stop.clone(),
            max_new_tokens: settings.max_new_tokens,
            unsupported: api.unsupported,
        })
    }

    /// A half of a pair that others serve; `None` for one that is here.
    pub fn guide(
        &mut self,
        context: &Context,
        source: &GuideSource,
        shard: Option<Shard>,
    ) -> Result<Option<Half>> {
        let GuideSource::Model(name) = source else { return Ok(None) };
        let Some(api) = context.recipe().api(name) else { return Ok(None) };
        if let Some(guide) = self.guides.get(name) {
            return Ok(Some(Half::Served(guide.clone())));
        }
        let journal = format!("{name}.scores");
        let (own, others) = own_and_others(context, &journal, shard)?;
        let mut guide = self.open_guide(context, name, api)?;
        guide.keep_in(Kept::open(&own, &others)?);
        let guide = Rc::new(guide);
        self.guides.insert(name.clone(), guide.clone());
        Ok(Some(Half::Served(guide)))
    }

    fn open_guide(&mut self, context: &Context, name: &str, api: &Api) -> Result<ServedGuide> {
        let folder = tokenizer_folder(&context.models.folder(name)?);
        ServedGuide::open(self.server(name, api)?, &folder, context.models.template(name)?)
    }

    fn server(&mut self, name: &str, api: &Api) -> Result<Server> {
        if let Some(server) = self.known.get(name) {
            return Ok(server.clone());
        }
        let server = Server::open(&format!("models.{name}.api"), api)?;
        self.known.insert(name.to_owned(), server.clone());
        Ok(server)
    }

    fn tokenizer(&mut self, api: &Api) -> Result<Option<Rc<Tokenizer>>> {
        let Some(folder) = &api.tokenizer else { return Ok(None) };
        if let Some(tokenizer) = self.tokenizers.get(folder) {
            return Ok(Some(tokenizer.clone()));
        }
        let tokenizer = Rc::new(Tokenizer::open(&tokenizer_folder(folder.as_ref()))?);
        self.tokenizers.insert(folder.clone(), tokenizer.clone());
        Ok(Some(tokenizer))
    }
}

/// Asks the servers of all bases that are still to be steered, and of their guides, before any
/// other work: one that is not there, or cannot do what is asked of it, must not show after hours
/// of training.
pub fn check_ahead(context: &Context) -> Result<()> {
    let Some(steer) = &context.recipe().steer else { return Ok(()) };
    let mut servers = Servers::default();
    let (mut guides, mut asked) = (HashSet::new(), HashSet::new());
    for task in tasks(&context.plan, Stage::Steer)? {
        let Task::Steer { cell, .. } = &task else { continue };
        for source in cell.guides.iter().flat_map(|pair| [&pair.tuned, &pair.untuned]) {
            let GuideSource::Model(name) = source else { continue };
            let Some(api) = context.recipe().api(name) else { continue };
            if !guides.contains(name) && !context.is_done(&task)? {
                servers.open_guide(context, name, api)?;
                guides.insert(name.clone());
            }
        }
        let Some(api) = context.recipe().api(&cell.base) else { continue };
        let tilts = cell.method.proposal.tilt().is_some_and(|weight| weight != 0.0);
        let question = (cell.base.clone(), tilts);
        if asked.contains(&question) || context.is_done(&task)? {
            continue;
        }
        let answering = steer.answering(context.recipe(), &cell.base);
        let settings = SteerSettings::of(steer, answering);
        let server = servers.server(&cell.base, api)?;
        let asking = servers.asking(context, &cell.base, api, &settings)?;
        let base = RemoteBase::new(server, asking, None)?;
        if tilts {
            base.check_tilt()?;
        }
        asked.insert(question);
    }
    Ok(())
}

/// The name of a shard's journal, or of the run's own.
fn journal_name(model: &str, shard: Option<Shard>) -> String {
    match shard {
        Some(shard) => format!("{model}.shard-{}", shard.tag()),
        None => model.to_owned(),
    }
}

/// The journal of a shard, and those of all others.
fn own_and_others(
    context: &Context,
    model: &str,
    shard: Option<Shard>,
) -> Result<(PathBuf, Vec<PathBuf>)> {
    let own = context.run.path(&format!("{FOLDER}/{}.jsonl", journal_name(model, shard)));
    let others = journals(context, model)?.into_iter().filter(|other| *other != own).collect();
    Ok((own, others))
}

/// All journals of a model.
fn journals(context: &Context, model: &str) -> Result<Vec<PathBuf>> {
    let Ok(entries) = std::fs::read_dir(context.run.path(FOLDER)) else { return Ok(Vec::new()) };
    let is_of_model = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let stem = name.strip_suffix(".jsonl").and_then(|name| name.strip_prefix(model));
        stem.is_some_and(|rest| {
            let shard = rest.strip_prefix(".shard-");
            rest.is_empty() || shard.is_some_and(|tag| Shard::from_tag(tag).is_some())
        })
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut all: Vec<PathBuf> = paths.filter(is_of_model).collect();
    all.sort();
    Ok(all)
}

/// What the answers of a model have cost, by the task that asked first; `None` for a model that is
/// here.
pub fn costs(context: &Context, model: &str) -> Result<Option<HashMap<String, Served>>> {
    let Some(api) = context.recipe().api(model) else { return Ok(None) };
    let mut costs: HashMap<String, Served> = HashMap::new();
    for file in journals(context, model)? {
        for (receipt, _) in journal::complete_lines::<Receipt>(&file)? {
            let Receipt { task, given, prompt_tokens, completion_tokens, .. } = receipt;
            let cached = given.cached_tokens.unwrap_or(0).min(prompt_tokens);
            let tokens = [prompt_tokens, cached, completion_tokens];
            costs.entry(task).or_default().add(tokens, &api.budget);
        }
    }
    Ok(Some(costs))
}

/// Settings of the sampling that the server of a model could not take.
pub fn dropped(context: &Context, model: &str) -> Vec<String> {
    let file = context.run.path(&format!("{FOLDER}/{model}.json"));
    let about = std::fs::read_to_string(file).ok();
    let about = about.and_then(|text| serde_json::from_str::<About>(&text).ok());
    about.map_or_else(Vec::new, |about| about.dropped)
}
