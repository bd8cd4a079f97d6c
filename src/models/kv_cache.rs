//! Keys and values of the tokens a model has read, so that only new tokens are computed.
//!
//! A [`Segment`] holds rows that continue one prompt: the prompt's keys and values once, shared by all of them, and each row's own behind it.
//! A [`KvCache`] joins the rows of several segments for one forward pass. Rows may differ in length; a row rolled back is simply shorter.

use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use super::attention::{Part, attend_parts};

/// Room for this many tokens of a row at first; then the room doubles.
const FIRST_CAPACITY: i64 = 32;

/// Rows that continue one prompt.
#[derive(Debug, Default)]
pub struct Segment {
    prefix: Option<Rc<Prefix>>,
    layers: Vec<Layer>,
    /// Tokens of each row behind the prefix.
    lengths: Vec<i64>,
}

/// What all rows of a segment have in common.
#[derive(Debug)]
struct Prefix {
    layers: Vec<Layer>, // one row, (1, length, kv_heads, head_dim)
    length: i64,
}

/// Both (rows, capacity, kv_heads, head_dim), the layout in which projections give them. What no row has written is zero: a shorter row's
/// empty columns are masked, but a weight of 0 times a NaN that lay in memory would still be one.
#[derive(Debug)]
struct Layer {
    key: Tensor,
    value: Tensor,
}

impl Segment {
    /// Rows that have read nothing yet.
    pub fn new(rows: usize) -> Self {
        Self { prefix: None, layers: Vec::new(), lengths: vec![0; rows] }
    }

    pub fn rows(&self) -> usize {
        self.lengths.len()
    }

    /// Tokens that `row` has read, the prefix included: the position of its next one.
    pub fn position(&self, row: usize) -> i64 {
        self.prefix.as_ref().map_or(0, |prefix| prefix.length) + self.lengths[row]
    }

    /// A new segment whose row i is row `rows[i]` of this one; repeats are allowed and only the prefix is shared.
    pub fn select(&self, rows: &[usize]) -> Self {
        let _no_grad = tch::no_grad_guard();
        let lengths: Vec<i64> = rows.iter().map(|&row| self.lengths[row]).collect();
        let used = lengths.iter().copied().max().unwrap_or(0);
        let prefix = self.prefix.clone();
        if used == 0 {
            return Self { prefix, layers: Vec::new(), lengths };
        }
        let index: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
        let index = Tensor::from_slice(&index).to_device(self.layers[0].key.device());
        // Room for what comes, so that the next tokens do not copy everything once more.
        let capacity = used + FIRST_CAPACITY / 2;
        let pick = |from: &Tensor| {
            let (_, _, kv_heads, head_dim) = from.size4().expect("keys and values have 4 dimensions");
            let picked = Tensor::empty([rows.len() as i64, capacity, kv_heads, head_dim], (from.kind(), from.device()));
            let _ = from.narrow(1, 0, used).index_select_out(&picked.narrow(1, 0, used), 0, &index);
            let _ = picked.narrow(1, used, capacity - used).zero_();
            picked
        };
        let layers = self.layers.iter().map(|layer| Layer { key: pick(&layer.key), value: pick(&layer.value) }).collect();
        Self { prefix, layers, lengths }
    }

    /// Forgets all but the first `position` tokens of `row`, the prefix included; a prefix is never forgotten.
    ///
    /// # Panics
    /// If the row has read fewer.
    pub fn truncate(&mut self, row: usize, position: i64) {
        let start = self.position(row) - self.lengths[row];
        assert!((start..=self.position(row)).contains(&position), "row {row} cannot be cut to {position}");
        self.lengths[row] = position - start;
    }

    /// A segment of one row whose prefix is all that `row` has read.
    ///
    /// # Panics
    /// If there is a prefix already.
    pub fn share(&self, row: usize) -> Self {
        let _no_grad = tch::no_grad_guard();
        assert!(self.prefix.is_none(), "a prefix is read at once");
        let length = self.lengths[row];
        let cut = |from: &Tensor| from.narrow(0, row as i64, 1).narrow(1, 0, length).copy();
        let layers = self.layers.iter().map(|layer| Layer { key: cut(&layer.key), value: cut(&layer.value) }).collect();
        Self { prefix: Some(Rc::new(Prefix { layers, length })), layers: Vec::new(), lengths: vec![0] }
    }

