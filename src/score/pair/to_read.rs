//! What the guides are to read of responses, beyond what they know of their parents.

use tch::Tensor;

use super::Batch;
use crate::models::Segment;
use crate::search::{Group, Node};

/// What one row needs from the guides.
pub struct ToRead {
    pub parent: Node,
    /// The parent's row in its batch.
    pub place: usize,
    /// Log-ratios that are known from the parent.
    pub ratios: Vec<f32>,
    pub ids: Vec<i64>,
    pub ends: bool,
    /// That of the EOS, where the parent knows it.
    pub eos: Option<f32>,
    pub is_cut: bool,
    /// Leading ids whose keys and values are in the cache; the rest is fed.
    pub cached: usize,
}

impl ToRead {
    /// Leading ids whose log-ratios are known from the parent.
    pub fn known(&self) -> usize {
        self.ratios.len()
    }

    /// Whether its EOS is scored and not known.
    pub fn asks_for_end(&self) -> bool {
        self.ends && self.eos.is_none()
    }

    /// The ids that are fed.
    pub fn fed(&self) -> &[i64] {
        &self.ids[self.cached..]
    }
}

/// Each group's rows cut to the ids that are cached, and the state before each row's first fed
/// token, (1, hidden_size).
pub fn cached(
    which: usize,
    groups: &[Group<Batch>],
    work: &[ToRead],
) -> (Vec<Segment>, Vec<Tensor>) {
    let (mut segments, mut carried) = (Vec::new(), Vec::new());
    let mut rest = work;
    for Group { batch, requests, .. } in groups {
        let rows;
        (rows, rest) = rest.split_at(requests.len());
        let state = &batch.models[which];
        let mut segment =
            state.segment.select(&rows.iter().map(|row| row.place).collect::<Vec<_>>());
        for (number, row) in rows.iter().enumerate() {
            segment.truncate(number, batch.prompt.length + row.cached as i64);
            // After the row's whole parent, or after the prompt.
            carried.push(match row.cached {
                0 => batch.prompt.after[which].shallow_clone(),
                _ => state.last.narrow(0, row.place as i64, 1),
            });
        }
        segments.push(segment);
    }
    (segments, carried)
}
