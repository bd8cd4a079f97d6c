//! The states of one forward pass of one guide over what its cache does not have.

use tch::Tensor;

use crate::error::Result;
use crate::models::{KvCache, Lm, Segment};

/// Each row's carried state, and those of the tokens that were fed behind it.
pub(super) struct NewStates {
    /// (rows · columns, hidden_size): column j of a row predicts the token j places after the
    /// cached ones.
    pub flat: Tensor,
    columns: usize,
}

impl NewStates {
    /// Feeds each row of `segments` its ids of `fed`; shorter rows are padded on the right.
    /// `carried` is the state before each row's first fed token, (1, hidden_size).
    pub fn read(
        lm: &Lm,
        segments: &mut [Segment],
        carried: &[Tensor],
        fed: &[&[i64]],
    ) -> Result<Self> {
        let widest = fed.iter().map(|ids| ids.len()).max().unwrap_or(0);
        let mut states = Tensor::cat(carried, 0).unsqueeze(1);
        if widest > 0 {
            let padded = |ids: &&[i64]| -> Vec<i64> {
                (0..widest).map(|j| ids.get(j).copied().unwrap_or(0)).collect()
            };
            let ids: Vec<i64> = fed.iter().flat_map(padded).collect();
            let ids = Tensor::from_slice(&ids).view([fed.len() as i64, widest as i64]);
            let new = fed.iter().map(|ids| ids.len() as i64).collect();
            let hidden = lm.model.read(&ids, KvCache::new(segments.iter_mut().collect(), new));
            states = Tensor::cat(&[&states, &hidden], 1);
        }
        let (_, _, hidden_size) = states.size3()?;
        Ok(Self { flat: states.reshape([-1, hidden_size]), columns: widest + 1 })
    }

    /// Where the state stands that is `column` fed tokens behind the cached ones of `row`.
    pub fn place(&self, row: usize, column: usize) -> i64 {
        (row * self.columns + column) as i64
    }

    /// The states at `places`, (places, hidden_size).
    pub fn select(&self, places: &[i64]) -> Tensor {
        self.flat.index_select(0, &Tensor::from_slice(places).to_device(self.flat.device()))
    }
}
