//! The models' arithmetic: equal to transformers, and equal to itself with a cache, with padding,
//! after reordering and after rollback.

mod caches;
mod gradients;
mod logits;

use tch::{Device, Kind, Tensor};
use w2s::models::{Gpt2Config, KvCache, Lm, LmConfig, Segment};

use crate::golden::{difference, folder, logits};

const CPU: Device = Device::Cpu;

/// One golden for each architecture: all that differs between families is in one of them.
const FAMILIES: [&str; 5] = ["gpt2", "llama", "llama-31", "mistral", "qwen2"];

fn open(name: &str) -> Lm {
    Lm::open(&folder(name), CPU, Kind::Float).unwrap()
}

/// Numbers between -1 and 1 without a pattern along any dimension, so that no norm takes them out
/// again: (count).
fn direction(parameter: &Tensor) -> Tensor {
    (Tensor::arange(parameter.numel() as i64, (Kind::Double, CPU)) * 12.9898)
        .sin()
        .to_kind(Kind::Float)
        .view(parameter.size().as_slice())
}

fn perturb(parameter: &Tensor, step: f64) {
    let _no_grad = tch::no_grad_guard();
    let _ = parameter.shallow_clone().g_add_(&(direction(parameter) * step));
}

/// Logits of tokens `from .. to` of the rows, which the segment reads.
fn feed(lm: &Lm, ids: &Tensor, from: i64, to: i64, segment: &mut Segment) -> Tensor {
    let new = vec![to - from; segment.rows()];
    lm.model
        .logits(&lm.model.read(&ids.narrow(1, from, to - from), KvCache::new(vec![segment], new)))
}

/// Rows of different lengths laid out with gaps: at which column each token of a row stands.
struct Layout {
    columns: i64,
    places: Vec<Vec<i64>>,
}

impl Layout {
    /// ids, positions and validity of the rows' first tokens in this layout; gaps hold token 5 at
    /// position 3.
    fn input(&self, rows: &[Vec<i64>]) -> (Tensor, Tensor, Tensor) {
        let shape = [rows.len() as i64, self.columns];
        let mut ids = vec![5i64; (shape[0] * shape[1]) as usize];
        let (mut positions, mut valid) = (vec![3i64; ids.len()], vec![false; ids.len()]);
        for (row, places) in self.places.iter().enumerate() {
            for (position, place) in places.iter().enumerate() {
                let at = row * self.columns as usize + *place as usize;
                (ids[at], positions[at], valid[at]) = (rows[row][position], position as i64, true);
            }
        }
        (
            Tensor::from_slice(&ids).view(shape),
            Tensor::from_slice(&positions).view(shape),
            Tensor::from_slice(&valid).view(shape),
        )
    }

    /// The largest difference between a row's logits (batch, columns, vocab_size) at its places and
    /// the row computed alone.
    fn error(&self, lm: &Lm, rows: &[Vec<i64>], found: &Tensor) -> f64 {
        let errors = self.places.iter().enumerate().map(|(row, places)| {
            let alone = logits(lm, &Tensor::from_slice(&rows[row][..places.len()]).unsqueeze(0));
            difference(&found.get(row as i64).index_select(0, &Tensor::from_slice(places)), &alone)
        });
        errors.fold(0.0, f64::max)
    }
}

fn rows_of(ids: &Tensor) -> Vec<Vec<i64>> {
    Vec::<Vec<i64>>::try_from(ids).unwrap()
}

/// Large enough for packing, where this machine packs at all.
fn wide() -> Lm {
    let config = Gpt2Config {
        vocab_size: 500,
        n_positions: 64,
        n_embd: 192,
        n_layer: 2,
        n_head: 3,
        ..Gpt2Config::default()
    };
    Lm::with_random_weights(LmConfig::Gpt2(config), CPU, Kind::Float, 3).unwrap()
}
