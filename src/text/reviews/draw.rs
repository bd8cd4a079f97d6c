//! The random stream of one review. It makes its own choices from raw words of the generator, so
//! that no change in how the `rand` crate maps bits to ranges can change the corpus.

use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

pub struct Draw(ChaCha8Rng);

impl Draw {
    /// The stream of review `index` of `split` for `seed`.
    pub fn new(seed: u64, split: &str, index: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"builtin:reviews 1\0");
        hash.update(seed.to_le_bytes());
        hash.update(index.to_le_bytes());
        hash.update(split.as_bytes());
        Draw(ChaCha8Rng::from_seed(hash.finalize().into()))
    }

    /// A whole number below `n`, which is small enough here for the bias of the multiplication not
    /// to matter.
    pub fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.0.next_u32()) * n as u64) >> 32) as usize
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from[self.below(from.len())]
    }

    pub fn pick_ref<T>(&mut self, from: &'static [T]) -> &'static T {
        &from[self.below(from.len())]
    }
}
