//! `config.json` of every supported family: reading it by `model_type`, what it says of names and
//! sizes, and building what it describes. The families' own keys and rules are in their files.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use tch::nn;

use super::bert::{Bert, BertConfig};
use super::config_keys::TokenIds;
use super::distilbert::{DistilBert, DistilBertConfig};
use super::encoder::SequenceClassifier;
use super::gpt2::{Gpt2, Gpt2Config};
use super::init::Fill;
use super::json_file::read_json;
use super::labels::Labels;
use super::llama::Llama;
use super::llama_config::LlamaConfig;
use super::{Decoder, LmInfo, quantization};
use crate::artifacts::stand_in;
use crate::error::{Error, Result};

/// The config of a language model; the Llama family is one.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "there is one for each open model")]
pub enum LmConfig {
    Gpt2(Gpt2Config),
    Llama(LlamaConfig),
}

/// The config of a sequence classifier.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ClassifierConfig {
    DistilBert(DistilBertConfig),
    Bert(BertConfig),
}

pub const LM_TYPES: [&str; 4] = ["gpt2", "llama", "mistral", "qwen2"];
pub const CLASSIFIER_TYPES: [&str; 2] = ["distilbert", "bert"];

impl LmConfig {
    /// Reads config.json of `folder`.
    ///
    /// # Errors
    /// [`Error::Model`] if it is no config of a supported language model, with everything that
    /// keeps it from being built.
    pub fn read(folder: &Path) -> Result<Self> {
        let (path, value) = read_json_config(folder)?;
        let model_type = supported(&path, &value, "language models", &LM_TYPES)?;
        let quantised = quantization::problem(folder, &value);
        let config = if model_type == "gpt2" {
            serde_json::from_value(value).map(|mut config: Gpt2Config| {
                config.extra.shift_remove("model_type");
                Self::Gpt2(config)
            })
        } else {
            serde_json::from_value(value).map(Self::Llama)
        };
        usable(config, Self::problems, quantised, path)
    }

    pub(super) fn problems(&self) -> Vec<String> {
        match self {
            Self::Gpt2(config) => config.problems(),
            Self::Llama(config) => config.problems(),
        }
    }

    pub fn model_type(&self) -> &'static str {
        match self {
            Self::Gpt2(_) => "gpt2",
            Self::Llama(config) => config.model_type.name(),
        }
    }

    pub fn eos_token_ids(&self) -> Vec<i64> {
        let ids = match self {
            Self::Gpt2(config) => &config.eos_token_id,
            Self::Llama(config) => &config.eos_token_id,
        };
        ids.as_ref().map(TokenIds::to_vec).unwrap_or_default()
    }

    pub(super) fn info(&self, eos_token_ids: Vec<i64>) -> LmInfo {
        match self {
            Self::Gpt2(config) => LmInfo {
                vocab_size: config.vocab_size,
                context: config.n_positions,
                n_layer: config.n_layer,
                hidden_size: config.n_embd,
                kv_size: 2 * config.n_embd,
                bos_token_id: config.bos_token_id,
                eos_token_ids,
            },
            Self::Llama(config) => LmInfo {
                vocab_size: config.vocab_size,
                context: config.max_position_embeddings,
                n_layer: config.num_hidden_layers,
                hidden_size: config.hidden_size,
                kv_size: 2 * config.kv_heads() * config.head_dim(),
                bos_token_id: config.bos_token_id,
                eos_token_ids,
            },
        }
    }

    /// Rows of the embedding.
    pub fn vocab_size(&self) -> i64 {
        match self {
            Self::Gpt2(config) => config.vocab_size,
            Self::Llama(config) => config.vocab_size,
        }
    }

    pub(super) fn tied(&self) -> bool {
        match self {
            Self::Gpt2(config) => config.tie_word_embeddings,
            Self::Llama(config) => config.tie_word_embeddings,
        }
    }

    /// Where the decoder's variables lie in the store.
    pub(super) fn prefix(&self) -> &'static str {
        match self {
            Self::Gpt2(_) => "transformer",
            Self::Llama(_) => "model",
        }
    }

    pub(super) fn build(&self, root: &nn::Path) -> Box<dyn Decoder> {
        let p = root / self.prefix();
        match self {
            Self::Gpt2(config) => Box::new(Gpt2::new(&p, config)),
            Self::Llama(config) => Box::new(Llama::new(&p, config)),
        }
    }

    /// The variable that a decoder's tensor of a weights file belongs in, whatever prefix the file
    /// gives it; `None` for leftovers of old files.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        let obsolete = match self {
            Self::Gpt2(_) => Gpt2Config::is_obsolete(name),
            Self::Llama(_) => LlamaConfig::is_obsolete(name),
        };
        let bare = ["transformer.", "model."]
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix))
            .unwrap_or(name);
        (!obsolete).then(|| format!("{}.{bare}", self.prefix()))
    }

    /// The same of a language model, whose head may be among the tensors; that of a tied one is its
    /// embedding again.
    pub(super) fn lm_variable(&self, name: &str) -> Option<String> {
        match name {
            "lm_head.weight" => (!self.tied()).then(|| name.to_owned()),
            _ => self.variable(name),
        }
    }

    pub(super) fn initial(&self, name: &str) -> Fill {
        match self {
            Self::Gpt2(config) => config.initial(name),
            Self::Llama(config) => config.initial(name),
        }
    }

    /// The class of transformers that opens it with this head, such as `ForSequenceClassification`.
    pub(super) fn architecture(&self, head: &str) -> String {
        match (self, head) {
            (Self::Gpt2(_), "ForCausalLM") => "GPT2LMHeadModel".to_owned(),
            (Self::Gpt2(_), head) => format!("GPT2{head}"),
            (Self::Llama(config), head) => format!("{}{head}", config.model_type.class()),
        }
    }
}

