//! What the model tests share: the golden folders and values of make.py, and plain forward passes.

pub mod edit;

use std::path::{Path, PathBuf};

use serde_json::Value;
use tch::{Device, Kind, Tensor};
use w2s::models::{Input, Lm};

pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

pub fn values(name: &str) -> Value {
    let text = std::fs::read_to_string(folder("values.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[name].take()
}

/// The golden ids, (3, 12).
pub fn ids(values: &Value) -> Tensor {
    tensor(&values["ids"]).to_kind(Kind::Int64)
}

/// Rows of numbers, f32.
pub fn tensor(rows: &Value) -> Tensor {
    let rows: Vec<Vec<f64>> = serde_json::from_value(rows.clone()).unwrap();
    Tensor::from_slice2(&rows).to_kind(Kind::Float)
}

/// 0, 1, 2, … for every row.
pub fn positions(ids: &Tensor) -> Tensor {
    let (batch, seq) = ids.size2().unwrap();
    Tensor::arange(seq, (Kind::Int64, Device::Cpu)).unsqueeze(0).expand([batch, seq], false)
}

/// Logits of whole rows without a cache, (batch, seq, vocab_size) in f32.
pub fn logits(lm: &Lm, ids: &Tensor) -> Tensor {
    let hidden =
        lm.model.hidden(&Input { ids, positions: &positions(ids), valid: None, packing: None });
    lm.model.logits(&hidden).to_kind(Kind::Float)
}

/// The largest absolute difference; NaN counts as infinite.
pub fn difference(left: &Tensor, right: &Tensor) -> f64 {
    let largest = (left.to_kind(Kind::Float) - right.reshape(left.size()).to_kind(Kind::Float))
        .abs()
        .max()
        .double_value(&[]);
    if largest.is_nan() { f64::INFINITY } else { largest }
}
