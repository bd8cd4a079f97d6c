//! Low-rank adaptation (arXiv 2106.09685): y = W x + (α / r) B A x with W frozen, and PEFT's
//! adapter folders.
//!
//! Adapters are f32 whatever the kind of the weights, as PEFT keeps them. There is no dropout, as
//! everywhere in `models`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rand::RngExt;
use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::adapter::Adapter;
use super::adapter_config::{AdapterConfig, CONFIG, base_of_adapter};
use super::adapter_options::{MERGE, Purpose, head_problem};
use super::config::LmConfig;
use super::json_file::write_json;
use super::layers::LinearLayer;
use super::shapes::{self, LinearShape, Shapes};
use super::weights::{self, Headers};
use crate::artifacts::stand_in;
use crate::error::{Error, Result};
use crate::recipe::{BASE_FROM_HERE, Lora, LoraSave};
use crate::sampling::Stream;

pub(super) const WEIGHTS: &str = "adapter_model.safetensors";

/// The head of a reward model in PEFT's files.
pub(super) const SCORE: &str = "base_model.model.score.weight";

/// The adapters of one model; they alias those in its layers.
pub(super) struct Adapters {
    lora: Lora,
    /// The folder of the frozen weights.
    base: PathBuf,
    layers: Vec<AdaptedLayer>,
}

struct AdaptedLayer {
    /// The layer's name in the whole model, such as `transformer.h.0.attn.c_attn`.
    name: String,
    fan_in_fan_out: bool,
    adapter: Adapter,
}

impl AdaptedLayer {
    /// A and B under their names in PEFT's files.
    fn parameters(&self) -> [(String, Tensor); 2] {
        let [a, b] = matrices(&self.name);
        [(a, self.adapter.a.shallow_clone()), (b, self.adapter.b.shallow_clone())]
    }
}

impl Adapters {
    /// Gives adapters to those of `layers`, named below `prefix`, that are targets: A and B zero,
    /// with gradients.
    ///
    /// # Errors
    /// [`Error::Failed`] where a target is no layer of the model.
    pub fn attach(
        layers: Vec<LinearLayer>,
        prefix: &str,
        lora: &Lora,
        base: &Path,
        device: Device,
    ) -> Result<Self> {
        let names: Vec<String> =
            layers.iter().map(|layer| format!("{prefix}.{}", layer.name)).collect();
        if let Some(target) = lora
            .targets
            .iter()
            .find(|target| !names.iter().any(|layer| Lora::matches(target, layer)))
        {
            let problem = format!("LoRA's target `{target}` is no linear layer of the model");
            return Err(Error::failed(format!(
                "{problem}\n\nhint: its layers: {}",
                of_block(&names)
            )));
        }
        let mut adapted = Vec::new();
        for (layer, own) in adapters(layers, prefix, device, |layer| {
            lora.adapts(layer).then(|| (lora.rank, lora.scale()))
        })? {
            for matrix in [&own.adapter.a, &own.adapter.b] {
                let _ = matrix.set_requires_grad(true);
            }
            *layer.adapter = Some(own.adapter.alias());
            adapted.push(own);
        }
        let base = std::path::absolute(base).map_err(Error::io(base, "finding the full path"))?;
        Ok(Self { lora: lora.clone(), base, layers: adapted })
    }

