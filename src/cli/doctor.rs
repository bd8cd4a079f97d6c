//! `w2s doctor`: what this machine offers and whether models can be opened. What is found comes
//! from `machine` and `models`.

use std::path::{Path, PathBuf};

use clap::Args;
use tracing::warn;

use super::{hub, print};
use crate::error::{Error, Result};
use crate::machine::device::DeviceReport;
use crate::models::check_lm_folder;
use crate::models::config::{self, CLASSIFIER_TYPES};
use crate::recipe::hub_model;
use crate::score::JudgeModel;
use crate::text::{folder_reports, indented};

#[derive(Debug, Args)]
pub struct DoctorCommand {
    /// Model folders or hub ids: what their tokenizers are, and whether the others have the vocabulary of the
    /// first
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
}

impl DoctorCommand {
    pub fn execute(self) -> Result<()> {
        if let Some(url) = self.models.iter().find(|model| model.contains("://")) {
            return Err(Error::recipe(format!(
                "`{url}` is a URL, and this version does not ask servers yet\n\nhint: give model \
                 folders or hub ids"
            )));
        }
        if self.models.is_empty() {
            return print(&DeviceReport::collect().to_string());
        }
        let folders: Vec<PathBuf> =
            self.models.iter().map(|model| folder(model)).collect::<Result<_>>()?;
        print(&folder_reports(&folders.iter().map(PathBuf::as_path).collect::<Vec<_>>(), weights)?)
    }
}

/// The folder of a model, fetched where it is a hub id. What is wrong with one that lies here, such
/// as an adapter whose base the hub does not give, is part of what is told of it.
fn folder(model: &str) -> Result<PathBuf> {
    let is_id = hub_model(Path::new(""), model).is_some();
    hub::model(model).or_else(|error| match is_id {
        true => Err(error),
        false => {
            if Path::new(model).exists() {
                warn!("{error}");
            }
            Ok(PathBuf::from(model))
        }
    })
}

/// What a run would say of the folder's model before it reads the weights.
fn weights(folder: &Path) -> String {
    let is_classifier =
        config::model_type(folder).is_ok_and(|family| CLASSIFIER_TYPES.contains(&family.as_str()));
    let found = if is_classifier {
        JudgeModel::check_folder(folder)
    } else {
        check_lm_folder(folder, false)
    };
    match found {
        Ok(()) => "their headers are as config.json asks for".to_owned(),
        // A reward model is no language model, and may be the gold.
        Err(_) if !is_classifier && JudgeModel::check_folder(folder).is_ok() => {
            "of a reward model, as config.json asks for".to_owned()
        }
        Err(error) => indented(&error.to_string()),
    }
}
