//! `w2s doctor`: what this machine offers, whether models can be opened, and what servers can do
//! (`doctor/served.rs`). What is found comes from `machine`, `models` and `policy`.

mod served;

use std::path::{Path, PathBuf};

use clap::Args;
use tracing::warn;

use self::served::ServedFlags;
use super::{hub, print};
use crate::error::{Error, Result};
use crate::http::address::is_address;
use crate::machine::device::DeviceReport;
use crate::models::config::{self, CLASSIFIER_TYPES};
use crate::models::{check_lm_folder, ends, notes};
use crate::recipe::hub_model;
use crate::score::JudgeModel;
use crate::text::{Tokenizer, folder_reports};

#[derive(Debug, Args)]
pub struct DoctorCommand {
    /// Model folders or hub ids: what their tokenizers are, and whether the others have the
    /// vocabulary of the first; or the address of a server, such as http://127.0.0.1:8000/v1: what
    /// it can do, by asking it, and the lines of a recipe that fit
    #[arg(value_name = "MODEL|URL")]
    models: Vec<String>,
    #[command(flatten)]
    served: ServedFlags,
}

impl DoctorCommand {
    pub fn execute(self) -> Result<()> {
        if self.models.iter().any(|model| is_address(model)) {
            return self.servers();
        }
        if self.models.is_empty() {
            return print(&DeviceReport::collect().to_string());
        }
        let folders: Vec<PathBuf> =
            self.models.iter().map(|model| folder(model)).collect::<Result<_>>()?;
        print(&folder_reports(&folders.iter().map(PathBuf::as_path).collect::<Vec<_>>(), model)?)
    }
}

impl DoctorCommand {
    /// One server after the other.
    fn servers(&self) -> Result<()> {
        if let Some(folder) = self.models.iter().find(|model| !is_address(model)) {
            return Err(Error::recipe(format!(
                "`{folder}` is no address, and others are\n\nhint: ask for folders and for \
                 servers by commands of their own"
            )));
        }
        let reports: Vec<String> =
            self.models.iter().map(|url| self.served.report(url)).collect::<Result<_>>()?;
        print(&reports.join("\n\n"))
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

/// What a run would say of the folder's model before it reads the weights: that they fit, where
/// answers end, and what else is to be known.
fn model(folder: &Path, tokenizer: Option<&Tokenizer>) -> Vec<(&'static str, String)> {
    let is_classifier =
        config::model_type(folder).is_ok_and(|family| CLASSIFIER_TYPES.contains(&family.as_str()));
    let fits = "their headers are as config.json asks for".to_owned();
    if is_classifier {
        let found = JudgeModel::check_folder(folder);
        return vec![("weights", found.map_or_else(|error| error.to_string(), |()| fits))];
    }
    if let Err(error) = check_lm_folder(folder, false) {
        // A reward model is no language model, and may be the gold.
        let is_reward = JudgeModel::check_folder(folder).is_ok();
        let of_reward = "of a reward model, as config.json asks for".to_owned();
        return vec![("weights", if is_reward { of_reward } else { error.to_string() })];
    }
    let Some(tokenizer) = tokenizer else { return vec![("weights", fits)] };
    let said = |text: Result<String>| text.unwrap_or_else(|error| error.to_string());
    let told = notes(folder, tokenizer, true).unwrap_or_else(|error| vec![error.to_string()]);
    [("weights", fits), ("answers end at", said(ends(folder, tokenizer)))]
        .into_iter()
        .chain(told.into_iter().map(|note| ("warning", note)))
        .collect()
}
