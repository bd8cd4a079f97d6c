//! A sequence classifier as a folder in Hugging Face layout. Language models are in `folder.rs`; what
//! the labels mean is said by `labels.rs`.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::config::ClassifierConfig;
use super::config_keys::refuse;
use super::encoder::SequenceClassifier;
use super::folder::{check_room, write_config};
use super::variables::Variables;
use super::weights::Headers;
use super::{init, shapes, weights};
use crate::error::{Error, Result};

/// A sequence classifier with its variables.
pub struct Classifier {
    model: Box<dyn SequenceClassifier>,
    pub config: ClassifierConfig,
    variables: Variables,
    positive: i64,
}

impl Classifier {
    /// Opens a folder for inference: frozen, its weights converted to `kind` whatever they are
    /// stored as. Fails if the labels' names do not say which one is positive.
    pub fn open(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        let mut classifier = Self::read(folder, device, kind)?;
        classifier.variables.freeze();
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
    pub fn new(config: ClassifierConfig, seed: u64, device: Device) -> Result<Self> {
        refuse(config.problems(), Error::Recipe)?;
        let classifier = Self::build(config, device, Kind::Float)?;
        init::fill(&classifier.variables.all(), seed, |name| classifier.config.initial(name))?;
        Ok(classifier)
    }

    /// Whether the folder holds a classifier that can be opened, as far as its config and the
    /// headers of its weights tell.
    pub fn check_folder(folder: &Path) -> Result<()> {
        let (config, headers) = (ClassifierConfig::read(folder), Headers::open(folder));
        let (config, headers) = match (config, headers) {
            (Ok(config), Ok(headers)) => (config, headers),
            (config, headers) => {
                return Error::all(folder, config.err().into_iter().chain(headers.err()));
            }
        };
        let mut wanted = shapes::of_classifier(&config);
        let labels = config.labels().count();
        let rows = headers
            .shape("classifier.weight")
            .and_then(|shape| shape.first())
            .map(|&rows| rows as i64);
        let other = rows.filter(|rows| *rows != labels).map(|rows| {
            // Said once, and better than by shapes.
            wanted.entry("classifier.weight".to_owned()).and_modify(|shape| shape[0] = rows);
            wanted.entry("classifier.bias".to_owned()).and_modify(|shape| shape[0] = rows);
            Error::model(
                folder,
                format!(
                    "its weights are of {rows} labels, `id2label` in config.json names {labels}"
                ),
            )
        });
        let fits = headers.check(&wanted, "config.json", |name| config.variable(name));
        Error::all(folder, other.into_iter().chain(fits.err()))
    }

    fn read(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        let config = ClassifierConfig::read(folder)?;
        check_room(folder, device, kind)?;
        let classifier = Self::build(config, device, kind)?;
        weights::load(folder, &classifier.variables.all(), |name| {
            classifier.config.variable(name)
        })?;
        Ok(classifier)
    }

    fn build(config: ClassifierConfig, device: Device, kind: Kind) -> Result<Self> {
        let positive = config.labels().positive().map_err(Error::failed)?;
        let variables = Variables::new(device, kind);
        Ok(Self { model: config.build(&variables.root()), config, variables, positive })
    }

    /// The frozen model for inference alone, as [`Lm::packed`].
    pub fn packed(mut self) -> Self {
        self.variables.pack(self.model.linears(), "");
        self
    }

    /// [`SequenceClassifier::forward`].
    pub fn logits(&self, ids: &Tensor, mask: &Tensor) -> Tensor {
        self.model.forward(ids, mask)
    }

    /// Index of the label that means positive, by its name in the config.
    pub fn positive_label(&self) -> i64 {
        self.positive
    }

    /// All weights under their Hugging Face names, sorted. They alias the model's own.
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        self.variables.all().into_iter().collect()
    }

    pub fn device(&self) -> Device {
        self.variables.device()
    }

    pub fn kind(&self) -> Kind {
        self.variables.kind()
    }

    /// Saves config.json and model.safetensors, each atomically and the config last.
    pub fn save(&self, folder: &Path) -> Result<()> {
        weights::write_tensors(&folder.join("model.safetensors"), &self.parameters(), &[])?;
        write_config(
            folder,
            &self.config,
            self.config.model_type(),
            self.config.architecture(),
            self.kind(),
        )
    }
}
