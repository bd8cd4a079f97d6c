//! What every stage needs: the plan, the run directory with its manifest, the data, and where models lie.

use std::cell::{OnceCell, RefCell, RefMut};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};
use tch::{Device, Kind};
use tracing::{debug, info, warn};

use super::tuning::Tuning;
use crate::artifacts::{FileHashes, Manifest, Reach, RunDir, atomic, fingerprint, interrupt};
use crate::error::{Error, Result};
use crate::models::memory::{self, MainMemory};
use crate::models::{Lm, contents, device, open_with_tokenizer};
use crate::recipe::{Dtype, GuideSource, Model, Plan, Recipe, Stage, bytes_in_words, memory_estimate};
use crate::score::GoldReward;
use crate::text::{DataReport, Dataset, PromptTemplate, Prompts, Split, Tokenizer, dataset_files, load_dataset};
use crate::train::Checkpoint;

/// Enters every fingerprint: raised when the program's results change for the same recipe.
const RESULTS_VERSION: u32 = 4;

/// One run, opened: its directory is locked until this is dropped.
pub struct Context {
    pub plan: Plan,
    /// Of every model of the recipe.
    placements: BTreeMap<String, Placement>,
    gold: Placement,
    run: RunDir,
    manifest: RefCell<Manifest>,
    dataset: OnceCell<Dataset>,
    hashes: FileHashes,
    /// What inputs were when they were first looked at.
    inputs: RefCell<BTreeMap<(Input, PathBuf), Value>>,
}

/// What is read of a folder: two of these may lie in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Input {
    Texts,
    Pairs,
    Model,
}

/// A task as this recipe has it: what it is, from what, and how far it goes where it can go less far.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    pub name: String,
    pub fingerprint: String,
    pub reach: Reach,
}

impl Task {
    pub fn new(name: impl Into<String>, fingerprint: String) -> Self {
        Self { name: name.into(), fingerprint, reach: Reach::new() }
    }
}

/// Where a model is put, and the kind of its weights at inference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placement {
    pub device: Device,
    pub kind: Kind,
}

impl Context {
    /// With `fresh`, the run directory is emptied once all that is asked for is known to be there.
    pub fn new(plan: Plan, run: RunDir, fresh: bool) -> Result<Self> {
        let settings = &plan.recipe.run;
        let place = |device: &Option<String>, dtype: Option<Dtype>| -> Result<Placement> {
            let device = device::parse(device.as_ref().unwrap_or(&settings.device))?;
            Ok(Placement { device, kind: device::inference_kind(dtype.unwrap_or(settings.dtype), device) })
        };
        let models = plan.recipe.models.iter().map(|(name, model)| Ok((name.clone(), place(&model.device, model.dtype)?)));
        let placements = models.collect::<Result<_>>()?;
        let gold = plan.recipe.gold.as_ref().map_or_else(|| place(&None, None), |gold| place(&gold.device, gold.dtype))?;
        if fresh {
            run.clear(&Stage::ALL.map(Stage::writes).concat())?;
        }
        let manifest = RefCell::new(Manifest::load(run.path())?);
        let hashes = FileHashes::load(run.join("state/hashes.json"));
        Ok(Self { plan, placements, gold, run, manifest, dataset: OnceCell::new(), hashes, inputs: RefCell::default() })
    }

    /// Forgets that tasks of these stages were done.
    pub fn forget(&self, stages: &[&str]) -> Result<()> {
        self.manifest.borrow_mut().forget(|task| stages.contains(&task.split('/').next().unwrap_or(task)))
    }

    pub fn recipe(&self) -> &Recipe {
        &self.plan.recipe
    }

