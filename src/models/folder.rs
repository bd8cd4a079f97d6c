//! Models as folders in Hugging Face layout: config.json, generation_config.json and model.safetensors. Tokenizer files are the caller's.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use super::distilbert::{DistilBert, DistilBertConfig};
use super::gpt2::{Gpt2, Gpt2Config, TokenIds};
use super::{CausalLm, init, weights};
use crate::artifacts::atomic;
use crate::error::{Error, Result};

/// The config of a language model, one variant a family.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "model_type", rename_all = "lowercase")]
pub enum LmConfig {
    Gpt2(Gpt2Config),
}

const LM_TYPES: [&str; 1] = ["gpt2"];
const CLASSIFIER_TYPES: [&str; 1] = ["distilbert"];

impl LmConfig {
    fn problems(&self) -> Vec<String> {
        let Self::Gpt2(config) = self;
        config.problems()
    }

    fn build(&self, store: &VarStore, eos_token_ids: Vec<i64>) -> Box<dyn CausalLm> {
        let Self::Gpt2(config) = self;
        Box::new(Gpt2::new(&store.root(), config, eos_token_ids))
    }

    fn eos_token_ids(&self) -> Vec<i64> {
        let Self::Gpt2(config) = self;
        config.eos_token_id.as_ref().map(TokenIds::to_vec).unwrap_or_default()
    }

    fn variable(&self, name: &str) -> Option<String> {
        let Self::Gpt2(config) = self;
        config.variable(name)
    }

    fn initial(&self, name: &str) -> init::Fill {
        let Self::Gpt2(config) = self;
        config.initial(name)
    }

    /// The class that opens the folder in transformers.
    fn architecture(&self) -> &'static str {
        let Self::Gpt2(_) = self;
        "GPT2LMHeadModel"
    }
}

/// A language model with its variables.
pub struct Lm {
    pub model: Box<dyn CausalLm>,
    pub config: LmConfig,
    store: VarStore,
}

impl Lm {
    /// Opens a folder for inference: frozen, its weights converted to `kind` whatever they are stored as.
    pub fn open(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        let mut lm = Self::read(folder, device, kind)?;
        lm.store.freeze();
        Ok(lm)
    }

    /// Opens a folder for training: f32, with gradients.
    pub fn open_trainable(folder: &Path, device: Device) -> Result<Self> {
        Self::read(folder, device, Kind::Float)
    }

    /// A fresh model for training: f32, with gradients, its values decided by `seed` alone.
    ///
    /// # Errors
    /// `Error::Recipe` with everything that is wrong with the config.
    pub fn new(config: LmConfig, seed: u64, device: Device) -> Result<Self> {
        refuse(config.problems(), Error::Recipe)?;
        let store = store(device, Kind::Float);
        let model = config.build(&store, config.eos_token_ids());
        init::fill(&variables(&store), seed, |name| config.initial(name))?;
        Ok(Self { model, config, store })
    }

    fn read(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        let config: LmConfig = read_config(folder, "language models", &LM_TYPES)?;
        refuse(config.problems(), |problems| Error::Model { path: folder.join("config.json"), problems })?;
        let eos_token_ids = generation_eos(folder)?.unwrap_or_else(|| config.eos_token_ids());
        let store = store(device, kind);
        let model = config.build(&store, eos_token_ids);
        weights::load(folder, &variables(&store), |name| config.variable(name))?;
        Ok(Self { model, config, store })
    }

    /// All weights under their Hugging Face names, sorted, each once (a tied head is the embedding). They alias the model's own.
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        variables(&self.store).into_iter().collect()
    }

    pub fn device(&self) -> Device {
        self.store.device()
    }

    pub fn kind(&self) -> Kind {
        self.store.kind()
    }

    /// Saves config.json, generation_config.json (BOS and EOS ids) and model.safetensors, each atomically and the config last.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let info = self.model.info();
        let eos = match info.eos_token_ids[..] {
            [] => Value::Null,
            [one] => json!(one),
            _ => json!(info.eos_token_ids),
        };
        weights::write_tensors(&folder.join("model.safetensors"), &self.parameters(), &[])?;
        write_json(&folder.join("generation_config.json"), &json!({ "bos_token_id": info.bos_token_id, "eos_token_id": eos }))?;
        write_config(folder, &self.config, None, self.config.architecture(), self.store.kind())
    }
}

/// A sequence classifier with its variables.
pub struct Classifier {
    pub model: DistilBert,
    pub config: DistilBertConfig,
    store: VarStore,
    positive: i64,
}

impl Classifier {
    /// Opens a folder for inference: frozen, its weights converted to `kind` whatever they are stored as. Fails if the labels' names
    /// do not say which one is positive.
    pub fn open(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        let mut classifier = Self::read(folder, device, kind)?;
        classifier.store.freeze();
        Ok(classifier)
    }

    /// Opens a folder for training: f32, with gradients.
    pub fn open_trainable(folder: &Path, device: Device) -> Result<Self> {
        Self::read(folder, device, Kind::Float)
    }

    /// A fresh model for training: f32, with gradients, its values decided by `seed` alone.
    ///
    /// # Errors
    /// `Error::Recipe` with everything that is wrong with the config.
    pub fn new(config: DistilBertConfig, seed: u64, device: Device) -> Result<Self> {
        refuse(config.problems(), Error::Recipe)?;
        let classifier = Self::build(config, device, Kind::Float)?;
        init::fill(&variables(&classifier.store), seed, |name| classifier.config.initial(name))?;
        Ok(classifier)
    }

