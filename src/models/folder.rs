//! Models as folders in Hugging Face layout: `config.json`, `model.safetensors`, `generation_config.json`.

use std::path::{Path, PathBuf};

use rand::rngs::ChaCha8Rng;
use serde::Serialize;
use serde_json::{Value, json};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use super::weights::{WeightFile, write_tensors};
use super::{CausalLm, DistilBert, DistilBertConfig, Gpt2, Gpt2Config, init};
use crate::artifacts::atomic;
use crate::error::{Error, Result};

const WEIGHTS: &str = "model.safetensors";

/// The config of any supported causal language model.
#[derive(Debug, Clone, PartialEq)]
pub enum LmConfig {
    Gpt2(Gpt2Config),
}

/// A causal language model and the variables it is made of.
pub struct Lm {
    pub model: Box<dyn CausalLm>,
    pub config: LmConfig,
    store: VarStore,
}

impl Lm {
    /// Frozen weights in `kind`, whatever float kind the folder holds.
    pub fn open(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        let mut lm = Self::read(folder, device, kind)?;
        lm.store.freeze();
        Ok(lm)
    }

    /// f32 weights that gradients reach.
    pub fn open_trainable(folder: &Path, device: Device) -> Result<Self> {
        Self::read(folder, device, Kind::Float)
    }

    /// A fresh, trainable model.
    pub fn new(config: LmConfig, eos_token_ids: Vec<i64>, rng: &mut ChaCha8Rng, device: Device) -> Result<Self> {
        let lm = Self::build(config, eos_token_ids, device, Kind::Float)?;
        init::gpt2(&lm.parameters(), lm.model.info().n_layer, rng);
        Ok(lm)
    }

    fn read(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        let (config, eos) = read_lm_config(folder)?;
        let lm = Self::build(config, eos, device, kind)?;
        // Buffers that old GPT-2 files carry.
        let ignored = |name: &str| name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
        load(folder, &lm.parameters(), "transformer.", &["lm_head.weight"], ignored)?;
        Ok(lm)
    }

    fn build(config: LmConfig, eos_token_ids: Vec<i64>, device: Device, kind: Kind) -> Result<Self> {
        let mut store = VarStore::new(device);
        store.set_kind(kind); // before anything is built: a large model must never exist in f32
        let LmConfig::Gpt2(gpt2) = &config;
        let model: Box<dyn CausalLm> = Box::new(Gpt2::new(store.root(), gpt2, eos_token_ids));
        Ok(Self { model, config, store })
    }

    pub fn device(&self) -> Device {
        self.model.device()
    }

    /// Every variable once, in the order of the names; a tied head is its embedding.
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        named(&self.store)
    }

    /// Writes config and weights; tokenizer files are the caller's.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let LmConfig::Gpt2(config) = &self.config;
        let info = self.model.info();
        let eos = match info.eos_token_ids[..] {
            [] => Value::Null,
            [one] => json!(one),
            ref many => json!(many),
        };
        let mut fields = to_fields(config)?;
        fields["architectures"] = json!(["GPT2LMHeadModel"]);
        fields["model_type"] = json!("gpt2");
        fields["eos_token_id"] = eos.clone();
        fields["tie_word_embeddings"] = json!(true);
        // We never drop out, and who tunes the folder elsewhere should start from the same model.
        for dropout in ["resid_pdrop", "embd_pdrop", "attn_pdrop"] {
            fields[dropout] = json!(0.0);
        }
        save(folder, fields, &self.parameters())?;
        let generation = json!({ "bos_token_id": info.bos_token_id, "eos_token_id": eos });
        write_pretty(&folder.join("generation_config.json"), &generation)
    }
}

/// Config and end-of-sequence ids; those of `generation_config.json` come first where it has any.
fn read_lm_config(folder: &Path) -> Result<(LmConfig, Vec<i64>)> {
    let path = folder.join("config.json");
    let fields = read_json(&path)?;
    let config = match fields["model_type"].as_str() {
        Some("gpt2") => {
            let config: Gpt2Config = parse(&path, fields.clone())?;
            refuse(&path, config.problems())?;
            LmConfig::Gpt2(config)
        }
        other => return Err(unsupported(&path, other, "gpt2")),
    };
    let mut eos = Vec::new();
    let generation = folder.join("generation_config.json");
    if generation.exists() {
        eos.extend(ids(&read_json(&generation)?["eos_token_id"]));
    }
    for id in ids(&fields["eos_token_id"]) {
        if !eos.contains(&id) {
            eos.push(id);
        }
    }
    Ok((config, eos))
}

/// An id, or a list of them.
fn ids(value: &Value) -> Vec<i64> {
    value.as_array().map_or_else(|| value.as_i64().into_iter().collect(), |ids| ids.iter().filter_map(Value::as_i64).collect())
}

/// A sequence classifier and the variables it is made of.
pub struct Classifier {
    model: DistilBert,
    pub config: DistilBertConfig,
    store: VarStore,
}

