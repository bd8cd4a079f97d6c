//! Low-rank adaptation (arXiv 2106.09685): y = W x + (α / r) B A x with W frozen, and PEFT's adapter folders.
//!
//! Adapters are f32 whatever the kind of the weights, as PEFT keeps them. There is no dropout, as everywhere in `models`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rand::RngExt;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tch::{Device, Kind, Tensor};

use super::config::read_json;
use super::folder::write_json;
use super::hub::in_cache;
use super::layers::LinearLayer;
use super::weights;
use crate::error::{Error, Result};
use crate::recipe::{BASE_FROM_HERE, Lora, LoraSave, base_folder};
use crate::sampling::Stream;

pub(super) const CONFIG: &str = "adapter_config.json";
pub(super) const WEIGHTS: &str = "adapter_model.safetensors";
/// In the config: the base's folder.
pub(super) const BASE: &str = "base_model_name_or_path";

/// The update of one linear layer.
pub struct Adapter {
    a: Tensor, // (rank, in)
    b: Tensor, // (out, rank)
    /// α / r
    scale: f64,
}

impl Adapter {
    fn alias(&self) -> Self {
        Self { a: self.a.shallow_clone(), b: self.b.shallow_clone(), scale: self.scale }
    }

    /// What it adds to a weight, (out, in), or (in, out) where `fan_in_fan_out`; f32.
    fn update(&self, fan_in_fan_out: bool) -> Tensor {
        let update = self.b.detach().matmul(&self.a.detach()) * self.scale;
        if fan_in_fan_out { update.transpose(0, 1) } else { update }
    }
}

/// `output` (.., out) of a layer for `input` (.., in) with what its adapter adds, in the kind of `output`; the sum is taken in f32.
pub(super) fn adapted(adapter: Option<&Adapter>, input: &Tensor, output: Tensor) -> Tensor {
    let Some(Adapter { a, b, scale }) = adapter else { return output };
    let low = input.to_kind(a.kind()).linear(a, None::<&Tensor>) * *scale; // (.., rank)
    let kind = output.kind();
    (output + low.linear(b, None::<&Tensor>)).to_kind(kind)
}

/// Adds every update to its weight and takes the adapters off.
pub(super) fn merge(layers: Vec<LinearLayer>) {
    let _no_grad = tch::no_grad_guard();
    for layer in layers {
        if let Some(adapter) = layer.adapter.take() {
            let merged = layer.weight.to_kind(Kind::Float) + adapter.update(layer.fan_in_fan_out);
            layer.weight.shallow_clone().copy_(&merged);
        }
    }
}

/// The adapters of one model; they alias those in its layers.
pub(super) struct Adapters {
    lora: Lora,
    /// The folder of the frozen weights.
    base: PathBuf,
    layers: Vec<AdaptedLayer>,
}

struct AdaptedLayer {
    /// Of the layer in the whole model, such as `transformer.h.0.attn.c_attn`.
    name: String,
    fan_in_fan_out: bool,
    adapter: Adapter,
}

impl Adapters {
    /// Gives adapters to those of `layers`, named below `prefix`, that are targets: A and B zero, with gradients.
    ///
    /// # Errors
    /// [`Error::Failed`] where a target is no layer of the model.
    pub fn attach(mut layers: Vec<LinearLayer>, prefix: &str, lora: &Lora, base: &Path, device: Device) -> Result<Self> {
        layers.iter_mut().for_each(|layer| layer.name = format!("{prefix}.{}", layer.name));
        let is_layer = |target: &&String| layers.iter().any(|layer| Lora::matches(target, &layer.name));
        if let Some(target) = lora.targets.iter().find(|target| !is_layer(target)) {
            let of_block: BTreeSet<&str> = layers.iter().filter_map(|layer| layer.name.splitn(4, '.').nth(3)).collect();
            let names = of_block.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            return Err(Error::failed(format!("LoRA's target `{target}` is no linear layer of the model\n\nhint: its layers: {names}")));
        }
        let rank = i64::try_from(lora.rank).map_err(|_| Error::failed(format!("LoRA's rank is {}, larger than any layer", lora.rank)))?;
        let zeros = |shape: [i64; 2]| Ok::<_, Error>(Tensor::f_zeros(shape, (Kind::Float, device))?.set_requires_grad(true));
        let mut adapted = Vec::new();
        for layer in layers.into_iter().filter(|layer| lora.adapts(&layer.name)) {
            let (rows, columns) = layer.weight.size2()?;
            let (n_in, n_out) = if layer.fan_in_fan_out { (rows, columns) } else { (columns, rows) };
            let adapter = Adapter { a: zeros([rank, n_in])?, b: zeros([n_out, rank])?, scale: lora.scale() };
            *layer.adapter = Some(adapter.alias());
            adapted.push(AdaptedLayer { name: layer.name, fan_in_fan_out: layer.fan_in_fan_out, adapter });
        }
        let base = std::path::absolute(base).map_err(Error::io(base, "finding the full path"))?;
        Ok(Self { lora: lora.clone(), base, layers: adapted })
    }

