//! Language models as folders in Hugging Face layout: config.json, generation_config.json and
//! model.safetensors, with or without an adapter. Tokenizer files are the business of
//! `with_tokenizer.rs`, classifiers of `classifier.rs`, rewards of `reward.rs`.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value, json};
use tch::{Device, Kind, Tensor};

use super::adapter_config::base_of_adapter;
use super::adapter_options::Purpose;
use super::config::LmConfig;
use super::config_keys::refuse;
use super::generation_config::eos_token_ids;
use super::json_file::write_json;
use super::lora::{self, Adapters};
use super::variables::Variables;
use super::weights::Headers;
use super::{CausalLm, LmInfo, Work, init, layers, shapes, weights};
use crate::error::{Error, Result};
use crate::kernels::Weight;
use crate::machine::memory::{self, MainMemory};
use crate::recipe::{Lora, bytes_in_words};

/// The variable of a language head that is not the embedding.
const LM_HEAD: &str = "lm_head.weight";

/// A language model with its variables.
pub struct Lm {
    pub model: CausalLm,
    pub config: LmConfig,
    pub(super) variables: Variables,
    pub(super) adapters: Option<Adapters>,
}

/// Makes a model of a config with these end-of-sequence ids, all of its weights zero.
type Build = fn(LmConfig, Vec<i64>, Device, Kind) -> Lm;

impl Lm {
    /// Opens a folder for inference: frozen, its weights converted to `kind` whatever they are
    /// stored as. An adapter is merged into the weights of its base, here and by
    /// [`Lm::open_trainable`].
    pub fn open(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        let mut lm = Self::open_trainable(folder, device, kind)?;
        lm.variables.freeze();
        Ok(lm)
    }

    /// Opens a folder for training, with gradients in `kind`, that of its forward and backward
    /// passes.
    pub fn open_trainable(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        Self::read(folder, device, kind, Self::build)
    }

    /// [`Self::open_trainable`] without the language head.
    pub(super) fn open_body(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        Self::read(folder, device, kind, Self::without_head)
    }

    /// Opens a folder for training by LoRA: its weights frozen in `kind`, and f32 adapters with
    /// gradients that leave the model as it is until they are trained; `seed` decides their values.
    /// Where the folder holds an adapter, that one is trained on.
    ///
    /// # Errors
    /// [`Error::Failed`] where a target is no layer of the model, [`Error::Model`] where the
    /// folder's adapter has other settings.
    pub fn open_lora(
        folder: &Path,
        device: Device,
        kind: Kind,
        settings: &Lora,
        seed: u64,
    ) -> Result<Self> {
        Self::read_lora(folder, device, kind, (settings, seed), Self::build)
    }

    /// [`Self::open_lora`] without the language head.
    pub(super) fn open_lora_body(
        folder: &Path,
        device: Device,
        kind: Kind,
        settings: &Lora,
        seed: u64,
    ) -> Result<Self> {
        Self::read_lora(folder, device, kind, (settings, seed), Self::without_head)
    }

    fn read_lora(
        folder: &Path,
        device: Device,
        kind: Kind,
        (settings, seed): (&Lora, u64),
        build: Build,
    ) -> Result<Self> {
        let base = base_of_adapter(folder)?;
        let frozen = base.as_deref().unwrap_or(folder);
        let mut lm = Self::read_weights(frozen, device, kind, build)?;
        lm.variables.freeze();
        // Gradients of what comes before read the plain weights.
        for layer in lm.model.linears() {
            let _ = layer.weight.pack();
        }
        let adapters =
            Adapters::attach(lm.model.linears(), lm.config.prefix(), settings, frozen, device)?;
        match base {
            None => adapters.initialise(seed)?,
            Some(_) => adapters.resume(folder)?,
        }
        lm.adapters = Some(adapters);
        Ok(lm)
    }

    /// A fresh model for training: f32, with gradients, its values decided by `seed` alone.
    ///
    /// # Errors
    /// `Error::Recipe` with everything that is wrong with the config.
    pub fn new(config: LmConfig, seed: u64, device: Device) -> Result<Self> {
        refuse(config.problems(), Error::Recipe)?;
        let eos_token_ids = config.eos_token_ids();
        let lm = Self::build(config, eos_token_ids, device, Kind::Float);
        init::fill(&lm.variables.all(), seed, |name| lm.config.initial(name))?;
        Ok(lm)
    }

    /// A frozen model of random numbers, for measuring speed: they are libtorch's, drawn fast and
    /// not the same everywhere.
    pub fn with_random_weights(
        config: LmConfig,
        device: Device,
        kind: Kind,
        seed: i64,
    ) -> Result<Self> {
        let _no_grad = tch::no_grad_guard();
        let eos_token_ids = config.eos_token_ids();
        let mut lm = Self::build(config, eos_token_ids, device, kind);
        tch::manual_seed(seed);
        for (name, mut variable) in lm.variables.all() {
            match lm.config.initial(&name) {
                init::Fill::Zeros => {}
                init::Fill::Ones => drop(variable.f_fill_(1.0)?),
                init::Fill::Normal(deviation) => drop(variable.f_normal_(0.0, deviation)?),
            }
        }
        lm.variables.freeze();
        Ok(lm)
    }

