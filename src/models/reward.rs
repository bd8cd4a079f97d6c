//! Reward models: a decoder with a scalar head, read at one token of each text.
//! `ForSequenceClassification` with one label (Llama, Mistral, Qwen2, GPT-2), UltraRM
//! (`regression_head`) and Starling-RM (`v_head`); a folder's weights tell which.

use std::path::Path;

use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::adapter_config::base_of_adapter;
use super::adapter_options::{NO_REWARD, Purpose};
use super::config::LmConfig;
use super::config_keys::refuse;
use super::folder::{Lm, write_config};
use super::lora;
use super::weights::Headers;
use super::{CausalLm, Input, LmInfo, init, layers, shapes, weights};
use crate::error::{Error, Result};
use crate::kernels::Weight;
use crate::recipe::Lora;

/// Where the scalar head comes from, which also settles how texts are laid out and scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RewardHead {
    /// `score`: transformers' sequence classification with one label.
    Score,
    /// `regression_head`: UltraRM.
    Regression,
    /// `v_head`: Starling-RM.
    Value,
}

impl RewardHead {
    const ALL: [Self; 3] = [Self::Score, Self::Regression, Self::Value];

    /// The head that is among a folder's tensors.
    pub(super) fn of(headers: &Headers) -> Option<Self> {
        Self::ALL.into_iter().find(|head| headers.shape(head.tensor()).is_some())
    }

    pub(super) fn tensor(self) -> &'static str {
        match self {
            Self::Score => "score.weight",
            Self::Regression => "regression_head.weight",
            Self::Value => "v_head.weight",
        }
    }

    /// How many numbers the head gives for a text, as the headers have it; a reward is one.
    fn rows(self, headers: &Headers) -> i64 {
        let shape = headers.shape(self.tensor());
        shape.and_then(|shape| shape.first()).map_or(1, |&rows| rows as i64)
    }

    /// What is said of a folder with such a head where a language model is wanted.
    pub(super) fn is_no_lm(self, headers: &Headers) -> String {
        let head = self.tensor();
        match self.rows(headers) {
            1 => format!(
                "is a reward model (it has `{head}`), not a language model\n\nhint: it can be the \
                 `gold`"
            ),
            rows => format!(
                "is a classifier of {rows} labels (by its `{head}`), neither a language model nor a \
                 reward model, which gives one number for a text"
            ),
        }
    }

    /// The text that such a model was trained on, with `{prompt}` and `{response}` once each.
    pub fn layout(self) -> &'static str {
        match self {
            Self::Score => "{prompt}{response}",
            Self::Regression => "Human: {prompt}\n\nAssistant: {response}",
            Self::Value => {
                "<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n{response}<|im_end|>"
            }
        }
    }
}

pub struct RewardModel {
    /// What is below the head.
    lm: Lm,
    score: Tensor, // (1, hidden_size)
    pub head: RewardHead,
}

impl RewardModel {
    /// Opens a folder for inference: frozen, its weights converted to `kind` whatever they are
    /// stored as. An adapter is merged into the weights of its base.
    pub fn open(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        let mut reward = Self::read(folder, device, kind)?;
        reward.lm.variables.freeze();
        Ok(reward)
    }

    /// The frozen model for inference alone, as [`Lm::packed`].
    pub fn packed(mut self) -> Self {
        self.lm.variables.pack(self.lm.model.linears(), self.lm.config.prefix());
        self
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
        let reward = Self::build(config, RewardHead::Score, device, Kind::Float);
        init::fill(&reward.lm.variables.all(), seed, |name| reward.lm.config.initial(name))?;
        Ok(reward)
    }

    /// The language model in `folder` (an adapter is merged) with a head of zeros in place of its
    /// own, for training with gradients in `kind`. All rewards are 0, so that the Bradley–Terry
    /// loss starts at ln 2.
    pub fn from_lm(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        Ok(Self::on(Lm::open_body(folder, device, kind)?, RewardHead::Score))
    }

    /// [`Self::from_lm`] for training by LoRA, as [`Lm::open_lora`]: the adapters and the whole
    /// head learn.
    pub fn lora_on_lm(
        folder: &Path,
        device: Device,
        kind: Kind,
        settings: &Lora,
        seed: u64,
    ) -> Result<Self> {
        Ok(Self::on(Lm::open_lora_body(folder, device, kind, settings, seed)?, RewardHead::Score))
    }

    /// Whether the parameter `name` is the head's.
    pub fn is_head(name: &str) -> bool {
        name == RewardHead::Score.tensor()
    }

