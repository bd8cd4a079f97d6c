//! Keys and values of the tokens a model has read, so that only new tokens are computed.
//!
//! A column is a slot that one forward pass fills in every row. A validity mask (rows, columns) says which slots are real, so ragged rows
//! and rollback are holes in the mask; it exists only while there is a hole. Positions are kept for models that look through a window only.

use tch::{Kind, Tensor};

/// Room for this many columns at first; then the room doubles.
const FIRST_CAPACITY: i64 = 64;

#[derive(Debug, Default)]
pub struct KvCache {
    layers: Vec<Layer>,
    columns: i64,
    valid: Option<Tensor>,     // (rows, columns) bool
    positions: Option<Tensor>, // (rows, columns) i64
}

/// Both (rows, heads, capacity, head_dim).
#[derive(Debug)]
struct Layer {
    key: Tensor,
    value: Tensor,
}

impl KvCache {
    /// Empty; the first forward pass gives it its shape.
    pub fn new() -> Self {
        Self::default()
    }

    /// Slots filled so far, holes included.
    pub fn columns(&self) -> i64 {
        self.columns
    }

    /// A new cache whose row i is row `rows[i]` of this one; repeats are allowed and nothing is shared.
    ///
    /// # Panics
    /// If a row is out of range.
    pub fn select(&self, rows: &[i64]) -> KvCache {
        let _no_grad = tch::no_grad_guard();
        let Some(first) = self.layers.first() else { return KvCache::new() };
        let index = Tensor::from_slice(rows).to_device(first.key.device());
        let pick = |from: &Tensor| {
            let (_, n_head, capacity, head_dim) = from.size4().expect("keys and values have 4 dimensions");
            let picked = Tensor::empty([rows.len() as i64, n_head, capacity, head_dim], (from.kind(), from.device()));
            let _ = from.narrow(2, 0, self.columns).index_select_out(&picked.narrow(2, 0, self.columns), 0, &index);
            picked
        };
        KvCache {
            layers: self.layers.iter().map(|layer| Layer { key: pick(&layer.key), value: pick(&layer.value) }).collect(),
            columns: self.columns,
            // The holes may all have been in rows that are left behind.
            valid: self.valid.as_ref().map(|valid| valid.index_select(0, &index)).filter(|valid| valid.all().int64_value(&[]) == 0),
            positions: self.positions.as_ref().map(|positions| positions.index_select(0, &index)),
        }
    }

    /// From now on the columns of `row` from `from_column` on are not real. They stay as holes; the next tokens go to new columns.
    ///
    /// # Panics
    /// If the row is out of range.
    pub fn invalidate(&mut self, row: i64, from_column: i64) {
        let Some(layer) = self.layers.first() else { return };
        if from_column >= self.columns {
            return;
        }
        let rows = layer.key.size()[0];
        let ones = || Tensor::ones([rows, self.columns], (Kind::Bool, layer.key.device()));
        let valid = self.valid.get_or_insert_with(ones);
        let _ = valid.narrow(0, row, 1).narrow(1, from_column, self.columns - from_column).fill_(0);
    }

    /// Which columns are real, (rows, columns) bool; `None` when all are.
    pub(super) fn valid(&self) -> Option<&Tensor> {
        self.valid.as_ref()
    }

    /// Which position each column stands for, (rows, columns) i64, if the model told.
    pub(super) fn positions(&self) -> Option<&Tensor> {
        self.positions.as_ref()
    }

    /// Writes a layer's keys and values of the new tokens, (rows, heads, new, head_dim), behind the columns and returns views on all:
    /// (rows, heads, columns + new, head_dim). The columns count once [`Self::commit`] is called after the last layer.
    pub(super) fn write(&mut self, index: usize, key: &Tensor, value: &Tensor) -> (Tensor, Tensor) {
        if index == self.layers.len() {
            let room = |like: &Tensor| {
                let (rows, n_head, _, head_dim) = like.size4().expect("keys and values have 4 dimensions");
                Tensor::empty([rows, n_head, 0, head_dim], (like.kind(), like.device()))
            };
            self.layers.push(Layer { key: room(key), value: room(value) });
        }
        let layer = &mut self.layers[index];
        (append(&mut layer.key, self.columns, key), append(&mut layer.value, self.columns, value))
    }

