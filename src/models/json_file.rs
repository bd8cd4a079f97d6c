//! JSON files of model folders, as they stand; what their keys mean is left to the configs.

use std::io::Write;
use std::path::Path;

use serde_json::Value;

use crate::artifacts::{atomic, stand_in};
use crate::error::{Error, Result};

pub(super) fn read_json(path: &Path) -> Result<Value> {
    stand_in::refuse(path)?;
    let text = std::fs::read_to_string(path).map_err(Error::io(path, "reading"))?;
    serde_json::from_str(&text)
        .map_err(|error| Error::data(path, Some(error.line()), error.to_string()))
}

pub(super) fn write_json(path: &Path, value: &Value) -> Result<()> {
    atomic::write_with(path, |file| writeln!(file, "{value:#}"))
}
