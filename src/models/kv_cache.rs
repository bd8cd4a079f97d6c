//! Keys and values of the tokens read so far, for a batch of rows.
//!
//! Columns are slots: every forward pass appends the same number of columns to all rows, and a validity mask says which of a row's columns
//! are real. Ragged rows are padded, rolled-back tokens are holes; positions are the caller's and explicit, so neither shifts anything.

use tch::{Kind, Tensor};

#[derive(Debug, Default)]
pub struct KvCache {
    layers: Vec<Layer>,
    columns: i64,
    /// (rows, columns) bool; `None` while every column of every row is real.
    valid: Option<Tensor>,
}

/// (rows, heads, capacity, head_dim) each; the first `columns` of the capacity are in use.
#[derive(Debug)]
struct Layer {
    keys: Tensor,
    values: Tensor,
}

impl KvCache {
    /// Empty; the first forward pass gives it its shape.
    pub fn new() -> Self {
        Self::default()
    }

    pub fn columns(&self) -> i64 {
        self.columns
    }

    /// The given rows, in this order, repeats allowed: a copy that shares nothing with this cache.
    pub fn select(&self, rows: &[i64]) -> Self {
        let Some(first) = self.layers.first() else { return Self::new() };
        let index = Tensor::from_slice(rows).to_device(first.keys.device());
        let pick = |tensor: &Tensor| tensor.narrow(2, 0, self.columns).index_select(0, &index);
        Self {
            layers: self.layers.iter().map(|layer| Layer { keys: pick(&layer.keys), values: pick(&layer.values) }).collect(),
            columns: self.columns,
            valid: self.valid.as_ref().map(|valid| valid.index_select(0, &index)),
        }
    }

    /// The row's columns from `from_column` on are no longer real.
    pub fn invalidate(&mut self, row: i64, from_column: i64) {
        let Some(first) = self.layers.first() else { return };
        let shape = [first.keys.size()[0], self.columns];
        let valid = self.valid.get_or_insert_with(|| Tensor::ones(shape, (Kind::Bool, first.keys.device())));
        let _ = valid.narrow(0, row, 1).narrow(1, from_column, self.columns - from_column).fill_(0);
    }

    /// Makes room for `new` columns, of which `valid` (rows, new) bool are real, and returns which (row, column) pairs of the grown cache
    /// are, if not all are. Each layer's keys and values follow by [`KvCache::append`].
    pub(super) fn grow(&mut self, rows: i64, new: i64, valid: Option<&Tensor>) -> Option<Tensor> {
        let old = self.columns;
        self.columns += new;
        if self.valid.is_none() && valid.is_none() {
            return None;
        }
        let device = valid.or(self.valid.as_ref()).map_or(tch::Device::Cpu, Tensor::device);
        let ones = |columns: i64| Tensor::ones([rows, columns], (Kind::Bool, device));
        let before = self.valid.take().unwrap_or_else(|| ones(old));
        let grown = Tensor::cat(&[before, valid.map_or_else(|| ones(new), Tensor::shallow_clone)], 1);
        self.valid = Some(grown.shallow_clone());
        Some(grown)
    }

    /// Appends a layer's new keys and values, (rows, heads, new, head_dim), and returns all of its keys and values so far. Called for
    /// layers 0, 1, … after [`KvCache::grow`].
    pub(super) fn append(&mut self, layer: usize, keys: &Tensor, values: &Tensor) -> (Tensor, Tensor) {
        let new = keys.size()[2];
        let old = self.columns - new;
        if self.layers.len() <= layer {
            self.layers.push(Layer { keys: with_capacity(keys, self.columns), values: with_capacity(values, self.columns) });
        }
        let Layer { keys: all_keys, values: all_values } = &mut self.layers[layer];
        for (all, new_ones) in [(all_keys, keys), (all_values, values)] {
            if all.size()[2] < self.columns {
                let grown = with_capacity(all, (self.columns + self.columns / 2).max(32));
                grown.narrow(2, 0, old).copy_(&all.narrow(2, 0, old));
                *all = grown;
            }
            all.narrow(2, old, new).copy_(new_ones);
        }
        let Layer { keys, values } = &self.layers[layer];
        (keys.narrow(2, 0, self.columns), values.narrow(2, 0, self.columns))
    }
}

/// An uninitialised tensor like `like` (rows, heads, _, head_dim) with room for `columns`.
fn with_capacity(like: &Tensor, columns: i64) -> Tensor {
    let mut shape = like.size();
    shape[2] = columns;
    Tensor::empty(shape, (like.kind(), like.device()))
}