    fn read(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        if let Some(base) = base_of_adapter(folder)? {
            return Self::read_adapter(folder, &base, device, kind);
        }
        let config = LmConfig::read(folder)?;
        let headers = Headers::open(folder)?;
        let head = Self::head_of(folder, &headers)?;
        Self::check_weights(folder, &config, &headers, head)?;
        let reward = Self::build(config, head, device, kind);
        weights::load(folder, &reward.lm.variables.all(), |name| {
            Self::variable(&reward.lm.config, head, name)
        })?;
        Ok(reward)
    }

    /// The language model in `base` with the adapter in `folder` and the head that it brings.
    fn read_adapter(folder: &Path, base: &Path, device: Device, kind: Kind) -> Result<Self> {
        lora::check(folder, &LmConfig::read(base)?, Purpose::Reward)?;
        let Self { mut lm, score, head } = Self::from_lm(base, device, kind)?;
        lora::merge_folder(lm.model.linears(), lm.config.prefix(), folder, device, Some(&score))?;
        Ok(Self { lm, score, head })
    }

    /// The variable that a tensor of the folder belongs in.
    fn variable(config: &LmConfig, head: RewardHead, name: &str) -> Option<String> {
        match name {
            name if name == head.tensor() => Some(RewardHead::Score.tensor().to_owned()),
            "lm_head.weight" => None, // kept by some from the model that was tuned
            _ => config.variable(name),
        }
    }

    /// Whether the folder holds a reward model that can be opened, as far as its config and the
    /// headers of its weights tell.
    pub fn check_folder(folder: &Path) -> Result<()> {
        let base = base_of_adapter(folder)?;
        let home = base.as_deref().unwrap_or(folder);
        let (config, headers) = (LmConfig::read(home), Headers::open(home));
        let fits = match (&config, &headers) {
            (Ok(config), Ok(headers)) if base.is_some() => {
                let adapter = lora::check(folder, config, Purpose::Reward);
                Error::all(
                    folder,
                    [Lm::check_weights(home, config, headers), adapter]
                        .into_iter()
                        .filter_map(Result::err),
                )
                .err()
            }
            (Ok(config), Ok(headers)) => Self::head_of(folder, headers)
                .and_then(|head| Self::check_weights(folder, config, headers, head))
                .err(),
            _ => None,
        };
        Error::all(folder, config.err().into_iter().chain(headers.err()).chain(fits))
    }

    fn check_weights(
        folder: &Path,
        config: &LmConfig,
        headers: &Headers,
        head: RewardHead,
    ) -> Result<()> {
        let rows = head.rows(headers);
        let labels = (rows != 1).then(|| {
            let what = format!(
                "`{}` gives {rows} numbers for a text, a reward model gives one",
                head.tensor()
            );
            Error::model(
                folder,
                format!(
                    "{what}\n\nhint: it was trained as a classifier of {rows} labels: train it with \
                     `num_labels=1`, as TRL's RewardTrainer does; of classifiers `[gold]` takes \
                     DistilBERT and BERT"
                ),
            )
        });
        // The number of labels is said once, and better than by shapes.
        let wanted = shapes::of_decoder(config, Some((RewardHead::Score.tensor(), rows)));
        let fits = headers.check(&wanted, "config.json", |name| Self::variable(config, head, name));
        Error::all(folder, labels.into_iter().chain(fits.err()))
    }

    fn head_of(folder: &Path, headers: &Headers) -> Result<RewardHead> {
        RewardHead::of(headers).ok_or_else(|| {
            // Damaged shards are told as such.
            if let Err(unread) = headers.whole() {
                return unread;
            }
            let heads = RewardHead::ALL.map(|head| format!("`{}`", head.tensor())).join(", ");
            Error::model(
                folder,
                format!("is no reward model: its weights hold none of {heads}\n\n{NO_REWARD}"),
            )
        })
    }

    fn build(config: LmConfig, head: RewardHead, device: Device, kind: Kind) -> Self {
        let ends = config.eos_token_ids();
        Self::on(Lm::without_head(config, ends, device, kind), head)
    }

    /// A head of zeros that learns, on `lm`.
    fn on(lm: Lm, head: RewardHead) -> Self {
        let score = layers::zeros(
            &(&lm.variables.root() / "score"),
            "weight",
            &[1, lm.model.info().hidden_size],
        );
        Self { lm, score, head }
    }

    pub fn info(&self) -> &LmInfo {
        self.lm.model.info()
    }

    /// What gives the hidden states; it predicts no tokens.
    pub fn body(&self) -> &CausalLm {
        &self.lm.model
    }

    /// Rewards (texts) f32 of hidden states, (texts, hidden_size) of any kind.
    pub fn rewards_of_states(&self, states: &Tensor) -> Tensor {
        Weight::new(&self.score.to_kind(Kind::Float), false)
            .product(&states.to_kind(Kind::Float), None)
            .squeeze_dim(1)
    }