    /// Counts the columns that every layer has written. `valid`: (rows, new) bool, which of them are real; `None` when all are.
    /// `positions`: (rows, new) i64, given always or never.
    pub(super) fn commit(&mut self, new: i64, valid: Option<&Tensor>, positions: Option<&Tensor>) {
        if let Some(positions) = positions {
            self.positions = Some(match self.positions.take() {
                Some(before) => Tensor::cat(&[&before, positions], 1),
                None => positions.copy(),
            });
        }
        if self.valid.is_some() || valid.is_some() {
            let Some(layer) = self.layers.first() else { return };
            let ones = |columns| Tensor::ones([layer.key.size()[0], columns], (Kind::Bool, layer.key.device()));
            let before = self.valid.take().unwrap_or_else(|| ones(self.columns));
            let after = valid.map_or_else(|| ones(new), Tensor::shallow_clone);
            self.valid = Some(Tensor::cat(&[before, after], 1));
        }
        self.columns += new;
    }
}

/// Copies `new` behind the first `columns` of `store`, which grows if need be, and returns a view on both.
fn append(store: &mut Tensor, columns: i64, new: &Tensor) -> Tensor {
    let (rows, n_head, capacity, head_dim) = store.size4().expect("keys and values have 4 dimensions");
    let (new_rows, _, added, _) = new.size4().expect("keys and values have 4 dimensions");
    // A single row would otherwise be broadcast into all rows.
    assert_eq!(new_rows, rows, "a batch of {new_rows} does not fit a cache of {rows} rows");
    let total = columns + added;
    if total > capacity {
        let roomier = total.max(2 * capacity).max(FIRST_CAPACITY);
        let grown = Tensor::empty([rows, n_head, roomier, head_dim], (store.kind(), store.device()));
        grown.narrow(2, 0, columns).copy_(&store.narrow(2, 0, columns));
        *store = grown;
    }
    store.narrow(2, columns, added).copy_(new);
    store.narrow(2, 0, total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    /// (rows, 1 head, columns, 1): row * 100 + column.
    fn numbered(rows: i64, columns: std::ops::Range<i64>) -> Tensor {
        let row = Tensor::arange(rows, (Kind::Float, Device::Cpu)).view([rows, 1, 1, 1]) * 100.0;
        let column = Tensor::arange_start(columns.start, columns.end, (Kind::Float, Device::Cpu)).view([1, 1, -1, 1]);
        row + column
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor.contiguous().view(-1)).unwrap()
    }

    #[test]
    fn columns_survive_growth_and_selection() {
        let mut cache = KvCache::new();
        let mut at = 0;
        for new in [3, 1, 70, 1, 200] {
            let states = numbered(2, at..at + new);
            let (key, value) = cache.write(0, &states, &(&states + 0.5));
            cache.commit(new, None, None);
            at += new;
            assert_eq!(values(&key), values(&numbered(2, 0..at)));
            assert_eq!(values(&value), values(&(numbered(2, 0..at) + 0.5)));
        }
        assert_eq!(cache.columns(), 275);
        let mut picked = cache.select(&[1, 0, 1]);
        let (key, _) = picked.write(0, &numbered(3, 275..276), &numbered(3, 275..276));
        assert_eq!(values(&key.narrow(2, 0, 275)), values(&numbered(2, 0..275).index_select(0, &Tensor::from_slice(&[1i64, 0, 1]))));
        let (untouched, _) = cache.write(0, &numbered(2, 0..1), &numbered(2, 0..1));
        assert_eq!(values(&untouched.narrow(2, 0, 275)), values(&numbered(2, 0..275)), "a copy shares nothing with its source");
    }

    #[test]
    fn the_mask_exists_only_while_there_is_a_hole() {
        let mut cache = KvCache::new();
        let _ = cache.write(0, &numbered(2, 0..4), &numbered(2, 0..4));
        cache.commit(4, None, None);
        assert!(cache.valid().is_none());
        cache.invalidate(1, 4);
        assert!(cache.valid().is_none(), "there is no column 4 yet");
        cache.invalidate(1, 2);
        let _ = cache.write(0, &numbered(2, 4..5), &numbered(2, 4..5));
        cache.commit(1, None, None);
        let valid = Vec::<bool>::try_from(cache.valid().unwrap().view(-1)).unwrap();
        assert_eq!(valid, [true, true, true, true, true, true, true, false, false, true]);
        assert!(cache.select(&[0, 0]).valid().is_none(), "the row with the holes is gone");
        assert!(cache.select(&[0, 1]).valid().is_some());
    }

    #[test]
    #[should_panic(expected = "a batch of 1 does not fit a cache of 2 rows")]
    fn a_smaller_batch_is_not_broadcast() {
        let mut cache = KvCache::new();
        let _ = cache.write(0, &numbered(2, 0..1), &numbered(2, 0..1));
        cache.commit(1, None, None);
        let _ = cache.write(0, &numbered(1, 0..1), &numbered(1, 0..1));
    }
}