impl Classifier {
    pub fn open(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        let path = folder.join("config.json");
        let fields = read_json(&path)?;
        match fields["model_type"].as_str() {
            Some("distilbert") => {}
            other => return Err(unsupported(&path, other, "distilbert")),
        }
        let config: DistilBertConfig = parse(&path, fields)?;
        refuse(&path, config.problems())?;
        if config.positive_label().is_none() {
            return Err(Error::model(&path, "`id2label` must name two labels, one of them POSITIVE (or LABEL_1)"));
        }
        let mut classifier = Self::build(config, device, kind);
        load(folder, &classifier.parameters(), "distilbert.", &[], |_| false)?;
        classifier.store.freeze();
        Ok(classifier)
    }

    /// A fresh, trainable model.
    pub fn new(config: DistilBertConfig, rng: &mut ChaCha8Rng, device: Device) -> Self {
        let classifier = Self::build(config, device, Kind::Float);
        init::bert(&classifier.parameters(), rng);
        classifier
    }

    fn build(config: DistilBertConfig, device: Device, kind: Kind) -> Self {
        let mut store = VarStore::new(device);
        store.set_kind(kind);
        let model = DistilBert::new(store.root(), &config);
        Self { model, config, store }
    }

    pub fn device(&self) -> Device {
        self.model.device()
    }

    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        named(&self.store)
    }

    /// See [`DistilBert::logits`].
    pub fn logits(&self, ids: &Tensor, mask: &Tensor) -> Tensor {
        self.model.logits(ids, mask)
    }

    pub fn save(&self, folder: &Path) -> Result<()> {
        let mut fields = to_fields(&self.config)?;
        fields["architectures"] = json!(["DistilBertForSequenceClassification"]);
        fields["model_type"] = json!("distilbert");
        for dropout in ["dropout", "attention_dropout", "seq_classif_dropout"] {
            fields[dropout] = json!(0.0);
        }
        save(folder, fields, &self.parameters())
    }
}

fn named(store: &VarStore) -> Vec<(String, Tensor)> {
    let mut variables: Vec<(String, Tensor)> = store.variables().into_iter().collect();
    variables.sort_by(|a, b| a.0.cmp(&b.0));
    variables
}

/// Fills `parameters` from the folder's weights. A file may leave out `prefix`, and hold `optional` and `ignored` tensors that no
/// parameter stands for. All missing, unexpected and misshapen tensors are reported together, before anything is copied.
fn load(folder: &Path, parameters: &[(String, Tensor)], prefix: &str, optional: &[&str], ignored: impl Fn(&str) -> bool) -> Result<()> {
    let path = folder.join(WEIGHTS);
    if !path.exists() {
        return Err(Error::model(
            folder,
            format!("no `{WEIGHTS}` in this folder\n\nhint: a model is a folder with config.json, {WEIGHTS} and tokenizer.json"),
        ));
    }
    let file = WeightFile::open(&path)?;
    let mut unexpected = file.names();
    let mut problems = Vec::new();
    let mut sources = Vec::with_capacity(parameters.len());
    for (name, parameter) in parameters {
        let stored = [name.as_str(), name.strip_prefix(prefix).unwrap_or(name)].into_iter().find(|name| file.shape(name).is_some());
        let Some(stored) = stored else {
            problems.push(format!("missing tensor `{name}` {:?}", parameter.size()));
            continue;
        };
        unexpected.retain(|name| name != stored);
        match file.shape(stored) {
            Some(shape) if shape != parameter.size() => {
                problems.push(format!("tensor `{stored}` is {shape:?}; the config says {:?}", parameter.size()));
            }
            _ => sources.push((stored.to_owned(), parameter)),
        }
    }
    unexpected.retain(|name| !optional.contains(&name.as_str()) && !ignored(name));
    problems.extend(unexpected.into_iter().map(|name| format!("unexpected tensor `{name}`")));
    if !problems.is_empty() {
        problems.sort();
        return Err(Error::Model { path, problems });
    }
    let _no_grad = tch::no_grad_guard();
    for (name, parameter) in sources {
        parameter.shallow_clone().f_copy_(&file.tensor(&name)?)?;
    }
    Ok(())
}

fn save(folder: &Path, fields: Value, parameters: &[(String, Tensor)]) -> Result<()> {
    write_pretty(&folder.join("config.json"), &fields)?;
    // Older transformers refuse files without this mark.
    write_tensors(&folder.join(WEIGHTS), parameters, &[("format", "pt")])
}

fn to_fields(config: &impl Serialize) -> Result<Value> {
    serde_json::to_value(config).map_err(|error| Error::failed(error.to_string()))
}

fn write_pretty(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::failed(error.to_string()))?;
    atomic::write(path, format!("{text}\n").as_bytes())
}

fn read_json(path: &PathBuf) -> Result<Value> {
    let text = std::fs::read(path).map_err(Error::io(path, "reading the model's config"))?;
    serde_json::from_slice(&text).map_err(|error| Error::data(path, Some(error.line()), format!("not valid JSON: {error}")))
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, fields: Value) -> Result<T> {
    serde_json::from_value(fields).map_err(|error| Error::model(path, error.to_string()))
}

fn refuse(path: &Path, problems: Vec<String>) -> Result<()> {
    if problems.is_empty() { Ok(()) } else { Err(Error::Model { path: path.to_owned(), problems }) }
}

fn unsupported(path: &Path, found: Option<&str>, supported: &str) -> Error {
    let found = found.map_or_else(|| "no `model_type`".to_owned(), |found| format!("`model_type` is `{found}`"));
    Error::model(path, format!("{found}; supported here: {supported}"))
}
