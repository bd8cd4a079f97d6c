//! Models that cannot be used: told before any work, by headers alone, all of them at once, and by
//! every command alike.

mod headers;
mod told;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use w2s::models::Lm;
use w2s::models::weights::{read_tensors, write_tensors};
use w2s::recipe::{Lora, LoraSave};

use crate::common::tiny_model;
use crate::golden::edit::edit_json;

const CPU: Device = Device::Cpu;

fn edit_weights(folder: &Path, edit: impl FnOnce(&mut BTreeMap<String, Tensor>)) {
    let path = folder.join("model.safetensors");
    let mut tensors = read_tensors(&path).unwrap();
    edit(&mut tensors);
    write_tensors(&path, &tensors.into_iter().collect::<Vec<_>>(), &[]).unwrap();
}

/// A copy of the tiny model below `folder`.
fn model(folder: &Path, name: &str) -> PathBuf {
    tiny_model(&folder.join(name))
}

/// An adapter of the model `base`.
fn adapter(base: &Path, folder: &Path, edit: impl FnOnce(&mut Value)) {
    let lora =
        Lora { rank: 4, alpha: 6.0, targets: vec!["c_attn".to_owned()], save: LoraSave::Adapter };
    Lm::open_lora(base, CPU, Kind::Float, &lora, 1).unwrap().save(folder).unwrap();
    edit_json(&folder.join("adapter_config.json"), edit);
}

fn quantise(model: &Path) {
    edit_json(&model.join("config.json"), |config| {
        config["quantization_config"] =
            json!({ "quant_method": "bitsandbytes", "load_in_4bit": true });
    });
}

const QUANTISED: &str = "`quantization_config`: the weights are quantised by bitsandbytes to 4 \
                         bits, and only F16, BF16, F32 and F64 are read";
