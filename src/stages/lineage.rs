//! What a task's result comes from, as one fingerprint: its settings, and the fingerprints of all
//! that it reads, down to the contents of files.
//!
//! What has the same fingerprint has the same result, so it is not made again; what has another is
//! never taken for it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::{Map, Value, json};
use tch::Kind;

use super::annotators::annotator_files;
use super::inputs::Input;
use super::placements::Placements;
use super::tasks::Task;
use crate::artifacts::{FileHashes, fingerprint};
use crate::error::{Error, Result};
use crate::models::contents;
use crate::recipe::{
    Api, GoldRewardModel, JudgeSource, Model, PairSource, Plan, Preferences, tokenizer_folder,
};
use crate::score::JudgeModel;
use crate::text::{dataset_files, holds_out_pairs, holds_out_rows, pair_files};

/// Enters every fingerprint: raised when the program's results change for the same recipe.
const RESULTS_VERSION: u32 = 5;

/// How rows are chosen that are held out of one file. Programs before this one went by the seed.
const BY_HASH: &str = "by hash";

/// The fingerprints of one plan. What files hold is found out once: it stays the same for one run.
pub struct Lineage {
    hashes: Rc<FileHashes>,
    tasks: RefCell<BTreeMap<String, Rc<Known>>>,
    files: RefCell<BTreeMap<(Held, PathBuf), Value>>,
}

/// What a task's result comes from.
pub struct Known {
    pub fingerprint: String,
    /// What the fingerprint stands for: the task's settings, and what each of its inputs is, by its
    /// name.
    pub origin: Value,
}

/// What is read of a folder: two of these may lie in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Held {
    Texts,
    /// Those that a table names.
    Pairs(&'static str),
    Model,
}

impl Lineage {
    pub fn new(hashes: Rc<FileHashes>) -> Self {
        Self { hashes, tasks: RefCell::default(), files: RefCell::default() }
    }

    /// What a task's result comes from.
    ///
    /// # Errors
    /// [`Error::Io`] where a file that it reads cannot be read.
    pub fn of(&self, task: &Task, plan: &Plan, placements: &Placements) -> Result<Rc<Known>> {
        let name = task.name();
        if let Some(known) = self.tasks.borrow().get(&name) {
            return Ok(known.clone());
        }
        let inputs = task.inputs(plan)?;
        let inputs =
            inputs.iter().map(|input| Ok((input.name(), self.of_input(input, plan, placements)?)));
        let inputs = inputs.collect::<Result<Map<String, Value>>>()?;
        let origin = json!({ "settings": task.settings(plan)?, "inputs": inputs });
        let found = Rc::new(Known {
            fingerprint: fingerprint(&[json!(RESULTS_VERSION), json!(name), origin.clone()]),
            origin,
        });
        self.tasks.borrow_mut().insert(name, found.clone());
        Ok(found)
    }

    fn of_input(&self, input: &Input, plan: &Plan, placements: &Placements) -> Result<Value> {
        let recipe = &plan.recipe;
        let made = || -> Result<Value> {
            let made =
                input.made_by(plan).map(|task| self.of(&task, plan, placements)).transpose()?;
            Ok(json!(made.map(|known| known.fingerprint.clone())))
        };
        Ok(match input {
            Input::Result(_) => made()?,
            Input::Model(name) if recipe.api(name).is_some() => self.served(name, plan)?,
            Input::Reading(name) if recipe.api(name).is_some() => {
                json!({ "prompt": model(plan, name)?.prompt_outcome() })
            }
            Input::Model(name) => {
                json!({
                    "weights": self.weights(name, plan, made)?,
                    "reading": self.of_input(&Input::Reading(name.clone()), plan, placements)?
                })
            }
            Input::Body(name) => {
                json!({
                    "weights": self.weights(name, plan, made)?,
                    "precision": precision(placements.model(name)?.kind)
                })
            }
            Input::Reading(name) => {
                json!({
                    "prompt": model(plan, name)?.prompt_outcome(),
                    "precision": precision(placements.model(name)?.kind)
                })
            }
            Input::Judge(name) => {
                let judge = recipe
                    .judge(name)
                    .ok_or_else(|| Error::recipe(format!("the recipe has no judge `{name}`")))?;
                let weights = match judge.source {
                    JudgeSource::Model(id) => self.of_judge(name, Path::new(id), placements)?,
                    JudgeSource::Made => made()?,
                    JudgeSource::Program(program) => self.program(program.words, &plan.folder)?,
                    JudgeSource::Server(server) => server.outcome(),
                };
                json!({ "text": judge.outcome(), "weights": weights })
            }
            Input::Reference => self.reference(plan)?,
            Input::Texts => {
                let data = recipe.data()?;
                let is_one_file = Path::new(&data.source).is_file();
                let mut texts = json!({
                    "data": data.texts_outcome(is_one_file),
                    "files": self.data(plan)?,
                    "seed": recipe.run.seed()
                });
                note_held_out(&mut texts, holds_out_rows(data)?);
                texts
            }
            Input::Prompts => {
                json!({
                    "texts": self.of_input(&Input::Texts, plan, placements)?,
                    "prompt": recipe.data()?.prompt_outcome()
                })
            }
            Input::TestPrompts => {
                let data = recipe.data()?;
                let mut prompts = json!({
                    "data": data.test_outcome(),
                    "prompt": data.prompt_outcome(),
                    "files": self.data(plan)?,
                    "seed": recipe.run.seed(),
                });
                note_held_out(&mut prompts, holds_out_rows(data)?);
                prompts
            }
            // Which of them are prompts is looked at where they are read.
            Input::LearnedPrompts => {
                let sources = recipe.pair_sources();
                let all = sources.iter().map(|source| {
                    Ok(json!({ "pairs": source.outcome(), "files": self.pairs(source)? }))
                });
                json!(all.collect::<Result<Vec<_>>>()?)
            }
            Input::Pairs => {
                let asked = recipe.preferences.as_ref().and_then(Preferences::pair_source);
                let asked =
                    asked.ok_or_else(|| Error::recipe("`[preferences]` has no `source`"))?;
                self.pairs(&asked)?
            }
            Input::GoldPairs => {
                let asked = recipe.gold_reward_model().map(GoldRewardModel::pair_source);
                let asked = asked.ok_or_else(|| Error::recipe("`[gold]` has no `reward_model`"))?;
                self.pairs(&asked)?
            }
        })
    }