    fn read(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        let mut config: DistilBertConfig = read_config(folder, "classifiers", &CLASSIFIER_TYPES)?;
        config.extra.shift_remove("model_type");
        refuse(config.problems(), |problems| Error::Model { path: folder.join("config.json"), problems })?;
        let classifier = Self::build(config, device, kind)?;
        // Old files hold the constant row 0, 1, 2, … of position ids.
        let variable = |name: &str| (name != "distilbert.embeddings.position_ids").then(|| name.to_owned());
        weights::load(folder, &variables(&classifier.store), variable)?;
        Ok(classifier)
    }

    fn build(config: DistilBertConfig, device: Device, kind: Kind) -> Result<Self> {
        let positive = config.positive_label().map_err(Error::failed)?;
        let store = store(device, kind);
        Ok(Self { model: DistilBert::new(&store.root(), &config), config, store, positive })
    }

    /// ids (batch, seq) i64, mask (batch, seq) bool with the real tokens true; (batch, num_labels) in the weights' kind.
    ///
    /// # Panics
    /// Where libtorch does: ids out of range, or more tokens than `max_position_embeddings`.
    pub fn logits(&self, ids: &Tensor, mask: &Tensor) -> Tensor {
        self.model.forward(ids, mask)
    }

    /// Index of the label that means positive, by its name in the config.
    pub fn positive_label(&self) -> i64 {
        self.positive
    }

    /// All weights under their Hugging Face names, sorted. They alias the model's own.
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        variables(&self.store).into_iter().collect()
    }

    pub fn device(&self) -> Device {
        self.store.device()
    }

    pub fn kind(&self) -> Kind {
        self.store.kind()
    }

    /// Saves config.json and model.safetensors, each atomically and the config last.
    pub fn save(&self, folder: &Path) -> Result<()> {
        weights::write_tensors(&folder.join("model.safetensors"), &self.parameters(), &[])?;
        write_config(folder, &self.config, Some("distilbert"), "DistilBertForSequenceClassification", self.store.kind())
    }
}

/// The kind is set before anything is built, so a large model never exists in f32.
fn store(device: Device, kind: Kind) -> VarStore {
    let mut store = VarStore::new(device);
    store.set_kind(kind);
    store
}

fn variables(store: &VarStore) -> BTreeMap<String, Tensor> {
    store.variables().into_iter().collect()
}

fn refuse(problems: Vec<String>, error: impl FnOnce(Vec<String>) -> Error) -> Result<()> {
    if problems.is_empty() { Ok(()) } else { Err(error(problems)) }
}

/// Reads config.json if its `model_type` is among `supported`.
fn read_config<T: DeserializeOwned>(folder: &Path, what: &str, supported: &[&str]) -> Result<T> {
    let path = folder.join("config.json");
    if !path.is_file() {
        return Err(Error::model(folder, "there is no `config.json`\n\nhint: name a folder with a model in Hugging Face layout"));
    }
    let value = read_json(&path)?;
    let names = supported.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match value.get("model_type").and_then(Value::as_str) {
        Some(found) if supported.contains(&found) => {}
        Some(found) => return Err(Error::model(&path, format!("`model_type` is `{found}`; supported {what}: {names}"))),
        None => return Err(Error::model(&path, format!("there is no `model_type`; supported {what}: {names}"))),
    }
    serde_json::from_value(value).map_err(|error| Error::model(&path, error.to_string()))
}

/// The end-of-sequence ids of generation_config.json, which replace those of the config.
fn generation_eos(folder: &Path) -> Result<Option<Vec<i64>>> {
    #[derive(Deserialize)]
    struct GenerationConfig {
        eos_token_id: Option<TokenIds>,
    }
    let path = folder.join("generation_config.json");
    if !path.is_file() {
        return Ok(None);
    }
    let parsed: GenerationConfig =
        serde_json::from_value(read_json(&path)?).map_err(|error| Error::data(&path, None, error.to_string()))?;
    Ok(parsed.eos_token_id.map(|ids| ids.to_vec()))
}

fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path, "reading"))?;
    serde_json::from_str(&text).map_err(|error| Error::data(path, Some(error.line()), error.to_string()))
}

/// `model_type` is given where the config does not carry it.
fn write_config(folder: &Path, config: &impl Serialize, model_type: Option<&str>, architecture: &str, kind: Kind) -> Result<()> {
    let Value::Object(fields) = serde_json::to_value(config).expect("a config is JSON") else { unreachable!("a config is a table") };
    let mut table = Map::new();
    table.insert("architectures".to_owned(), json!([architecture]));
    if let Some(model_type) = model_type {
        table.insert("model_type".to_owned(), json!(model_type));
    }
    // Newer files say `dtype`; every version of transformers reads `torch_dtype`.
    table.extend(fields.into_iter().filter(|(key, _)| key != "architectures" && key != "dtype"));
    table.insert("torch_dtype".to_owned(), json!(weights::dtype_name(kind)));
    write_json(&folder.join("config.json"), &Value::Object(table))
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    atomic::write_with(path, |file| writeln!(file, "{value:#}"))
}
