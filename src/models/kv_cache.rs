//! Keys and values of the tokens a model has read, so that only new tokens are computed: joins the
//! rows of several [`Segment`]s for one forward pass. What a segment keeps, and how its rows share it,
//! is in `segment.rs`.

use tch::{Device, Kind, Tensor};

use super::attention::{Part, attend_parts, split_fused};
use super::segment::{Layout, Segment};
use crate::kernels::attention::{New, Reading, attend, reads};

/// The rows of several segments, one after the other, for one forward pass; the passes of all
/// layers belong to it.
pub struct KvCache<'a> {
    segments: Vec<&'a mut Segment>,
    /// Real new tokens of each row; shorter rows are padded on the right.
    new: Vec<i64>,
    width: i64,
    layouts: Vec<Layout>,
    /// For layers that look through a window, where that hides something.
    windowed: Vec<Layout>,
}

impl<'a> KvCache<'a> {
    /// `new` holds the number of new tokens of each row, all segments' rows in order.
    ///
    /// # Panics
    /// If that is not one number for each row.
    pub fn new(segments: Vec<&'a mut Segment>, new: Vec<i64>) -> Self {
        assert_eq!(
            segments.iter().map(|segment| segment.rows()).sum::<usize>(),
            new.len(),
            "one number of new tokens for each row"
        );
        let width = new.iter().copied().max().unwrap_or(0);
        Self { segments, new, width, layouts: Vec::new(), windowed: Vec::new() }
    }

    /// Positions of the new tokens, (rows, width) i64; padding repeats its row's last, which may be
    /// the last that the model knows.
    pub fn positions(&self) -> Tensor {
        let starts = self
            .segments
            .iter()
            .flat_map(|segment| (0..segment.rows()).map(|row| segment.position(row)));
        let positions: Vec<i64> = starts
            .zip(&self.new)
            .flat_map(|(start, &new)| (0..self.width).map(move |j| (start + j.min(new - 1)).max(0)))
            .collect();
        Tensor::from_slice(&positions).view([self.new.len() as i64, self.width])
    }

    /// Attention of layer `index`: query (rows, heads, width, head_dim) over all that each row has
    /// read and its new tokens, whose key and value are (rows, kv_heads, width, head_dim). A token
    /// sees no further back than `window` positions, its own included. Returns (rows, width, heads
    /// * head_dim). Layers come in their order.
    pub(super) fn attend(
        &mut self,
        index: usize,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        scale: f64,
        window: Option<i64>,
    ) -> Tensor {
        let window = window.filter(|window| self.longest() > *window);
        if self.goes_along_paths(query) {
            let new = New::separate(query, key, value);
            return self.attend_along_paths(index, &new, scale, window);
        }
        if index == 0 {
            self.layouts = self.layouts(None, query.kind(), query.device());
        }
        if window.is_some() && self.windowed.is_empty() {
            self.windowed = self.layouts(window, query.kind(), query.device());
        }
        let layouts = if window.is_some() { &self.windowed } else { &self.layouts };
        let mut first = 0;
        let mut attended = Vec::with_capacity(self.segments.len());
        for (segment, layout) in self.segments.iter_mut().zip(layouts) {
            let rows = segment.rows() as i64;
            let part = |of: &Tensor| of.narrow(0, first, rows);
            segment.write(index, &part(key).transpose(1, 2), &part(value).transpose(1, 2), layout);
            let layer = &segment.own.layers[index];
            let own = Part::of(&layer.key, &layer.value, layout.columns, layout.own.as_ref());
            let prefix = segment.prefix().map(|prefix| {
                let layer = &prefix.block.layers[index];
                Part::of(&layer.key, &layer.value, prefix.tokens, layout.prefix.as_ref())
            });
            attended.push(attend_parts(&part(query), prefix.as_ref(), &own, scale));
            first += rows;
        }
        if attended.len() == 1 { attended.remove(0) } else { Tensor::cat(&attended, 0) }
    }

    /// [`Self::attend`] with queries, keys and values of `heads` heads side by side, (rows, width,
    /// 3 * heads * head_dim), and no window.
    pub(super) fn attend_fused(
        &mut self,
        index: usize,
        fused: &Tensor,
        heads: i64,
        scale: f64,
    ) -> Tensor {
        if self.goes_along_paths(fused) {
            return self.attend_along_paths(index, &New::fused(fused, heads as usize), scale, None);
        }
        let [query, key, value] = split_fused(fused, heads);
        self.attend(index, &query, &key, &value, scale, None)
    }

    /// A first reading is one causal product over the whole prompt, for which libtorch's operator
    /// has better blocks.
    fn goes_along_paths(&self, new: &Tensor) -> bool {
        reads(new.device(), new.kind())
            && !self.segments.iter().all(|segment| segment.has_read_nothing())
    }

    fn attend_along_paths(
        &mut self,
        index: usize,
        new: &New,
        scale: f64,
        window: Option<i64>,
    ) -> Tensor {
        let width = self.width as usize;
        for segment in &mut self.segments {
            segment.make_room(index, new, width);
        }
        let mut reading = Reading::default();
        for segment in &self.segments {
            for (number, row) in segment.rows.iter().enumerate() {
                let before = row
                    .before
                    .iter()
                    .map(|piece| (&piece.block.layers[index], piece.row, piece.tokens as usize));
                reading.push(
                    before.chain([(&segment.own.layers[index], number, row.length as usize)]),
                    width,
                );
            }
        }
        attend(new, &reading, scale, window)
    }

    /// Counts the new tokens, once the last layer has written them.
    pub(super) fn commit(self) {
        let mut new = self.new.into_iter();
        for segment in self.segments {
            for row in &mut segment.rows {
                row.length += new.next().unwrap_or(0);
            }
        }
    }

    fn longest(&self) -> i64 {
        self.segments
            .iter()
            .flat_map(|segment| (0..segment.rows()).map(|row| segment.position(row)))
            .max()
            .unwrap_or(0)
            + self.width
    }

    fn layouts(&self, window: Option<i64>, kind: Kind, device: Device) -> Vec<Layout> {
        self.segments
            .iter()
            .map(|segment| segment.layout(self.width, window, kind, device))
            .collect()
    }
}
