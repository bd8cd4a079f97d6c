//! `w2s doctor`.

use clap::Args;

use super::print;
use crate::error::Result;
use crate::models::device::DeviceReport;

#[derive(Debug, Args)]
pub struct DoctorCommand {}

impl DoctorCommand {
    pub fn execute(self) -> Result<()> {
        print(&DeviceReport::collect().to_string())
    }
}