    /// The frozen model for inference alone: weights are laid out for the fastest products, and no
    /// gradient goes through it any more. A tied embedding is there twice then, once as the head.
    pub fn packed(mut self) -> Self {
        self.variables.pack(self.model.linears(), self.config.prefix());
        let head = self.model.head_mut();
        if self.config.tied() {
            let _ = head.pack();
        } else {
            self.variables.pack_one(LM_HEAD.to_owned(), head);
        }
        self.variables.settle();
        self
    }

    /// The model with gradients.
    pub fn trainable(mut self) -> Self {
        self.variables.unfreeze();
        self
    }

    fn read(folder: &Path, device: Device, kind: Kind, build: Build) -> Result<Self> {
        let Some(base) = base_of_adapter(folder)? else {
            return Self::read_weights(folder, device, kind, build);
        };
        lora::check(folder, &LmConfig::read(&base)?, Purpose::Language)?;
        let mut lm = Self::read_weights(&base, device, kind, build)?;
        lora::merge_folder(lm.model.linears(), lm.config.prefix(), folder, device, None)?;
        Ok(lm)
    }

    fn read_weights(folder: &Path, device: Device, kind: Kind, build: Build) -> Result<Self> {
        let config = LmConfig::read(folder)?;
        let eos_token_ids = eos_token_ids(folder, &config)?;
        Self::check_weights(folder, &config, &Headers::open(folder)?)?;
        check_room(folder, device, kind)?;
        let lm = build(config, eos_token_ids, device, kind);
        let variables = lm.variables.all();
        let is_left = |name: &String| name != LM_HEAD || variables.contains_key(name);
        weights::load(folder, &variables, |name| lm.config.lm_variable(name).filter(is_left))?;
        if lm.config.tied() && !weights::holds_again(folder, LM_HEAD, lm.model.embedding())? {
            let what = "`tie_word_embeddings` in config.json is true, but its `lm_head.weight` is \
                        not the embedding";
            return Err(Error::model(
                folder,
                format!(
                    "{what}\n\nhint: transformers 5 takes them as two: set `tie_word_embeddings` \
                     to false"
                ),
            ));
        }
        Ok(lm)
    }

    /// Whether the folder's weights are those of a language model of this config, as far as their
    /// headers tell.
    pub(super) fn check_weights(folder: &Path, config: &LmConfig, headers: &Headers) -> Result<()> {
        let fits =
            headers.check(&shapes::of_lm(config), "config.json", |name| config.lm_variable(name));
        let embedding = shapes::embedding(config);
        let again = headers.shape(LM_HEAD).filter(|_| config.tied());
        let other = again.filter(|shape| !shape.iter().map(|&size| size as i64).eq(embedding));
        let tied = other.map(|shape| {
            let what = format!(
                "tensor `lm_head.weight` has shape {shape:?}, the embedding that it is tied to \
                 {embedding:?}"
            );
            Error::model(
                folder,
                format!("{what}\n\nhint: is `tie_word_embeddings` in config.json right?"),
            )
        });
        Error::all(folder, fits.err().into_iter().chain(tied))
    }

    fn build(config: LmConfig, eos_token_ids: Vec<i64>, device: Device, kind: Kind) -> Self {
        let mut lm = Self::without_head(config, eos_token_ids, device, kind);
        if !lm.config.tied() {
            let LmInfo { vocab_size, hidden_size, .. } = *lm.model.info();
            let head = layers::zeros(
                &(&lm.variables.root() / "lm_head"),
                "weight",
                &[vocab_size, hidden_size],
            );
            *lm.model.head_mut() = Weight::new(&head, false);
        }
        lm
    }

    /// A model whose language head is its embedding, whatever the config says: for one that
    /// predicts no tokens.
    pub(super) fn without_head(
        config: LmConfig,
        eos_token_ids: Vec<i64>,
        device: Device,
        kind: Kind,
    ) -> Self {
        let variables = Variables::new(device, kind);
        let decoder = config.build(&variables.root());
        let (info, head) = (config.info(eos_token_ids), decoder.embedding().shallow_clone());
        Self { model: CausalLm::new(info, decoder, head), config, variables, adapters: None }
    }