    /// A uniform within ±1/√in, which is PEFT's Kaiming initialisation with a = √5; B stays zero, so that the model starts as it is.
    pub fn initialise(&self, seed: u64) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        for AdaptedLayer { name, adapter: Adapter { a, .. }, .. } in &self.layers {
            let mut random = Stream::new(seed, "lora", name).rng();
            let bound = (a.size2()?.1 as f64).powf(-0.5);
            let values: Vec<f32> = (0..a.numel()).map(|_| (bound * (2.0 * random.random::<f64>() - 1.0)) as f32).collect();
            a.shallow_clone().f_copy_(&Tensor::f_from_slice(&values)?.f_view(a.size().as_slice())?)?;
        }
        Ok(())
    }

    /// Every A and B under its name in PEFT's files.
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        let named = |layer: &AdaptedLayer| {
            let name = |matrix: &str| format!("base_model.model.{}.{matrix}.weight", layer.name);
            [(name("lora_A"), layer.adapter.a.shallow_clone()), (name("lora_B"), layer.adapter.b.shallow_clone())]
        };
        self.layers.iter().flat_map(named).collect()
    }

    /// Copies A and B out of an adapter folder, whose tensors must be just these.
    pub fn load(&self, folder: &Path) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        let path = folder.join(WEIGHTS);
        if !path.is_file() {
            return Err(Error::model(folder, format!("has `{CONFIG}`, but no `{WEIGHTS}`\n\nhint: save the adapter again with PEFT")));
        }
        let mut tensors = weights::read_tensors(&path)?;
        let mut problems = Vec::new();
        for (name, parameter) in self.parameters() {
            match tensors.remove(&name) {
                None => problems.push(format!("missing tensor `{name}` {:?}", parameter.size())),
                Some(stored) if stored.size() != parameter.size() => {
                    problems.push(format!("tensor `{name}` has shape {:?}, expected {:?}", stored.size(), parameter.size()));
                }
                Some(stored) => drop(parameter.shallow_clone().f_copy_(&stored)?),
            }
        }
        problems.extend(tensors.iter().map(|(name, tensor)| format!("unexpected tensor `{name}` {:?}", tensor.size())));
        if problems.is_empty() { Ok(()) } else { Err(Error::Model { path, problems }) }
    }

    /// [`Adapters::load`] of an adapter that must have been trained with these settings.
    pub fn resume(&self, folder: &Path) -> Result<()> {
        let (found, lora) = (settings(folder)?, &self.lora);
        if (found.rank, found.alpha) != (lora.rank, lora.alpha) {
            return Err(Error::model(
                folder,
                format!(
                    "holds an adapter of rank {} and alpha {}, and training would go on with it; `lora` asks for rank {} and alpha {}",
                    found.rank, found.alpha, lora.rank, lora.alpha
                ),
            ));
        }
        self.load(folder)
    }

    /// `parameters` of the model, the adapted weights with their updates. Those are f32, so that an update is not lost in rounding.
    pub fn merged(&self, parameters: Vec<(String, Tensor)>) -> Vec<(String, Tensor)> {
        let _no_grad = tch::no_grad_guard();
        let layers: BTreeMap<&str, &AdaptedLayer> = self.layers.iter().map(|layer| (layer.name.as_str(), layer)).collect();
        let merge = |(name, weight): (String, Tensor)| match name.strip_suffix(".weight").and_then(|layer| layers.get(layer)) {
            Some(layer) => (name, weight.to_kind(Kind::Float) + layer.adapter.update(layer.fan_in_fan_out)),
            None => (name, weight),
        };
        parameters.into_iter().map(merge).collect()
    }

    pub fn is_saved_alone(&self) -> bool {
        self.lora.save == LoraSave::Adapter
    }

    /// Writes what PEFT's `PeftModel.from_pretrained` reads, the config last.
    pub fn save(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(Error::io(folder, "creating the folder"))?;
        let from_here = way(folder, &self.base);
        let metadata: Vec<(&str, &str)> = from_here.iter().map(|way| (BASE_FROM_HERE, way.as_str())).collect();
        weights::write_tensors(&folder.join(WEIGHTS), &self.parameters(), &metadata)?;
        let config = json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.base.display().to_string(),
            "r": self.lora.rank,
            "lora_alpha": self.lora.alpha,
            "target_modules": self.lora.targets,
            "fan_in_fan_out": self.layers.iter().any(|layer| layer.fan_in_fan_out),
            "lora_dropout": 0.0,
            "bias": "none",
            "inference_mode": true,
        });
        write_json(&folder.join(CONFIG), &config)
    }
}

