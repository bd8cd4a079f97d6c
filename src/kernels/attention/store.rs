//! Where keys and values lie, and which of them each row of a call reads.

use std::marker::PhantomData;
use std::ops::Range;

use tch::{Device, Kind, Tensor};

/// Room for keys and values, both (rows, capacity, kv_heads, head_dim).
#[derive(Debug)]
pub struct Store {
    pub key: Tensor,
    pub value: Tensor,
    rows: usize,
    capacity: usize,
    /// Where they lie in memory.
    at: [usize; 2],
    /// Bytes of one token.
    token: usize,
}

impl Store {
    pub fn new(key: Tensor, value: Tensor) -> Self {
        let (rows, capacity, kv_heads, head_dim) =
            key.size4().expect("keys are (rows, capacity, kv_heads, head_dim)");
        assert!(
            key.is_contiguous()
                && value.is_contiguous()
                && key.size() == value.size()
                && key.kind() == value.kind()
        );
        let token = (kv_heads * head_dim) as usize * key.kind().elt_size_in_bytes();
        let at = [&key, &value].map(|of| of.data_ptr() as usize);
        Self { rows: rows as usize, capacity: capacity as usize, at, token, key, value }
    }

    /// A store for keys and values as these, whose numbers are not written yet.
    pub fn room(&self, rows: usize, capacity: usize) -> Self {
        let (_, _, kv_heads, head_dim) =
            self.key.size4().expect("keys are (rows, capacity, kv_heads, head_dim)");
        Self::unwritten([rows as i64, capacity as i64, kv_heads, head_dim], self.key.kind())
    }

    pub(super) fn unwritten(shape: [i64; 4], kind: Kind) -> Self {
        let empty = || Tensor::empty(shape, (kind, Device::Cpu));
        Self::new(empty(), empty())
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Where `row` has its key and its value at `column`.
    fn place(&self, row: usize, column: usize) -> [usize; 2] {
        assert!(row < self.rows && column <= self.capacity);
        self.at.map(|at| at + (row * self.capacity + column) * self.token)
    }

    /// Copies the first `tokens` of a row of `from` to `column` of `row`; both lie in main memory.
    pub fn copy(&mut self, row: usize, column: usize, from: &Self, from_row: usize, tokens: usize) {
        assert!(
            column + tokens <= self.capacity && tokens <= from.capacity && self.token == from.token
        );
        for (to, from) in self.place(row, column).into_iter().zip(from.place(from_row, 0)) {
            // SAFETY: both within tensors of their own, as was asserted.
            unsafe {
                std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, tokens * self.token)
            };
        }
    }
}

/// What the rows of one call read, row after row.
#[derive(Debug, Default)]
pub struct Reading<'a> {
    pub(super) stretches: Vec<Stretch>,
    pub(super) rows: Vec<ReadRow>,
    stores: PhantomData<&'a [usize]>,
}

/// Neighbouring keys and values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    pub at: [usize; 2],
    pub tokens: usize,
}

#[derive(Debug)]
pub(super) struct ReadRow {
    pub stretches: Range<usize>,
    /// Without the new ones.
    pub tokens: usize,
    /// Where the new keys and values go.
    pub new: [usize; 2],
}

impl<'a> Reading<'a> {
    /// Adds a row that has read the first tokens of some rows, `(store, row, tokens)` in the order
    /// of positions. Its `width` new ones go behind the last of these, which no other row reads
    /// there.
    pub fn push(
        &mut self,
        read: impl IntoIterator<Item = (&'a Store, usize, usize)>,
        width: usize,
    ) {
        let first = self.stretches.len();
        let (mut total, mut room) = (0, None);
        for (store, row, tokens) in read {
            assert!(tokens <= store.capacity);
            self.stretches.push(Stretch { at: store.place(row, 0), tokens });
            total += tokens;
            room = Some((store, row, tokens));
        }
        let (store, row, tokens) = room.expect("a row has room for its new tokens");
        assert!(
            tokens + width <= store.capacity,
            "{tokens} and {width} tokens in room for {}",
            store.capacity
        );
        if let Some(last) = self.stretches.last_mut() {
            last.tokens += width;
        }
        self.rows.push(ReadRow {
            stretches: first..self.stretches.len(),
            tokens: total,
            new: store.place(row, tokens),
        });
    }
}
