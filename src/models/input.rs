//! What a decoder reads in one pass. Who makes such batches of texts is in `causal_lm.rs` and in
//! `train`.

use tch::Tensor;

use super::packing::Packing;

/// One batch of new tokens. Positions are explicit, so padding may lie anywhere in a row.
pub struct Input<'a> {
    /// Token ids, (batch, seq) i64, each below `vocab_size` (also where padded).
    pub ids: &'a Tensor,
    /// Positions, (batch, seq) i64, each below `context` (also where padded).
    pub positions: &'a Tensor,
    /// Which tokens are real, (batch, seq) bool; `None` when all are. What stands at padded tokens
    /// is never attended to, and their own hidden states are finite but mean nothing.
    pub valid: Option<&'a Tensor>,
    /// Which tokens of the one row see which, where several texts share it; every token is real
    /// then, and there is no cache.
    pub packing: Option<&'a Packing>,
}