/// adapter_config.json under PEFT's names.
#[derive(Deserialize)]
struct AdapterConfig {
    peft_type: String,
    base_model_name_or_path: Option<String>,
    r: u64,
    lora_alpha: f64,
    target_modules: Value,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Options of PEFT that change what an adapter computes; they must be off.
const OPTIONS: [&str; 13] = [
    "use_rslora",
    "use_dora",
    "use_qalora",
    "rank_pattern",
    "alpha_pattern",
    "bias",
    "lora_bias",
    "modules_to_save",
    "layers_to_transform",
    "exclude_modules",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
];

impl AdapterConfig {
    fn read(folder: &Path) -> Result<(PathBuf, Self)> {
        let path = folder.join(CONFIG);
        let config: Self = serde_json::from_value(read_json(&path)?).map_err(|error| Error::model(&path, error.to_string()))?;
        let off = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::String(text) => text == "none",
            Value::Array(items) => items.is_empty(),
            Value::Object(table) => table.is_empty(),
            _ => false,
        };
        let mut problems = Vec::new();
        if config.peft_type != "LORA" {
            problems.push(format!("`peft_type` is `{}`, only `LORA` is supported", config.peft_type));
        }
        problems.extend(
            (OPTIONS.iter().filter_map(|option| Some((option, config.rest.get(*option)?))).filter(|(_, value)| !off(value)))
                .map(|(option, value)| format!("`{option}` = {value} is not supported\n\nhint: merge the adapter with PEFT")),
        );
        if config.r == 0 {
            problems.push("`r` is 0, expected 1 or more".to_owned());
        }
        if problems.is_empty() { Ok((path, config)) } else { Err(Error::Model { path, problems }) }
    }
}

/// The way from one folder that exists to another, with `..` for each step up.
fn way(from: &Path, to: &Path) -> Option<String> {
    let (from, to) = (from.canonicalize().ok()?, to.canonicalize().ok()?);
    let common = from.components().zip(to.components()).take_while(|(from, to)| from == to).count();
    let up = from.components().skip(common).map(|_| Path::new(".."));
    let way: PathBuf = up.chain(to.components().skip(common).map(|part| Path::new(part.as_os_str()))).collect();
    way.into_os_string().into_string().ok()
}

/// The settings in an adapter folder.
pub(super) fn settings(folder: &Path) -> Result<Lora> {
    let (path, config) = AdapterConfig::read(folder)?;
    let targets = serde_json::from_value(config.target_modules)
        .map_err(|_| Error::model(&path, "`target_modules` is not a list of names, which alone is supported"))?;
    Ok(Lora { rank: config.r, alpha: config.lora_alpha, targets, save: LoraSave::Adapter })
}

/// The folder of the model that the adapter in `folder` belongs to, `None` if `folder` holds no adapter.
///
/// # Errors
/// [`Error::Model`] where the adapter is not one that can be read, or its base is not there or an adapter itself.
pub fn base_of_adapter(folder: &Path) -> Result<Option<PathBuf>> {
    if !folder.join(CONFIG).is_file() {
        return Ok(None);
    }
    let (path, config) = AdapterConfig::read(folder)?;
    let name = config.base_model_name_or_path.unwrap_or_default();
    let base = base_folder(folder, &name);
    let base = if base.is_dir() { base } else { in_cache(Path::new(&name)).unwrap_or(base) };
    if name.is_empty() || !base.is_dir() {
        let what = format!("`base_model_name_or_path` is `{name}`, which is no folder here");
        return Err(Error::model(
            &path,
            format!("{what}\n\nhint: put the folder of the base model there, its full path or from the adapter's"),
        ));
    }
    if base.join(CONFIG).is_file() {
        return Err(Error::model(
            &path,
            format!("`base_model_name_or_path` is `{name}`, which is an adapter itself\n\nhint: merge that one"),
        ));
    }
    Ok(Some(base))
}
