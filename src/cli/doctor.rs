//! `w2s doctor`.

use std::path::Path;

use clap::Args;

use super::print;
use crate::error::{Error, Result};
use crate::machine::device::DeviceReport;
use crate::models::check_lm_folder;
use crate::models::config::{self, CLASSIFIER_TYPES};
use crate::score::JudgeModel;
use crate::text::{folder_reports, indented};

#[derive(Debug, Args)]
pub struct DoctorCommand {
    /// Model folders: what their tokenizers are, and whether the others have the vocabulary of the
    /// first
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
}

impl DoctorCommand {
    pub fn execute(self) -> Result<()> {
        if let Some(url) = self.models.iter().find(|model| model.contains("://")) {
            return Err(Error::recipe(format!(
                "`{url}` is a URL, and this version does not ask servers yet\n\nhint: give model \
                 folders"
            )));
        }
        if self.models.is_empty() {
            return print(&DeviceReport::collect().to_string());
        }
        print(&folder_reports(&self.models.iter().map(Path::new).collect::<Vec<_>>(), weights)?)
    }
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
