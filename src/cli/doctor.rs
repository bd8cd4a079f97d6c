//! `w2s doctor`.

use std::path::Path;

use clap::Args;

use super::print;
use crate::error::{Error, Result};
use crate::models::device::DeviceReport;
use crate::text::folder_reports;

#[derive(Debug, Args)]
pub struct DoctorCommand {
    /// Model folders: what their tokenizers are, and whether the others have the vocabulary of the first
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
}

impl DoctorCommand {
    pub fn execute(self) -> Result<()> {
        if let Some(url) = self.models.iter().find(|model| model.contains("://")) {
            return Err(Error::recipe(format!("`{url}` is a URL, and this version does not ask servers yet\n\nhint: give model folders")));
        }
        if self.models.is_empty() {
            return print(&DeviceReport::collect().to_string());
        }
        print(&folder_reports(&self.models.iter().map(Path::new).collect::<Vec<_>>())?)
    }
}
