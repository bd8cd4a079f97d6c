//! Rows that continue one prompt: the keys and values of the prompt once, shared by all of them, and
//! each row's own behind it. Rows may differ in length; a row rolled back is simply shorter. How the
//! rows of several prompts are read together is the business of `kv_cache.rs`.
//!
//! In main memory rows that go on from others share their keys and values: a row is a path through
//! blocks, each written once, and [`crate::kernels::attention`] reads along it. libtorch's
//! operators, on other devices, need what is behind the prompt in one tensor, so there a selection
//! copies it.

use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use super::score_bias::bias;
use crate::kernels::attention::{New, Store, reads};

/// Room for this many tokens of a row at first, where libtorch's operators read it; then the room
/// doubles.
const FIRST_CAPACITY: i64 = 32;
/// The same where the loops of our own do: rows that are selected again after a few tokens begin a
/// new block.
const FIRST_ROOM: usize = 4;
/// A row that would go through more blocks is copied into one.
const LONGEST_PATH: usize = 24;

/// Rows that continue one prompt.
#[derive(Debug, Default)]
pub struct Segment {
    pub(super) rows: Vec<Row>,
    /// The last block of all rows, which new tokens are written to; nobody else may have it then.
    pub(super) own: Rc<Block>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    /// What it has read before its own block.
    pub before: Vec<Piece>,
    /// Tokens in its own block.
    pub length: i64,
}

/// The first tokens of a row of a block.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub block: Rc<Block>,
    pub row: usize,
    pub tokens: i64,
}

/// For each layer. What no row has written is zero where libtorch's operators read it: a shorter
/// row's empty columns are masked, but a weight of 0 times a NaN that lay in memory would still be
/// one.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub layers: Vec<Store>,
}

impl Row {
    fn before(&self) -> i64 {
        self.before.iter().map(|piece| piece.tokens).sum()
    }
}

impl Segment {
    /// Rows that have read nothing yet.
    pub fn new(rows: usize) -> Self {
        Self { rows: vec![Row::default(); rows], own: Rc::default() }
    }

    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Tokens that `row` has read, the prefix included: the position of its next one.
    pub fn position(&self, row: usize) -> i64 {
        self.rows[row].before() + self.rows[row].length
    }

    /// A new segment whose row i is row `rows[i]` of this one; repeats are allowed.
    pub fn select(&self, rows: &[usize]) -> Self {
        let _no_grad = tch::no_grad_guard();
        let used = rows.iter().map(|&row| self.rows[row].length).max().unwrap_or(0);
        let picked = || rows.iter().map(|&row| self.rows[row].clone()).collect();
        let Some(first) = self.own.layers.first().filter(|_| used > 0) else {
            return Self { rows: picked(), own: Rc::default() };
        };
        if reads(first.key.device(), first.key.kind()) {
            let mut selected = Self { rows: self.paths(rows), own: Rc::default() };
            if selected.rows.iter().any(|row| row.before.len() > LONGEST_PATH) {
                selected.join();
            }
            return selected;
        }
        let index: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
        let index = Tensor::from_slice(&index).to_device(first.key.device());
        // Room for what comes, so that the next tokens do not copy everything once more.
        let capacity = used + FIRST_CAPACITY / 2;
        let pick = |from: &Tensor| {
            let (_, _, kv_heads, head_dim) =
                from.size4().expect("keys and values have 4 dimensions");
            let picked = Tensor::empty(
                [rows.len() as i64, capacity, kv_heads, head_dim],
                (from.kind(), from.device()),
            );
            let _ = from.narrow(1, 0, used).index_select_out(&picked.narrow(1, 0, used), 0, &index);
            let _ = picked.narrow(1, used, capacity - used).zero_();
            picked
        };
        let layers = self
            .own
            .layers
            .iter()
            .map(|layer| Store::new(pick(&layer.key), pick(&layer.value)))
            .collect();
        Self { rows: picked(), own: Rc::new(Block { layers }) }
    }

    /// These rows with their own blocks behind what came before, and none of their own yet.
    fn paths(&self, rows: &[usize]) -> Vec<Row> {
        let path = |&row: &usize| {
            let Row { before, length } = &self.rows[row];
            let own =
                (*length > 0).then(|| Piece { block: self.own.clone(), row, tokens: *length });
            Row { before: before.iter().cloned().chain(own).collect(), length: 0 }
        };
        rows.iter().map(path).collect()
    }

