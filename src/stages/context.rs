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
use crate::artifacts::{Manifest, RunDir, atomic, fingerprint, hash_file, interrupt};
use crate::error::{Error, Result};
use crate::models::memory::{self, MainMemory};
use crate::models::{Lm, base_of_adapter, device, open_with_tokenizer};
use crate::recipe::{Dtype, GuideSource, Model, Plan, Recipe, Stage, bytes_in_words, memory_estimate};
use crate::score::GoldReward;
use crate::text::{Dataset, Example, PromptTemplate, Tokenizer, dataset_files, first_words_prompt, load_dataset};
use crate::train::Checkpoint;

/// Enters every fingerprint: raised when the program's results change for the same recipe.
const RESULTS_VERSION: u32 = 2;

/// One run, opened: its directory is locked until this is dropped.
pub struct Context {
    pub plan: Plan,
    /// Of every model of the recipe.
    placements: BTreeMap<String, Placement>,
    gold: Placement,
    run: RunDir,
    manifest: RefCell<Manifest>,
    dataset: OnceCell<Dataset>,
    /// Of inputs, by path.
    hashes: RefCell<BTreeMap<PathBuf, Value>>,
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
            run.clear()?;
        }
        let manifest = RefCell::new(Manifest::load(run.path())?);
        Ok(Self { plan, placements, gold, run, manifest, dataset: OnceCell::new(), hashes: RefCell::default() })
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
        self.recipe().run.seeds[0]
    }

    pub fn dataset(&self) -> Result<&Dataset> {
        if let Some(dataset) = self.dataset.get() {
            return Ok(dataset);
        }
        let dataset = load_dataset(&self.recipe().data, self.seed())?;
        Ok(self.dataset.get_or_init(|| dataset))
    }

    /// (id, prompt) of the first `count` of `examples` that are long enough for one; fewer where there are no more.
    pub fn prompts(&self, examples: &[Example], count: usize) -> Vec<(String, String)> {
        let rule = &self.recipe().data.prompt;
        let prompts = examples.iter().filter_map(|example| Some((example.id.clone(), first_words_prompt(example, rule, self.seed())?)));
        prompts.take(count).collect()
    }

    pub fn is_done(&self, task: &str, fingerprint: &str) -> bool {
        self.manifest.borrow().is_done(task, fingerprint)
    }

    /// Runs one task unless the manifest says that it is done. `work` learns whether partial results of the same task may be continued;
    /// otherwise they have been removed.
    pub fn task(&self, name: &str, fingerprint: &str, outputs: &[&str], work: impl FnOnce(bool) -> Result<()>) -> Result<()> {
        if self.manifest.borrow().is_done(name, fingerprint) {
            info!("{name}: done already");
            return Ok(());
        }
        interrupt::check()?;
        self.check_memory(name)?;
        debug!("{name}: fingerprint {fingerprint}");
        let resume = self.manifest.borrow().continues(name, fingerprint);
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
            self.manifest.borrow_mut().begin(name, fingerprint)?;
        }
        info!("{name}: {}", if resume { "continuing" } else { "starting" });
        let started = Instant::now();
        work(resume)?;
        let outputs: Vec<PathBuf> = outputs.iter().map(PathBuf::from).collect();
        self.manifest.borrow_mut().finish(name, &outputs, started.elapsed().as_secs_f64())?;
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

    /// Fingerprint of the data as the recipe asks for it.
    pub fn data_fingerprint(&self) -> Result<String> {
        let data = &self.recipe().data;
        let name = |file: &Path| file.strip_prefix(&data.source).unwrap_or(file).to_string_lossy().into_owned();
        let hashes: Vec<(String, Value)> =
            dataset_files(data)?.iter().map(|file| Ok((name(file), self.hash(file)?))).collect::<Result<_>>()?;
        Ok(fingerprint(&[json!(data), json!(hashes), json!(self.seed())]))
    }

    /// Fingerprint of a model's weights and of how it is prompted.
    pub fn model_fingerprint(&self, name: &str) -> Result<String> {
        let model = self.model(name)?;
        let weights = match &model.id {
            Some(folder) => match base_of_adapter(Path::new(folder))? {
                Some(base) => json!([self.hash(folder)?, self.hash(base)?]),
                None => self.hash(folder)?,
            },
            None => json!(super::pretrain::fingerprint(self, name)?),
        };
        Ok(fingerprint(&[json!(model), weights, json!(format!("{:?}", self.placement(name)?))]))
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

    /// Names and hashes of a file, or of the files of a folder; computed once.
    pub fn hash(&self, path: impl AsRef<Path>) -> Result<Value> {
        let path = path.as_ref();
        if let Some(known) = self.hashes.borrow().get(path) {
            return Ok(known.clone());
        }
        let hash = if path.is_dir() { json!(hash_tree(path)?) } else { json!(hash_file(path)?) };
        self.hashes.borrow_mut().insert(path.to_owned(), hash.clone());
        Ok(hash)
    }
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

/// Names and hashes of the files of a folder.
fn hash_tree(path: &Path) -> Result<Vec<(String, String)>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(Error::io(path, "reading the folder"))?;
    files.retain(|file| file.is_file());
    files.sort();
    files.iter().map(|file| Ok((file.file_name().unwrap_or_default().to_string_lossy().into_owned(), hash_file(file)?))).collect()
}