    /// All weights under their Hugging Face names, sorted, each once (a tied head is the
    /// embedding), without adapters. They alias the model's own, but for those that are
    /// [`Self::packed`].
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        self.variables.all().into_iter().collect()
    }

    /// Whether all weights are those of `other`, number for number; the first tensor that differs
    /// settles it.
    pub fn has_weights_of(&self, other: &Self) -> bool {
        let _no_grad = tch::no_grad_guard();
        let names = self.variables.names();
        names == other.variables.names()
            && names.iter().all(|name| {
                match (self.variables.one(name), other.variables.one(name)) {
                    (Some(ours), Some(theirs)) => {
                        ours.size() == theirs.size() && ours.equal(&theirs.to_device(ours.device()))
                    }
                    _ => false,
                }
            })
    }

    /// What one token takes.
    pub fn work(&self) -> Work {
        Work::of(&self.config)
    }

    /// What training changes: A and B of every adapter under PEFT's names, or else all weights.
    pub fn trainable_parameters(&self) -> Vec<(String, Tensor)> {
        self.adapters.as_ref().map_or_else(|| self.parameters(), Adapters::parameters)
    }

    pub fn device(&self) -> Device {
        self.variables.device()
    }

    pub fn kind(&self) -> Kind {
        self.variables.kind()
    }

    /// Saves config.json, generation_config.json (BOS and EOS ids) and model.safetensors, each
    /// atomically and the config last. Adapters are merged, or saved alone as a PEFT adapter
    /// folder, as their settings say.
    pub fn save(&self, folder: &Path) -> Result<()> {
        match &self.adapters {
            None => self.save_weights(folder, &self.parameters(), self.kind()),
            Some(adapters) if adapters.is_saved_alone() => adapters.save(folder),
            Some(adapters) => {
                self.save_weights(folder, &adapters.merged(self.parameters()), Kind::Float)
            }
        }
    }

    /// [`Self::save`] with `weights` of `kind`, under the names of [`Self::parameters`], instead of
    /// the model's own: the f32 masters of a training in another kind.
    pub fn save_weights(
        &self,
        folder: &Path,
        weights: &[(String, Tensor)],
        kind: Kind,
    ) -> Result<()> {
        let info = self.model.info();
        let eos = match info.eos_token_ids[..] {
            [] => Value::Null,
            [one] => json!(one),
            _ => json!(info.eos_token_ids),
        };
        weights::write_tensors(&folder.join("model.safetensors"), weights, &[])?;
        write_json(
            &folder.join("generation_config.json"),
            &json!({ "bos_token_id": info.bos_token_id, "eos_token_id": eos }),
        )?;
        write_config(
            folder,
            &self.config,
            self.config.model_type(),
            &self.config.architecture("ForCausalLM"),
            kind,
        )
    }
}

/// Refuses weights that do not fit into main memory, before they are asked of a kernel that would
/// end the program instead.
pub(super) fn check_room(folder: &Path, device: Device, kind: Kind) -> Result<()> {
    let (numbers, element) = (weights::stored_numbers(folder)?, kind.elt_size_in_bytes() as u64);
    let bytes = numbers.saturating_mul(element);
    let lacking = || MainMemory::now().filter(|memory| memory.free < bytes);
    if device != Device::Cpu || lacking().is_none() {
        return Ok(());
    }
    memory::return_unused();
    lacking().map_or(Ok(()), |memory| {
        Err(Error::failed(format!(
            "the weights in {} take {numbers} numbers × {element} B = {} of memory, and there are \
             {memory}\n\n\
             hint: use dtype = \"bfloat16\", a smaller model, or a machine or job with more memory",
            folder.display(),
            bytes_in_words(bytes)
        )))
    })
}

/// Writes config.json with what names its class to transformers.
pub(super) fn write_config(
    folder: &Path,
    config: &impl Serialize,
    model_type: &str,
    architecture: &str,
    kind: Kind,
) -> Result<()> {
    let Value::Object(fields) = serde_json::to_value(config).expect("a config is JSON") else {
        unreachable!("a config is a table")
    };
    let mut table = Map::new();
    table.insert("architectures".to_owned(), json!([architecture]));
    table.insert("model_type".to_owned(), json!(model_type));
    // Newer files say `dtype`; every version of transformers reads `torch_dtype`.
    table.extend(
        fields
            .into_iter()
            .filter(|(key, _)| !["architectures", "model_type", "dtype"].contains(&key.as_str())),
    );
    // Old names of keys, which llama.cpp's converter and versions of transformers still ask for.
    if let Some(context) = table.get("n_positions").cloned() {
        table.insert("n_ctx".to_owned(), context);
    }
    if let Some(labels) = table.get("id2label").and_then(by_name) {
        table.insert("label2id".to_owned(), labels);
    }
    table.insert("torch_dtype".to_owned(), json!(weights::dtype_name(kind)));
    write_json(&folder.join("config.json"), &Value::Object(table))
}

/// `label2id` for an `id2label`.
fn by_name(labels: &Value) -> Option<Value> {
    let ids = labels
        .as_object()?
        .iter()
        .map(|(id, name)| Some((name.as_str()?.to_owned(), json!(id.parse::<i64>().ok()?))));
    ids.collect::<Option<Map<_, _>>>().map(Value::Object)
}