    /// A uniform within ±1/√in, which is PEFT's Kaiming initialisation with a = √5; B stays zero,
    /// so that the model starts as it is.
    pub fn initialise(&self, seed: u64) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        for AdaptedLayer { name, adapter: Adapter { a, .. }, .. } in &self.layers {
            let mut random = Stream::new(seed, "lora", name).rng();
            let bound = (a.size2()?.1 as f64).powf(-0.5);
            let values: Vec<f32> = (0..a.numel())
                .map(|_| (bound * (2.0 * random.random::<f64>() - 1.0)) as f32)
                .collect();
            a.shallow_clone()
                .f_copy_(&Tensor::f_from_slice(&values)?.f_view(a.size().as_slice())?)?;
        }
        Ok(())
    }

    /// Every A and B under its name in PEFT's files.
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        self.layers.iter().flat_map(AdaptedLayer::parameters).collect()
    }

    /// Copies A and B out of an adapter folder that must have been trained with these settings.
    pub fn resume(&self, folder: &Path) -> Result<()> {
        let layers = self.layers.iter().map(|layer| layer.name.as_str());
        same_settings(
            folder,
            &AdapterConfig::read(folder, Purpose::Language)?,
            &self.lora,
            layers,
        )?;
        load(folder, &self.parameters())
    }

    /// `parameters` of the model, the adapted weights with their updates. Those are f32, so that an
    /// update is not lost in rounding.
    pub fn merged(&self, parameters: Vec<(String, Tensor)>) -> Vec<(String, Tensor)> {
        let _no_grad = tch::no_grad_guard();
        let layers: BTreeMap<&str, &AdaptedLayer> =
            self.layers.iter().map(|layer| (layer.name.as_str(), layer)).collect();
        let merge = |(name, weight): (String, Tensor)| match name
            .strip_suffix(".weight")
            .and_then(|layer| layers.get(layer))
        {
            Some(layer) => {
                (name, weight.to_kind(Kind::Float) + layer.adapter.update(layer.fan_in_fan_out))
            }
            None => (name, weight),
        };
        parameters.into_iter().map(merge).collect()
    }

    pub fn is_saved_alone(&self) -> bool {
        self.lora.save == LoraSave::Adapter
    }

    /// Writes what PEFT's `PeftModel.from_pretrained` reads, the config last.
    pub fn save(&self, folder: &Path) -> Result<()> {
        self.write(folder, Purpose::Language, &[])
    }

    /// [`Self::save`] together with the head of a reward model, (1, hidden_size).
    pub fn save_with_score(&self, folder: &Path, score: &Tensor) -> Result<()> {
        self.write(folder, Purpose::Reward, &[(SCORE.to_owned(), score.shallow_clone())])
    }

    fn write(&self, folder: &Path, purpose: Purpose, beside: &[(String, Tensor)]) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(Error::io(folder, "creating the folder"))?;
        let from_here = way(folder, &self.base);
        let metadata: Vec<(&str, &str)> =
            from_here.iter().map(|way| (BASE_FROM_HERE, way.as_str())).collect();
        let tensors: Vec<(String, Tensor)> =
            self.parameters().into_iter().chain(named(beside)).collect();
        weights::write_tensors(&folder.join(WEIGHTS), &tensors, &metadata)?;
        let mut config = json!({
            "peft_type": "LORA",
            "task_type": purpose.task_type(),
            "base_model_name_or_path": self.base.display().to_string(),
            "r": self.lora.rank,
            "lora_alpha": self.lora.alpha,
            "target_modules": self.lora.targets,
            "fan_in_fan_out": self.layers.iter().any(|layer| layer.fan_in_fan_out),
            "lora_dropout": 0.0,
            "bias": "none",
            "inference_mode": true,
        });
        if let Some(modules) = purpose.modules_to_save() {
            config["modules_to_save"] = json!(modules);
        }
        write_json(&folder.join(CONFIG), &config)
    }
}

/// The layers for which `choose` gives rank and scale, each with A and B of zeros.
fn adapters<'a>(
    layers: Vec<LinearLayer<'a>>,
    prefix: &str,
    device: Device,
    choose: impl Fn(&str) -> Option<(u64, f64)>,
) -> Result<Vec<(LinearLayer<'a>, AdaptedLayer)>> {
    let zeros = |shape: [i64; 2]| Tensor::f_zeros(shape, (Kind::Float, device));
    let mut adapted = Vec::new();
    for layer in layers {
        let name = format!("{prefix}.{}", layer.name);
        let Some((rank, scale)) = choose(&name) else { continue };
        let rank = i64::try_from(rank)
            .map_err(|_| Error::failed(format!("LoRA's rank is {rank}, larger than any layer")))?;
        let (n_out, n_in) = layer.weight.size();
        let adapter = Adapter { a: zeros([rank, n_in])?, b: zeros([n_out, rank])?, scale };
        let fan_in_fan_out = layer.weight.is_transposed();
        adapted.push((layer, AdaptedLayer { name, fan_in_fan_out, adapter }));
    }
    Ok(adapted)
}