    /// Rewards (batch) f32 of right-padded texts, each read at its token `at[row]`, (batch) i64.
    pub fn rewards(&self, input: &Input, at: &Tensor) -> Tensor {
        let hidden = self.lm.model.hidden(input); // (batch, seq, hidden_size)
        let (batch, _, hidden_size) =
            hidden.size3().expect("hidden states are (batch, seq, hidden_size)");
        self.rewards_of_states(
            &hidden
                .gather(1, &at.view([batch, 1, 1]).expand([batch, 1, hidden_size], false), false)
                .squeeze_dim(1),
        )
    }

    /// Rewards (texts) f32, each read at its last token; `texts` are ids, at least one and at most
    /// `context` each. One forward pass, padded on the right: a causal model never sees that
    /// padding.
    pub fn rewards_of(&self, texts: &[&[i64]]) -> Tensor {
        let width = texts.iter().map(|ids| ids.len()).max().unwrap_or(0);
        let padded: Vec<i64> = texts
            .iter()
            .flat_map(|ids| (0..width).map(|place| ids.get(place).copied().unwrap_or(0)))
            .collect();
        let last: Vec<i64> = texts.iter().map(|ids| ids.len() as i64 - 1).collect();
        let (device, shape) = (self.device(), [texts.len() as i64, width as i64]);
        let ids = Tensor::from_slice(&padded).view(shape).to_device(device);
        let positions =
            Tensor::arange(width as i64, (Kind::Int64, device)).unsqueeze(0).expand(shape, false);
        self.rewards(
            &Input { ids: &ids, positions: &positions, valid: None, packing: None },
            &Tensor::from_slice(&last).to_device(device),
        )
    }

    /// All weights, sorted, under the names of transformers' sequence classification. They alias
    /// the model's own.
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        self.lm.parameters()
    }

    /// What training changes: all weights, or A and B of every adapter under PEFT's names and the
    /// head.
    pub fn trainable_parameters(&self) -> Vec<(String, Tensor)> {
        let mut parameters = self.lm.trainable_parameters();
        if self.lm.adapters.is_some() {
            parameters.push((RewardHead::Score.tensor().to_owned(), self.score.shallow_clone()));
        }
        parameters
    }

    pub fn device(&self) -> Device {
        self.lm.device()
    }

    pub fn kind(&self) -> Kind {
        self.lm.kind()
    }

    /// Saves config.json and model.safetensors for transformers' sequence classification with one
    /// label.
    pub fn save(&self, folder: &Path) -> Result<()> {
        self.save_weights(folder, &self.parameters(), self.kind(), None)
    }

    /// [`Self::save`] of a trained model, whose `weights` are the f32 ones of
    /// [`Self::trainable_parameters`]. Adapters are merged, or saved alone with the head as a PEFT
    /// adapter folder, as their settings say. `pad` is the padding token of the tokenizer beside
    /// it: transformers reads the reward before the first of those that end a text.
    pub fn save_trained(
        &self,
        folder: &Path,
        weights: &[(String, Tensor)],
        pad: Option<i64>,
    ) -> Result<()> {
        let Some(adapters) = &self.lm.adapters else {
            return self.save_weights(folder, weights, Kind::Float, pad);
        };
        let learned = weights
            .iter()
            .find(|(name, _)| Self::is_head(name))
            .map_or(&self.score, |(_, weight)| weight);
        if adapters.is_saved_alone() {
            return adapters.save_with_score(folder, learned);
        }
        let all = self.parameters().into_iter().map(|(name, weight)| match Self::is_head(&name) {
            true => (name, learned.shallow_clone()),
            false => (name, weight),
        });
        self.save_weights(folder, &adapters.merged(all.collect()), Kind::Float, pad)
    }

    fn save_weights(
        &self,
        folder: &Path,
        weights: &[(String, Tensor)],
        kind: Kind,
        pad: Option<i64>,
    ) -> Result<()> {
        weights::write_tensors(&folder.join("model.safetensors"), weights, &[])?;
        let config = &self.lm.config;
        let mut fields = serde_json::to_value(config).expect("a config is JSON");
        fields["id2label"] = json!({ "0": "reward" });
        fields["label2id"] = json!({ "reward": 0 });
        if let Some(pad) = pad {
            fields["pad_token_id"] = json!(pad);
        } else if fields["pad_token_id"] == Value::Null {
            // transformers refuses batches without one; it only tells padding from text.
            fields["pad_token_id"] = json!(config.eos_token_ids().first().copied().unwrap_or(0));
        }
        write_config(
            folder,
            &fields,
            config.model_type(),
            &config.architecture("ForSequenceClassification"),
            kind,
        )
    }
}