impl ClassifierConfig {
    /// As [`LmConfig::read`].
    pub fn read(folder: &Path) -> Result<Self> {
        let (path, value) = read_json_config(folder)?;
        let model_type = supported(&path, &value, "classifiers", &CLASSIFIER_TYPES)?;
        let quantised = quantization::problem(folder, &value);
        let config = match model_type {
            "bert" => serde_json::from_value(value).map(|mut config: BertConfig| {
                config.extra.shift_remove("model_type");
                Self::Bert(config)
            }),
            _ => serde_json::from_value(value).map(|mut config: DistilBertConfig| {
                config.extra.shift_remove("model_type");
                Self::DistilBert(config)
            }),
        };
        usable(config, Self::problems, quantised, path)
    }

    pub(super) fn problems(&self) -> Vec<String> {
        match self {
            Self::DistilBert(config) => config.problems(),
            Self::Bert(config) => config.problems(),
        }
    }

    pub fn model_type(&self) -> &'static str {
        match self {
            Self::DistilBert(_) => "distilbert",
            Self::Bert(_) => "bert",
        }
    }

    pub fn labels(&self) -> &Labels {
        match self {
            Self::DistilBert(config) => &config.id2label,
            Self::Bert(config) => &config.id2label,
        }
    }

    /// Tokens that one text may have.
    pub fn context(&self) -> i64 {
        match self {
            Self::DistilBert(config) => config.max_position_embeddings,
            Self::Bert(config) => config.max_position_embeddings,
        }
    }

    pub fn vocab_size(&self) -> i64 {
        match self {
            Self::DistilBert(config) => config.vocab_size,
            Self::Bert(config) => config.vocab_size,
        }
    }

    pub(super) fn build(&self, root: &nn::Path) -> Box<dyn SequenceClassifier> {
        match self {
            Self::DistilBert(config) => Box::new(DistilBert::new(root, config)),
            Self::Bert(config) => Box::new(Bert::new(root, config)),
        }
    }

    /// The variable of a tensor: old files hold the constant row of position ids, and names that
    /// TensorFlow gave to norms.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        let renamed = name
            .replace("LayerNorm.gamma", "LayerNorm.weight")
            .replace("LayerNorm.beta", "LayerNorm.bias");
        (!name.ends_with("embeddings.position_ids")).then_some(renamed)
    }

    pub(super) fn initial(&self, name: &str) -> Fill {
        match self {
            Self::DistilBert(config) => config.initial(name),
            Self::Bert(config) => config.initial(name),
        }
    }

    pub(super) fn architecture(&self) -> &'static str {
        match self {
            Self::DistilBert(_) => "DistilBertForSequenceClassification",
            Self::Bert(_) => "BertForSequenceClassification",
        }
    }
}

/// `model_type` of the config.json in `folder`.
pub fn model_type(folder: &Path) -> Result<String> {
    let (path, value) = read_json_config(folder)?;
    let all: Vec<&str> = LM_TYPES.into_iter().chain(CLASSIFIER_TYPES).collect();
    supported(&path, &value, "models", &all).map(str::to_owned)
}

/// The config that was parsed, if nothing is wrong with it.
fn usable<T>(
    parsed: serde_json::Result<T>,
    problems: impl Fn(&T) -> Vec<String>,
    quantised: Option<String>,
    path: PathBuf,
) -> Result<T> {
    let own = parsed.as_ref().map_or_else(|error| vec![error.to_string()], problems);
    match parsed {
        Ok(config) if own.is_empty() && quantised.is_none() => Ok(config),
        _ => Err(Error::Model { path, problems: quantised.into_iter().chain(own).collect() }),
    }
}

fn read_json_config(folder: &Path) -> Result<(PathBuf, Value)> {
    let path = folder.join("config.json");
    stand_in::refuse(&path)?;
    if !path.is_file() {
        let hint = if folder.join("adapter_config.json").is_file() {
            "it is a PEFT adapter, and only language and reward models may be one here: merge it \
             in PEFT (`merge_and_unload`) and name that folder"
        } else {
            "name a folder with a model in Hugging Face layout"
        };
        return Err(Error::model(folder, format!("there is no `config.json`\n\nhint: {hint}")));
    }
    let value = read_json(&path)?;
    Ok((path, value))
}

/// `model_type` if it is among `supported`.
fn supported<'a>(
    path: &Path,
    config: &Value,
    what: &str,
    supported: &[&'a str],
) -> Result<&'a str> {
    let names = || supported.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let Some(found) = config.get("model_type").and_then(Value::as_str) else {
        return Err(Error::model(
            path,
            format!("there is no `model_type`; supported {what}: {}", names()),
        ));
    };
    match supported.iter().find(|name| **name == found) {
        Some(name) => Ok(name),
        None => Err(Error::model(
            path,
            format!("`model_type` is `{found}`; supported {what}: {}", names()),
        )),
    }
}