/// The way from one folder that exists to another, with `..` for each step up.
fn way(from: &Path, to: &Path) -> Option<String> {
    let (from, to) = (from.canonicalize().ok()?, to.canonicalize().ok()?);
    let common = from.components().zip(to.components()).take_while(|(from, to)| from == to).count();
    let up = from.components().skip(common).map(|_| Path::new(".."));
    let way: PathBuf =
        up.chain(to.components().skip(common).map(|part| Path::new(part.as_os_str()))).collect();
    way.into_os_string().into_string().ok()
}

/// Names of A and B of a layer in PEFT's files.
fn matrices(layer: &str) -> [String; 2] {
    ["lora_A", "lora_B"].map(|matrix| format!("base_model.model.{layer}.{matrix}.weight"))
}

/// Names of layers within their blocks, for people.
fn of_block(layers: &[String]) -> String {
    let of_block: BTreeSet<&str> =
        layers.iter().filter_map(|layer| layer.splitn(4, '.').nth(3)).collect();
    of_block.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Adds the adapter in `folder` to the weights of the model's `layers`, named below `prefix`, as
/// PEFT merges it; the `score` of a reward model takes the value of the adapter's.
pub(super) fn merge_folder(
    layers: Vec<LinearLayer>,
    prefix: &str,
    folder: &Path,
    device: Device,
    score: Option<&Tensor>,
) -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    let config = AdapterConfig::read(
        folder,
        if score.is_some() { Purpose::Reward } else { Purpose::Language },
    )?;
    let adapted = adapters(layers, prefix, device, |layer| config.of_layer(layer))?;
    let score = score.map(|score| (SCORE.to_owned(), score.shallow_clone()));
    load(
        folder,
        &adapted
            .iter()
            .flat_map(|(_, adapted)| adapted.parameters())
            .chain(score)
            .collect::<Vec<_>>(),
    )?;
    for (layer, AdaptedLayer { fan_in_fan_out, adapter, .. }) in adapted {
        let weight = layer.weight.plain();
        let merged = weight.to_kind(Kind::Float) + adapter.update(fan_in_fan_out);
        weight.shallow_clone().f_copy_(&merged)?;
    }
    Ok(())
}

fn load(folder: &Path, parameters: &[(String, Tensor)]) -> Result<()> {
    weights::load_file(&folder.join(WEIGHTS), &named(parameters).collect(), CONFIG)
}

/// The same tensors under the same names.
fn named(parameters: &[(String, Tensor)]) -> impl Iterator<Item = (String, Tensor)> {
    parameters.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
}

/// Whether training with `lora` can go on with the adapter in `folder`; a folder that holds none is
/// no adapter to go on with.
pub fn check_resumes(folder: &Path, lora: &Lora) -> Result<()> {
    let Some(base) = base_of_adapter(folder)? else { return Ok(()) };
    let (found, layers) =
        (AdapterConfig::read(folder, Purpose::Language)?, shapes::linears(&LmConfig::read(&base)?));
    same_settings(folder, &found, lora, layers.iter().map(|layer| layer.name.as_str()))
}

