//! Copies of golden folders in which tests may change things.

use std::path::Path;

use serde_json::Value;
use tch::{Device, Kind, Tensor};
use w2s::models::Lm;

use super::folder;

const CPU: Device = Device::Cpu;

/// A copy of a golden folder in which tests may change things.
pub fn copy(name: &str) -> tempfile::TempDir {
    let target = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, target.path().join(path.file_name().unwrap())).unwrap();
    }
    target
}

pub fn edit_json(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    edit(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

pub fn open(folder: &Path) -> Lm {
    Lm::open(folder, CPU, Kind::Float).unwrap_or_else(|error| panic!("{error}"))
}

pub fn refusal(folder: &Path) -> String {
    Lm::open(folder, CPU, Kind::Float).err().expect("this folder must not open").to_string()
}

pub fn assert_same(left: &[(String, Tensor)], right: &[(String, Tensor)]) {
    assert_eq!(
        left.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        right.iter().map(|(name, _)| name).collect::<Vec<_>>()
    );
    for ((name, left), (_, right)) in left.iter().zip(right) {
        assert!(left.kind() == right.kind() && left.equal(right), "{name}");
    }
}
