//! The files of `[evaluate.alpaca_eval]` that verdicts come from beside the responses.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::recipe::AlpacaEvalTable;

/// The files of annotators of the user's, in the order of their names; none of those that the
/// package knows by a name.
pub fn annotator_files(table: &AlpacaEvalTable) -> Result<Vec<PathBuf>> {
    if !table.has_own_annotators() {
        return Ok(Vec::new());
    }
    let folder = Path::new(&table.annotators);
    let entries = std::fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>());
    let mut files = entries.map_err(Error::io(folder, "reading the folder"))?;
    files.retain(|file| file.is_file());
    files.sort();
    Ok(files)
}
