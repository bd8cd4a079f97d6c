//! The object that a small JSON file of a model folder holds.

use std::path::Path;

use serde_json::{Map, Value};

use crate::artifacts::stand_in;
use crate::error::{Error, Result};

/// The object in a JSON file; `None` where there is no such file.
pub(super) fn read_json(path: &Path) -> Result<Option<Map<String, Value>>> {
    stand_in::refuse(path)?;
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(Error::io(path, "reading"))?,
    };
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(fields)) => Ok(Some(fields)),
        Ok(_) => Err(Error::data(path, None, "a JSON object was expected")),
        Err(error) => {
            Err(Error::data(path, Some(error.line()), format!("not valid JSON: {error}")))
        }
    }
}