    /// Those of a model of the recipe: what its folder holds, or what has `made` it.
    fn weights(&self, name: &str, plan: &Plan, made: impl Fn() -> Result<Value>) -> Result<Value> {
        match &model(plan, name)?.id {
            Some(folder) => self.model_contents(Path::new(folder)),
            None => made(),
        }
    }

    /// Of a model that others serve nothing is known but what it is called, and what it is sent.
    fn served(&self, name: &str, plan: &Plan) -> Result<Value> {
        let model = model(plan, name)?;
        let tokenizer = model.api.as_ref().and_then(|api| api.tokenizer.as_ref());
        let tokenizer = tokenizer.map(|folder| {
            self.hashes.of(&tokenizer_folder(Path::new(folder)).join("tokenizer.json"))
        });
        Ok(json!({
            "served": model.api.as_ref().map(Api::outcome),
            "tokenizer": tokenizer.transpose()?,
            "reading": { "prompt": model.prompt_outcome() },
        }))
    }

    /// A judge that nobody here trains.
    fn of_judge(&self, name: &str, folder: &Path, placements: &Placements) -> Result<Value> {
        // A classifier is f32 whatever is asked for.
        let kind = if JudgeModel::is_classifier_folder(folder)? {
            Kind::Float
        } else {
            placements.judge(name)?.kind
        };
        Ok(json!({ "files": self.model_contents(folder)?, "precision": precision(kind) }))
    }

    /// A program's words as they are written, and what the files among them hold.
    fn program(&self, words: &[String], folder: &Path) -> Result<Value> {
        let files = words.iter().map(|word| folder.join(word)).filter(|path| path.is_file());
        let files = files.map(|path| self.hashes.of(&path)).collect::<Result<Vec<_>>>()?;
        Ok(json!({ "command": words, "files": files }))
    }

    fn pairs(&self, source: &PairSource) -> Result<Value> {
        let held = Held::Pairs(source.table);
        let files = self.contents(held, &source.path(), || pair_files(source))?;
        Ok(match holds_out_pairs(source)? {
            true => json!({ "files": files, "held_out": BY_HASH }),
            false => files,
        })
    }

    /// The reference outputs, and the files of annotators that are the user's.
    fn reference(&self, plan: &Plan) -> Result<Value> {
        let Some(table) = plan.recipe.alpaca_eval() else { return Ok(Value::Null) };
        let files = [PathBuf::from(&table.reference)].into_iter().chain(annotator_files(table)?);
        let files = files.map(|file| self.hashes.of(&file));
        Ok(json!(files.collect::<Result<Vec<_>>>()?))
    }

    fn data(&self, plan: &Plan) -> Result<Value> {
        let data = plan.recipe.data()?;
        self.contents(Held::Texts, Path::new(&data.source), || dataset_files(data))
    }

    /// Names and hashes of the files of a data folder, or the hash of the one file that `source`
    /// is: names below the folder say which split a file is of, and in which order.
    fn contents(
        &self,
        what: Held,
        source: &Path,
        files: impl Fn() -> Result<Vec<PathBuf>>,
    ) -> Result<Value> {
        self.once(what, source, || {
            let name = |file: &Path| {
                file.strip_prefix(source).unwrap_or(file).to_string_lossy().into_owned()
            };
            Ok(json!(
                files()?
                    .iter()
                    .map(|file| Ok((name(file), self.hashes.of(file)?)))
                    .collect::<Result<Vec<_>>>()?
            ))
        })
    }

    /// What a model's folder holds, wherever it lies.
    fn model_contents(&self, folder: &Path) -> Result<Value> {
        self.once(Held::Model, folder, || contents(folder, &|file| self.hashes.of(file)))
    }

    fn once(&self, what: Held, path: &Path, look: impl FnOnce() -> Result<Value>) -> Result<Value> {
        let key = (what, path.to_owned());
        if let Some(known) = self.files.borrow().get(&key) {
            return Ok(known.clone());
        }
        // One hash stands for however many files there are.
        let found = json!(fingerprint(&[look()?]));
        self.files.borrow_mut().insert(key, found.clone());
        Ok(found)
    }
}

fn model<'a>(plan: &'a Plan, name: &str) -> Result<&'a Model> {
    plan.recipe
        .models
        .get(name)
        .ok_or_else(|| Error::recipe(format!("no model `{name}` in the recipe")))
}

/// Says of what is read that part of it is held out.
fn note_held_out(read: &mut Value, holds_out: bool) {
    if holds_out {
        read["held_out"] = json!(BY_HASH);
    }
}

/// The precision of weights at inference; where they are is no part of a result.
fn precision(kind: Kind) -> Value {
    json!(format!("{kind:?}"))
}
