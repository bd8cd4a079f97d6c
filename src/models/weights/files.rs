//! Which files hold a folder's weights: one of safetensors, its shards by their index, or the same
//! of `torch.save`.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::artifacts::stand_in;
use crate::error::{Error, Result};

const SINGLE: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];
/// A thousand times the index of a 70B model.
const LARGEST_INDEX: u64 = 64 << 20;
const MOST_SHARDS: usize = 10_000;

/// Safetensors are taken where both are there. Shards that an index names may be missing.
pub fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    for name in SINGLE {
        let single = folder.join(name);
        if is_there(&single)? {
            return Ok(vec![single]);
        }
        let index = folder.join(format!("{name}.index.json"));
        if is_there(&index)? {
            return shards(folder, &index);
        }
    }
    let names = SINGLE.map(|name| format!("`{name}` nor `{name}.index.json`"));
    Err(Error::model(
        folder,
        format!(
            "holds neither {}\n\nhint: open the model in transformers and save it again if it has \
             other weights",
            names.join(" nor ")
        ),
    ))
}

/// Whether there is such a file; an error where a link promises one, or where the folder may not
/// be looked into.
fn is_there(path: &Path) -> Result<bool> {
    stand_in::refuse(path)?;
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.is_file()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(Error::io(path, "reading")(error))
        }
        Err(_) => Ok(false),
    }
}

/// The files that an index names, each checked to be a plain name of this folder.
fn shards(folder: &Path, index: &Path) -> Result<Vec<PathBuf>> {
    let size = std::fs::metadata(index).map_err(Error::io(index, "reading"))?.len();
    if size > LARGEST_INDEX {
        return Err(Error::data(
            index,
            None,
            format!("has {size} bytes, more than any index of weights"),
        ));
    }
    let text = std::fs::read_to_string(index).map_err(Error::io(index, "reading"))?;
    let parsed: Value = serde_json::from_str(&text)
        .map_err(|error| Error::data(index, Some(error.line()), error.to_string()))?;
    let Some(map) = parsed["weight_map"].as_object() else {
        return Err(Error::data(index, None, "has no table `weight_map`"));
    };
    let mut shards = Vec::new();
    for shard in map.values() {
        let name = shard
            .as_str()
            .filter(|name| Path::new(name).file_name().is_some_and(|file| file == *name));
        let name = name.ok_or_else(|| {
            Error::data(
                index,
                None,
                format!("`weight_map` names {shard}, which is no file of this folder"),
            )
        })?;
        shards.push(folder.join(name));
    }
    shards.sort();
    shards.dedup();
    if shards.len() > MOST_SHARDS {
        return Err(Error::data(
            index,
            None,
            format!("names {} files, more than any model has", shards.len()),
        ));
    }
    Ok(shards)
}