    /// Writes a layer's keys and values of the new tokens, (rows, new, kv_heads, head_dim), behind each row's own.
    fn write(&mut self, index: usize, key: &Tensor, value: &Tensor, plan: &Plan) {
        if index == self.layers.len() {
            let (rows, _, kv_heads, head_dim) = key.size4().expect("keys have 4 dimensions");
            let room = || Tensor::zeros([rows, plan.columns.max(FIRST_CAPACITY), kv_heads, head_dim], (key.kind(), key.device()));
            self.layers.push(Layer { key: room(), value: room() });
        }
        let layer = &mut self.layers[index];
        append(&mut layer.key, key, plan);
        append(&mut layer.value, value, plan);
    }
}

fn append(store: &mut Tensor, new: &Tensor, plan: &Plan) {
    let (rows, capacity, kv_heads, head_dim) = store.size4().expect("keys and values have 4 dimensions");
    let (_, added, _, _) = new.size4().expect("keys and values have 4 dimensions");
    if plan.columns > capacity {
        let grown = Tensor::zeros([rows, plan.columns.max(2 * capacity), kv_heads, head_dim], (store.kind(), store.device()));
        grown.narrow(1, 0, capacity).copy_(store);
        *store = grown;
    }
    match &plan.places {
        Places::Same(before) => store.narrow(1, *before, added).copy_(new),
        Places::Each(places) => {
            let capacity = store.size()[1];
            let flat = store.view([rows * capacity, kv_heads, head_dim]);
            let rows_start = Tensor::arange(rows, (Kind::Int64, store.device())).unsqueeze(1) * capacity;
            let _ = flat.shallow_clone().index_copy_(0, &(places + rows_start).view(-1), &new.reshape([rows * added, kv_heads, head_dim]));
        }
    }
}

/// Where one segment's new tokens go and what they see; the same for all layers.
#[derive(Debug)]
struct Plan {
    places: Places,
    /// Columns in use once the new tokens are there.
    columns: i64,
    /// What is not to be seen of the rows' own columns, added to the scores: (rows or 1, 1, new, columns).
    own: Option<Tensor>,
    /// The same of the prefix, (rows, 1, new, length).
    prefix: Option<Tensor>,
}

#[derive(Debug)]
enum Places {
    /// Every row has read this many.
    Same(i64),
    /// The column of each new token, (rows, new) i64.
    Each(Tensor),
}

/// The rows of several segments, one after the other, for one forward pass; the passes of all layers belong to it.
pub struct KvCache<'a> {
    segments: Vec<&'a mut Segment>,
    /// Real new tokens of each row; shorter rows are padded on the right.
    new: Vec<i64>,
    width: i64,
    plans: Vec<Plan>,
    /// For layers that look through a window, where that hides something.
    windowed: Vec<Plan>,
}

impl<'a> KvCache<'a> {
    /// `new` holds the number of new tokens of each row, all segments' rows in order.
    ///
    /// # Panics
    /// If that is not one number for each row.
    pub fn new(segments: Vec<&'a mut Segment>, new: Vec<i64>) -> Self {
        assert_eq!(segments.iter().map(|segment| segment.rows()).sum::<usize>(), new.len(), "one number of new tokens for each row");
        let width = new.iter().copied().max().unwrap_or(0);
        Self { segments, new, width, plans: Vec::new(), windowed: Vec::new() }
    }

    /// Positions of the new tokens, (rows, width) i64; padding repeats its row's last, which may be the last that the model knows.
    pub fn positions(&self) -> Tensor {
        let starts = self.segments.iter().flat_map(|segment| (0..segment.rows()).map(|row| segment.position(row)));
        let positions: Vec<i64> =
            starts.zip(&self.new).flat_map(|(start, &new)| (0..self.width).map(move |j| (start + j.min(new - 1)).max(0))).collect();
        Tensor::from_slice(&positions).view([self.new.len() as i64, self.width])
    }