    /// Copies what lies behind the prompt into a block of the rows' own, which have none yet.
    fn join(&mut self) {
        // A prompt stands alone in its block.
        let shared = |row: &Row| {
            usize::from(
                row.before
                    .first()
                    .is_some_and(|piece| piece.block.layers.iter().all(|layer| layer.rows() == 1)),
            )
        };
        let kept: Vec<usize> = self.rows.iter().map(shared).collect();
        let behind = |row: &Row, kept: usize| {
            row.before[kept..].iter().map(|piece| piece.tokens).sum::<i64>()
        };
        let longest =
            self.rows.iter().zip(&kept).map(|(row, &kept)| behind(row, kept)).max().unwrap_or(0);
        let Some(block) =
            self.rows.iter().find_map(|row| row.before.first()).map(|piece| piece.block.clone())
        else {
            return;
        };
        let mut layers = Vec::with_capacity(block.layers.len());
        for (index, like) in block.layers.iter().enumerate() {
            let mut store = like.room(self.rows.len(), longest as usize + FIRST_ROOM);
            for (number, (row, &kept)) in self.rows.iter().zip(&kept).enumerate() {
                let mut column = 0;
                for piece in &row.before[kept..] {
                    store.copy(
                        number,
                        column,
                        &piece.block.layers[index],
                        piece.row,
                        piece.tokens as usize,
                    );
                    column += piece.tokens as usize;
                }
            }
            layers.push(store);
        }
        for (row, kept) in self.rows.iter_mut().zip(kept) {
            row.length = behind(row, kept);
            row.before.truncate(kept);
        }
        self.own = Rc::new(Block { layers });
    }

    /// Forgets all but the first `position` tokens of `row`.
    ///
    /// # Panics
    /// If the row has read fewer, or if the prefix would be forgotten that libtorch's operators
    /// share.
    pub fn truncate(&mut self, row: usize, position: i64) {
        let excess = self.position(row) - position;
        assert!(position >= 0 && excess >= 0, "row {row} cannot be cut to {position}");
        let Row { before, length } = &mut self.rows[row];
        let mut left = excess - excess.min(*length);
        *length -= excess.min(*length);
        while let Some(last) = before.last_mut().filter(|_| left > 0) {
            assert!(
                last.block.layers.iter().all(|layer| reads(layer.key.device(), layer.key.kind())),
                "row {row} cannot be cut to {position}"
            );
            let cut = left.min(last.tokens);
            last.tokens -= cut;
            left -= cut;
            if last.tokens == 0 {
                before.pop();
            }
        }
    }

    /// A segment of one row whose prefix is all that `row` has read.
    ///
    /// # Panics
    /// If there is a prefix already.
    pub fn share(&self, row: usize) -> Self {
        let _no_grad = tch::no_grad_guard();
        let Row { before, length: tokens } = &self.rows[row];
        assert!(before.is_empty(), "a prefix is read at once");
        let cut = |from: &Tensor| from.narrow(0, row as i64, 1).narrow(1, 0, *tokens).copy();
        let layers = self
            .own
            .layers
            .iter()
            .map(|layer| Store::new(cut(&layer.key), cut(&layer.value)))
            .collect();
        let piece = Piece { block: Rc::new(Block { layers }), row: 0, tokens: *tokens };
        Self { rows: vec![Row { before: vec![piece], length: 0 }], own: Rc::default() }
    }

    pub(super) fn has_read_nothing(&self) -> bool {
        self.rows.iter().all(|row| row.length == 0 && row.before.is_empty())
    }

    /// The prefix that all rows share, for libtorch's operators: there no row has more before its
    /// own.
    pub(super) fn prefix(&self) -> Option<&Piece> {
        self.rows.first()?.before.first()
    }

    /// The block of the rows' own, to be written to.
    fn own_block(&mut self) -> &mut Block {
        if Rc::get_mut(&mut self.own).is_none() {
            // Others go on from it.
            self.rows = self.paths(&(0..self.rows.len()).collect::<Vec<_>>());
            self.own = Rc::default();
        }
        Rc::get_mut(&mut self.own).expect("it is nobody else's")
    }

    /// Makes room in layer `index` for `width` `new` tokens behind those of each row.
    pub(super) fn make_room(&mut self, index: usize, new: &New, width: usize) {
        let rows = self.rows();
        // It may lay aside what the rows have: their lengths come after.
        let layers = self.own_block().layers.len();
        let longest = self.rows.iter().map(|row| row.length).max().unwrap_or(0) as usize;
        let block = Rc::get_mut(&mut self.own).expect("it is nobody else's");
        if index == layers {
            block.layers.push(new.room(rows, (longest + width).max(FIRST_ROOM)));
        } else if longest + width > block.layers[index].capacity() {
            let old = &block.layers[index];
            let mut grown = new.room(rows, (longest + width).max(2 * old.capacity()));
            for (row, Row { length, .. }) in self.rows.iter().enumerate() {
                grown.copy(row, 0, old, row, *length as usize);
            }
            block.layers[index] = grown;
        }
    }