/// Whether the adapter that was `found` stands on those of `layers` that `lora` adapts, with its
/// rank and its scale.
fn same_settings<'a>(
    folder: &Path,
    found: &AdapterConfig,
    lora: &Lora,
    layers: impl Iterator<Item = &'a str>,
) -> Result<()> {
    let differs = |what: String| Err(Error::model(folder, format!("holds an adapter {what}")));
    if (found.rank, found.alpha) != (lora.rank, lora.alpha) {
        return differs(format!(
            "of rank {} and alpha {}, and training would go on with it; `lora` asks for rank {} \
             and alpha {}",
            found.rank, found.alpha, lora.rank, lora.alpha
        ));
    }
    for name in layers {
        match (found.of_layer(name), lora.adapts(name).then(|| (lora.rank, lora.scale()))) {
            (own, asked) if own == asked => {}
            (Some((rank, scale)), Some((asked, factor))) => {
                return differs(format!(
                    "whose rank on `{name}` is {rank} and its scale {scale}, and training would go \
                     on with it; `lora` has one rank, {asked}, and one scale, alpha / rank = \
                     {factor}\n\n{MERGE}"
                ));
            }
            (own, _) => {
                let [has, asks] = if own.is_some() { ["on", "not on"] } else { ["not on", "on"] };
                return differs(format!(
                    "that stands {has} `{name}`, and training would go on with it; `lora.targets` \
                     asks for one that stands {asks} it"
                ));
            }
        }
    }
    Ok(())
}

/// What brings tensors beside A and B, such as an embedding that was resized, can still be merged.
fn with_way_out(error: Error) -> Error {
    let Error::Model { path, mut problems } = error else { return error };
    if let Some(last) =
        problems.iter_mut().rfind(|problem| problem.starts_with("unexpected tensor"))
    {
        last.push_str(&format!("\n\n{MERGE}"));
    }
    Error::Model { path, problems }
}

/// Whether the adapter in `folder` is one for a model of this config and `purpose`: its options,
/// the layers that they name, and the names, shapes and kinds in its weights.
pub(super) fn check(folder: &Path, config: &LmConfig, purpose: Purpose) -> Result<()> {
    let adapter = AdapterConfig::read(folder, purpose)?;
    let linears = shapes::linears(config);
    let names: Vec<String> = linears.iter().map(|layer| layer.name.clone()).collect();
    let mut problems = Vec::new();
    let (mut wanted, mut adapted) = (Shapes::new(), 0);
    for LinearShape { name, n_in, n_out } in &linears {
        let Some((rank, _)) = adapter.of_layer(name) else { continue };
        let rank = i64::try_from(rank).unwrap_or(i64::MAX);
        wanted.extend(matrices(name).into_iter().zip([vec![rank, *n_in], vec![*n_out, rank]]));
        adapted += 1;
    }
    if purpose == Purpose::Reward {
        wanted.insert(SCORE.to_owned(), vec![1, shapes::embedding(config)[1]]);
    }
    let others: BTreeSet<String> = shapes::of_lm(config)
        .keys()
        .filter_map(|name| Some(name.strip_suffix(".weight")?.to_owned()))
        .collect();
    let others = others
        .iter()
        .map(String::as_str)
        .filter(|name| !names.iter().any(|layer| layer == name))
        .chain(["lm_head"]);
    let stray = adapter.stray(others);
    if stray == Some("lm_head") {
        problems.push(head_problem(config.tied()));
    } else if let Some(other) = stray {
        problems.push(format!(
            "`target_modules` takes in `{other}`, which is no linear layer of a block, and no \
             other is adapted here\n\n{MERGE}"
        ));
    } else if adapted == 0 {
        let target = adapter
            .idle_targets(&names)
            .next()
            .map(|target| format!(": LoRA's target `{target}` is no linear layer of the model"));
        problems.push(format!(
            "it stands on no layer of its base{}\n\nhint: its layers: {}",
            target.unwrap_or_default(),
            of_block(&names)
        ));
    }
    let path = folder.join(WEIGHTS);
    let own = (!problems.is_empty()).then(|| Error::Model { path: folder.join(CONFIG), problems });
    let tensors = if let Err(stands_in) = stand_in::refuse(&path) {
        Some(stands_in)
    } else if !path.is_file() {
        Some(Error::model(
            folder,
            format!("has `{CONFIG}`, but no `{WEIGHTS}`\n\nhint: save the adapter again with PEFT"),
        ))
    } else if own.is_none() {
        Headers::of_file(&path)
            .check(&wanted, CONFIG, |name| Some(name.to_owned()))
            .err()
            .map(with_way_out)
    } else {
        None
    };
    Error::all(folder, own.into_iter().chain(tensors))
}
