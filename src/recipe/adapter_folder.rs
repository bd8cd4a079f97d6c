//! Where the base of a PEFT adapter folder lies. What is wrong with an adapter is told when
//! `models` opens it.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

/// In the metadata of an adapter's weights: the way from its folder to that of its base.
pub const BASE_FROM_HERE: &str = "base";

/// Bytes of a safetensors header, at most.
const LARGEST_HEADER: u64 = 100 << 20;

/// The folder of the base of the adapter in `folder`, whose config calls it `named`: a full path
/// for other programs, which a project that is moved outlives. So the way from the adapter to its
/// base, which its weights tell, comes first, as long as the config means the same folder.
pub fn base_folder(folder: &Path, named: &str) -> PathBuf {
    let named = Path::new(named);
    let moved = way_to_base(folder).filter(|way| {
        let below: PathBuf =
            way.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        named.is_absolute() && named.ends_with(below)
    });
    moved.and_then(|way| folder.join(way).canonicalize().ok()).unwrap_or_else(|| folder.join(named))
}

fn way_to_base(folder: &Path) -> Option<PathBuf> {
    let mut file = File::open(folder.join("adapter_model.safetensors")).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let mut header = Vec::new();
    file.take(u64::from_le_bytes(length).min(LARGEST_HEADER)).read_to_end(&mut header).ok()?;
    let header: Value = serde_json::from_slice(&header).ok()?;
    Some(PathBuf::from(header["__metadata__"][BASE_FROM_HERE].as_str()?))
}

/// Where the config.json of the model in `folder` lies: there, or, of a PEFT adapter, in the folder
/// of its base. What is wrong with an adapter is told when it is opened.
pub fn config_folder(folder: &Path) -> PathBuf {
    let base = || -> Option<PathBuf> {
        let config: Value =
            serde_json::from_slice(&std::fs::read(folder.join("adapter_config.json")).ok()?)
                .ok()?;
        Some(base_folder(folder, config.get("base_model_name_or_path")?.as_str()?))
    };
    base().unwrap_or_else(|| folder.to_owned())
}