    /// Of the run; shards only read it.
    pub(super) fn manifest(&self) -> RefMut<'_, Manifest> {
        self.manifest.borrow_mut()
    }

    pub(super) fn run(&self) -> &RunDir {
        &self.run
    }

    pub fn run_dir(&self) -> &Path {
        self.run.path()
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.run.join(relative)
    }

    /// Drives data, training and preferences.
    pub fn seed(&self) -> u64 {
        self.recipe().run.seed()
    }

    pub fn dataset(&self) -> Result<&Dataset> {
        if let Some(dataset) = self.dataset.get() {
            return Ok(dataset);
        }
        let dataset = load_dataset(&self.recipe().data, self.seed())?;
        tell("data", &dataset.report);
        Ok(self.dataset.get_or_init(|| dataset))
    }

    /// Of the first `count` texts of a split; see [`Dataset::prompts`].
    pub fn prompts(&self, split: Split, count: usize) -> Result<Prompts> {
        Ok(self.dataset()?.prompts(split, &self.recipe().data.prompt, self.seed(), count))
    }

    pub fn is_done(&self, task: &Task) -> bool {
        self.manifest.borrow().is_done(&task.name, &task.fingerprint, &task.reach, &self.hashes)
    }

    /// Whether what lies at the task's outputs is part of its work.
    pub(super) fn continues(&self, task: &Task) -> bool {
        self.manifest.borrow().continues(&task.name, &task.fingerprint, &task.reach, &self.hashes)
    }

    /// Records a begun task as done; `outputs` are relative to the run directory.
    pub(super) fn finish(&self, task: &Task, outputs: &[PathBuf], seconds: f64) -> Result<()> {
        self.manifest.borrow_mut().finish(&task.name, outputs, seconds, &task.reach, &self.hashes)
    }

    /// Runs one task unless the manifest says that it is done. `work` learns whether partial results of the same task may be continued;
    /// otherwise they have been removed.
    pub fn task(&self, task: &Task, outputs: &[&str], work: impl FnOnce(bool) -> Result<()>) -> Result<()> {
        let Task { name, fingerprint, .. } = task;
        if self.is_done(task) {
            info!("{name}: done already");
            return Ok(());
        }
        interrupt::check()?;
        self.check_memory(name)?;
        debug!("{name}: fingerprint {fingerprint}");
        let resume = self.continues(task);
        if !resume {
            if self.manifest.borrow().was_done(name) {
                warn!("{name}: was done with other settings, inputs or files; what it left is replaced");
            } else if self.manifest.borrow().was_begun(name) {
                warn!("{name}: was interrupted under other settings or inputs; it starts anew");
            }
            // Before the task is begun: a kill in between must not leave another task's files as this one's partial work.
            for partial in outputs {
                remove(&self.path(partial))?;
            }
            self.checkpoint(name).remove()?;
        }
        self.manifest.borrow_mut().begin(name, fingerprint)?;
        info!("{name}: {}", if resume { "continuing" } else { "starting" });
        let started = Instant::now();
        work(resume)?;
        let outputs: Vec<PathBuf> = outputs.iter().map(PathBuf::from).collect();
        self.finish(task, &outputs, started.elapsed().as_secs_f64())?;
        self.checkpoint(name).remove()?;
        info!("{name}: done in {:.1} s", started.elapsed().as_secs_f64());
        Ok(())
    }

    /// Refuses a training whose weights, gradients and moments do not fit into main memory, with the sum, before the kernel ends it on the way;
    /// warns where its texts may make it larger than that. Steering plans for itself.
    fn check_memory(&self, task: &str) -> Result<()> {
        let trains = |stage: Stage| !matches!(stage, Stage::Preferences | Stage::Steer | Stage::Evaluate);
        let stage = task.split('/').next().unwrap_or(task);
        let estimates = memory_estimate(&self.plan);
        let Some(need) = estimates.into_iter().find(|need| need.stage.name() == stage && trains(need.stage)) else { return Ok(()) };
        let placement = self.placements.get(&need.model).unwrap_or(&self.gold);
        let lacking = || MainMemory::now().filter(|memory| memory.free < need.bytes());
        if placement.device != Device::Cpu || lacking().is_none() {
            return Ok(());
        }
        memory::return_unused();
        let Some(memory) = lacking() else { return Ok(()) };
        let parts = need.parts.iter().map(|part| format!("  {}: {} = {}", part.name, part.arithmetic, bytes_in_words(part.bytes)));
        let parts = parts.collect::<Vec<_>>().join("\n");
        let (most, least) = (bytes_in_words(need.bytes()), bytes_in_words(need.least_bytes()));
        if need.least_bytes() > memory.free {
            return Err(Error::failed(format!(
                "{task} takes {least} of memory and up to {most} with long texts, and there are {memory}:\n{parts}\n\n\
                 hint: train a smaller model or LoRA adapters, or use a machine or job with more memory"
            )));
        }
        warn!(
            "{task} takes {least} of memory and up to {most} with long texts, and there are {memory}; where it is ended for that, lower \
             `micro_batch_size` or set `activation_checkpointing`\n{parts}"
        );
        Ok(())
    }

    /// Where a training task keeps its checkpoint while it runs.
    pub fn checkpoint(&self, task: &str) -> Checkpoint {
        Checkpoint::at(self.path(&format!("state/{}.safetensors", task.replace('/', "-"))))
    }

    /// Fingerprint of a task: its own settings, the fingerprints of what it builds on, and what all results depend on.
    pub fn fingerprint(&self, task: &str, settings: impl Serialize, parents: &[String]) -> Result<String> {
        let settings = serde_json::to_value(settings).map_err(|error| Error::failed(format!("{task}: {error}")))?;
        Ok(fingerprint(&[json!(RESULTS_VERSION), json!(task), settings, json!(parents)]))
    }

    /// Fingerprint of the texts to train and to validate on.
    pub fn texts_fingerprint(&self) -> Result<String> {
        let data = &self.recipe().data;
        let is_one_file = Path::new(&data.source).is_file();
        Ok(fingerprint(&[data.texts_outcome(is_one_file), self.data_contents()?, json!(self.seed())]))
    }

    /// Fingerprint of the prompts that are made of these texts.
    pub fn prompts_fingerprint(&self) -> Result<String> {
        Ok(fingerprint(&[json!(self.texts_fingerprint()?), self.recipe().data.prompt.outcome()]))
    }

    /// Fingerprint of the prompts that are made of the test texts, however many of them are asked for.
    pub fn test_prompts_fingerprint(&self) -> Result<String> {
        let data = &self.recipe().data;
        Ok(fingerprint(&[data.test_outcome(), data.prompt.outcome(), self.data_contents()?, json!(self.seed())]))
    }

    fn data_contents(&self) -> Result<Value> {
        let data = &self.recipe().data;
        self.contents(Input::Texts, Path::new(&data.source), &dataset_files(data)?)
    }

    /// Names and hashes of the files of a data folder, or the hash of the one file that `source` is: names below the folder say which split a
    /// file is of, and in which order.
    pub(super) fn contents(&self, what: Input, source: &Path, files: &[PathBuf]) -> Result<Value> {
        self.input(what, source, || {
            let name = |file: &Path| file.strip_prefix(source).unwrap_or(file).to_string_lossy().into_owned();
            Ok(json!(files.iter().map(|file| Ok((name(file), self.hashes.of(file)?))).collect::<Result<Vec<_>>>()?))
        })
    }

    /// Fingerprint of a model's weights, their precision, and how it is prompted.
    pub fn model_fingerprint(&self, name: &str) -> Result<String> {
        let model = self.model(name)?;
        let weights = match &model.id {
            Some(folder) => self.model_contents(Path::new(folder))?,
            None => json!(super::pretrain::fingerprint(self, name)?),
        };
        Ok(fingerprint(&[model.prompt_outcome(), weights, precision(self.placement(name)?.kind)]))
    }

    /// Of a model's folder, wherever it lies.
    pub fn model_contents(&self, folder: &Path) -> Result<Value> {
        self.input(Input::Model, folder, || contents(folder, &|file| self.hashes.of(file)))
    }

    /// What an input is, found out once: it stays the same for one run.
    fn input(&self, what: Input, path: &Path, look: impl FnOnce() -> Result<Value>) -> Result<Value> {
        let key = (what, path.to_owned());
        if let Some(known) = self.inputs.borrow().get(&key) {
            return Ok(known.clone());
        }
        let found = look()?;
        self.inputs.borrow_mut().insert(key, found.clone());
        Ok(found)
    }

    pub fn guide_fingerprint(&self, source: &GuideSource) -> Result<String> {
        match source {
            GuideSource::Model(name) => self.model_fingerprint(name),
            GuideSource::Stage("sft") => super::sft::fingerprint(self, &Tuning::of_guide(self)?),
            GuideSource::Stage(_) => super::dpo::fingerprint(self, &Tuning::of_guide(self)?),
        }
    }

    pub fn model(&self, name: &str) -> Result<&Model> {
        self.recipe().models.get(name).ok_or_else(|| Error::recipe(format!("no model `{name}` in the recipe")))
    }

    /// The folder of a model of the recipe: its `id`, or where pretraining puts it.
    pub fn model_folder(&self, name: &str) -> Result<PathBuf> {
        let model = self.model(name)?;
        Ok(model.id.as_ref().map_or_else(|| self.path(&format!("models/{name}")), PathBuf::from))
    }

    pub fn guide_folder(&self, source: &GuideSource) -> Result<PathBuf> {
        match source {
            GuideSource::Model(name) => self.model_folder(name),
            GuideSource::Stage(stage) => Ok(self.path(stage)),
        }
    }

    /// The recipe's model that a guide descends from; its prompt template is the guide's.
    pub fn guide_model<'a>(&'a self, source: &'a GuideSource) -> Result<&'a str> {
        match source {
            GuideSource::Model(name) => Ok(name),
            GuideSource::Stage(_) => self.recipe().guide_model().ok_or_else(|| Error::recipe("the recipe has no model to tune")),
        }
    }

    pub fn template(&self, name: &str) -> Result<PromptTemplate> {
        Ok(PromptTemplate::of(self.model(name)?))
    }

    /// Where the model `name` of the recipe is put; the guides that descend from it go with it.
    pub fn placement(&self, name: &str) -> Result<Placement> {
        self.placements.get(name).copied().ok_or_else(|| Error::recipe(format!("no model `{name}` in the recipe")))
    }

    /// A frozen model and its tokenizer, put where the recipe puts its model `name`.
    pub fn open(&self, folder: &Path, name: &str) -> Result<(Rc<Lm>, Rc<Tokenizer>)> {
        let Placement { device, kind } = self.placement(name)?;
        let (lm, tokenizer) = open_with_tokenizer(folder, device, kind)?;
        Ok((Rc::new(lm), Rc::new(tokenizer)))
    }

    pub fn open_gold(&self) -> Result<GoldReward> {
        let text = self.recipe().gold.as_ref().and_then(|gold| gold.text.as_deref());
        GoldReward::open(&super::gold::folder(self)?, self.gold.device, self.gold.kind, text)
    }

    /// Where the gold classifier is put.
    pub fn gold_placement(&self) -> Placement {
        self.gold
    }
}

/// Of weights at inference; where they are is no part of a result.
pub(super) fn precision(kind: Kind) -> Value {
    json!(format!("{kind:?}"))
}

/// Which files were read for what, into the log.
pub(super) fn tell(what: &str, report: &DataReport) {
    report.lines.iter().for_each(|line| info!("{what}: {line}"));
    report.warnings.iter().for_each(|warning| warn!("{what}: {warning}"));
}

/// Writes a small report as pretty JSON.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::failed(error.to_string()))?;
    atomic::write(path, format!("{text}\n").as_bytes())
}

/// A file or a folder, if it is there.
pub(super) fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, "removing")(error)),
        _ => Ok(()),
    }
}