    /// Writes a layer's keys and values of the new tokens, (rows, new, kv_heads, head_dim), behind
    /// each row's own.
    pub(super) fn write(&mut self, index: usize, key: &Tensor, value: &Tensor, layout: &Layout) {
        let block = self.own_block();
        if index == block.layers.len() {
            let (rows, _, kv_heads, head_dim) = key.size4().expect("keys have 4 dimensions");
            let room = || {
                Tensor::zeros(
                    [rows, layout.columns.max(FIRST_CAPACITY), kv_heads, head_dim],
                    (key.kind(), key.device()),
                )
            };
            block.layers.push(Store::new(room(), room()));
        }
        let layer = &mut block.layers[index];
        *layer =
            Store::new(appended(&layer.key, key, layout), appended(&layer.value, value, layout));
    }

    /// Where `width` new tokens of each row go, and what they see.
    pub(super) fn layout(
        &self,
        width: i64,
        window: Option<i64>,
        kind: Kind,
        device: Device,
    ) -> Layout {
        let lengths: Vec<i64> = self.rows.iter().map(|row| row.length).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let columns = longest + width;
        let all_same = lengths.iter().all(|&length| length == longest);
        let on = |values: &[i64]| Tensor::from_slice(values).to_device(device);
        let count = |end: i64| Tensor::arange(end, (Kind::Int64, device));
        // (rows or 1, width): the column of each new token.
        let starts = if all_same { on(&[longest]) } else { on(&lengths) };
        let places = starts.unsqueeze(1) + count(width).unsqueeze(0);
        let seen_by = |column: &Tensor, allowed: Tensor| match window {
            // A token at column p sees the columns above p - window.
            Some(window) => {
                allowed.logical_and(&column.gt_tensor(&(places.unsqueeze(-1) - window)))
            }
            None => allowed,
        };
        let hidden = |allowed: Tensor| bias(&allowed.unsqueeze(1), kind);
        let own = (width > 1 || !all_same || window.is_some()).then(|| {
            let column = count(columns);
            hidden(seen_by(&column, column.le_tensor(&places.unsqueeze(-1))))
        });
        let prefix_length = self.prefix().map_or(0, |prefix| prefix.tokens);
        let prefix = (window.is_some() && prefix_length > 0).then(|| {
            // The prefix lies at the columns before 0.
            let column = count(prefix_length) - prefix_length;
            let rows = lengths.len() as i64;
            let allowed =
                seen_by(&column, Tensor::ones([1, width, prefix_length], (Kind::Bool, device)));
            hidden(allowed.expand([rows, width, prefix_length], false))
        });
        Layout {
            places: if all_same { Places::Same(longest) } else { Places::Each(places) },
            columns,
            own,
            prefix,
        }
    }
}

fn appended(store: &Tensor, new: &Tensor, layout: &Layout) -> Tensor {
    let mut store = store.shallow_clone();
    let (rows, capacity, kv_heads, head_dim) =
        store.size4().expect("keys and values have 4 dimensions");
    let (_, added, _, _) = new.size4().expect("keys and values have 4 dimensions");
    if layout.columns > capacity {
        let grown = Tensor::zeros(
            [rows, layout.columns.max(2 * capacity), kv_heads, head_dim],
            (store.kind(), store.device()),
        );
        grown.narrow(1, 0, capacity).copy_(&store);
        store = grown;
    }
    match &layout.places {
        Places::Same(before) => store.narrow(1, *before, added).copy_(new),
        Places::Each(places) => {
            let capacity = store.size()[1];
            let flat = store.view([rows * capacity, kv_heads, head_dim]);
            let rows_start =
                Tensor::arange(rows, (Kind::Int64, store.device())).unsqueeze(1) * capacity;
            let _ = flat.shallow_clone().index_copy_(
                0,
                &(places + rows_start).view(-1),
                &new.reshape([rows * added, kv_heads, head_dim]),
            );
        }
    }
    store
}

/// Where one segment's new tokens go and what they see; the same for all layers.
#[derive(Debug)]
pub(super) struct Layout {
    places: Places,
    /// Columns in use once the new tokens are there.
    pub columns: i64,
    /// What is not to be seen of the rows' own columns, added to the scores: (rows or 1, 1, new,
    /// columns).
    pub own: Option<Tensor>,
    /// The same of the prefix, (rows, 1, new, length).
    pub prefix: Option<Tensor>,
}

#[derive(Debug)]
pub(super) enum Places {
    /// Every row has read this many.
    Same(i64),
    /// The column of each new token, (rows, new) i64.
    Each(Tensor),
}