    /// Attention of layer `index`: query (rows, heads, width, head_dim) over all that each row has read and its new tokens, whose key and
    /// value are (rows, kv_heads, width, head_dim). A token sees no further back than `window` positions, its own included. Returns
    /// (rows, width, heads * head_dim). Layers come in their order.
    pub(super) fn attend(&mut self, index: usize, query: &Tensor, key: &Tensor, value: &Tensor, scale: f64, window: Option<i64>) -> Tensor {
        if index == 0 {
            self.plans = self.plan(None, query.kind(), query.device());
        }
        let window = window.filter(|window| self.longest() > *window);
        if window.is_some() && self.windowed.is_empty() {
            self.windowed = self.plan(window, query.kind(), query.device());
        }
        let plans = if window.is_some() { &self.windowed } else { &self.plans };
        let mut first = 0;
        let mut attended = Vec::with_capacity(self.segments.len());
        for (segment, plan) in self.segments.iter_mut().zip(plans) {
            let rows = segment.rows() as i64;
            let part = |of: &Tensor| of.narrow(0, first, rows);
            segment.write(index, &part(key).transpose(1, 2), &part(value).transpose(1, 2), plan);
            let own = Part::of(&segment.layers[index].key, &segment.layers[index].value, plan.columns, plan.own.as_ref());
            let prefix = segment.prefix.as_ref().filter(|prefix| prefix.length > 0);
            let prefix = prefix.map(|prefix| {
                let layer = &prefix.layers[index];
                Part::of(&layer.key, &layer.value, prefix.length, plan.prefix.as_ref())
            });
            attended.push(attend_parts(&part(query), prefix.as_ref(), &own, scale));
            first += rows;
        }
        if attended.len() == 1 { attended.remove(0) } else { Tensor::cat(&attended, 0) }
    }

    /// Counts the new tokens, once the last layer has written them.
    pub(super) fn commit(self) {
        let mut new = self.new.into_iter();
        for segment in self.segments {
            for length in &mut segment.lengths {
                *length += new.next().unwrap_or(0);
            }
        }
    }

    fn longest(&self) -> i64 {
        self.segments.iter().flat_map(|segment| (0..segment.rows()).map(|row| segment.position(row))).max().unwrap_or(0) + self.width
    }

    fn plan(&self, window: Option<i64>, kind: Kind, device: Device) -> Vec<Plan> {
        self.segments.iter().map(|segment| plan(segment, self.width, window, kind, device)).collect()
    }
}

fn plan(segment: &Segment, width: i64, window: Option<i64>, kind: Kind, device: Device) -> Plan {
    let lengths = &segment.lengths;
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let columns = longest + width;
    let all_same = lengths.iter().all(|&length| length == longest);
    let on = |values: &[i64]| Tensor::from_slice(values).to_device(device);
    let count = |end: i64| Tensor::arange(end, (Kind::Int64, device));
    // (rows or 1, width): the column of each new token.
    let starts = if all_same { on(&[longest]) } else { on(lengths) };
    let places = starts.unsqueeze(1) + count(width).unsqueeze(0);
    let seen_by = |column: &Tensor, allowed: Tensor| match window {
        // A token at column p sees the columns above p - window.
        Some(window) => allowed.logical_and(&column.gt_tensor(&(places.unsqueeze(-1) - window))),
        None => allowed,
    };
    let bias = |allowed: Tensor| super::attention::bias(&allowed.unsqueeze(1), kind);
    let own = (width > 1 || !all_same || window.is_some()).then(|| {
        let column = count(columns);
        bias(seen_by(&column, column.le_tensor(&places.unsqueeze(-1))))
    });
    let prefix_length = segment.prefix.as_ref().map_or(0, |prefix| prefix.length);
    let prefix = (window.is_some() && prefix_length > 0).then(|| {
        // The prefix lies at the columns before 0.
        let column = count(prefix_length) - prefix_length;
        let rows = lengths.len() as i64;
        let allowed = seen_by(&column, Tensor::ones([1, width, prefix_length], (Kind::Bool, device)));
        bias(allowed.expand([rows, width, prefix_length], false))
    });
    Plan { places: if all_same { Places::Same(longest) } else { Places::Each(places) }, columns, own, prefix }
}
