//! Where the base of a PEFT adapter folder lies. What is wrong with an adapter is told when
//! `models` opens it, and a base on the hub is fetched by `cli`.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::hub_cache::{cached, in_cache};
use super::hub_id::HubId;

/// In the metadata of an adapter's weights: the way from its folder to that of its base.
pub const BASE_FROM_HERE: &str = "base";

/// Bytes of a safetensors header, at most.
const LARGEST_HEADER: u64 = 100 << 20;

const CONFIG: &str = "adapter_config.json";

/// What an adapter's config says of its base.
struct Named {
    /// A path or a hub id.
    base: String,
    /// Of a hub id, where it is not the main branch.
    revision: Option<String>,
}

impl Named {
    /// `None` where `folder` holds no adapter, or one that names no base.
    fn read(folder: &Path) -> Option<Self> {
        let config: Value =
            serde_json::from_slice(&std::fs::read(folder.join(CONFIG)).ok()?).ok()?;
        let text = |key: &str| config[key].as_str().filter(|text| !text.is_empty());
        let base = text("base_model_name_or_path")?.to_owned();
        Some(Self { base, revision: text("revision").map(str::to_owned) })
    }

    /// A folder that exists. A full path is for other programs, and a project that is moved
    /// outlives it: so the way from the adapter to its base, which its weights tell, comes first,
    /// as long as the config means the same folder. Another path is one from the adapter's folder
    /// or, as in PEFT, from the current one.
    fn local(&self, folder: &Path) -> Option<PathBuf> {
        let named = Path::new(&self.base);
        let moved = way_to_base(folder).filter(|way| {
            let below: PathBuf =
                way.components().filter(|part| matches!(part, Component::Normal(_))).collect();
            named.is_absolute() && named.ends_with(below)
        });
        let by_way = moved.and_then(|way| folder.join(way).canonicalize().ok());
        let places = by_way.into_iter().chain([folder.join(named), named.to_owned()]);
        places.into_iter().find(|place| place.is_dir()).or_else(|| in_cache(named))
    }

    fn hub_id(&self) -> Option<HubId> {
        let id = HubId::parse(&self.base)?;
        match &self.revision {
            Some(revision) => HubId::parse(&format!("{}@{revision}", id.repository)),
            None => Some(id),
        }
    }
}

/// The repository that the base of the adapter in `folder` is, where its config names no folder;
/// `None` of a folder that holds no adapter.
pub fn hub_base(folder: &Path) -> Option<HubId> {
    let named = Named::read(folder)?;
    if named.local(folder).is_some() { None } else { named.hub_id() }
}

/// The folder of the base of the adapter in `folder`, in the hub's cache where it is a repository;
/// `None` where there is no such folder.
pub fn base_folder(folder: &Path) -> Option<PathBuf> {
    let named = Named::read(folder)?;
    named.local(folder).or_else(|| cached(&named.hub_id()?))
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
/// of its base.
pub fn config_folder(folder: &Path) -> PathBuf {
    base_folder(folder).unwrap_or_else(|| folder.to_owned())
}

/// Where the tokenizer of the model in `folder` lies: there, or, of a PEFT adapter that brings
/// none, in the folder of its base.
pub fn tokenizer_folder(folder: &Path) -> PathBuf {
    if folder.join("tokenizer.json").is_file() { folder.to_owned() } else { config_folder(folder) }
}
