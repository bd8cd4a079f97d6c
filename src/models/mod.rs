//! Model families on libtorch behind small traits, and the Hugging Face folders they are read from and saved to.
//!
//! A model here is weights and arithmetic: batches in, hidden states and logits out. Sampling, losses, optimisers and text stay outside.
//! There is no dropout anywhere: the recipes train small models for few epochs, and a run without dropout is reproducible bit by bit.

pub mod device;
pub mod distilbert;
pub mod folder;
pub mod gpt2;
pub mod hub;
pub mod init;
pub mod kv_cache;
pub mod weights;

mod attention;
mod layers;

use tch::{Device, Tensor};

pub use distilbert::DistilBertConfig;
pub use folder::{Classifier, Lm, LmConfig};
pub use gpt2::{Gpt2Config, TokenIds};
pub use kv_cache::KvCache;

/// One batch of new tokens. Positions are explicit, so padding may lie anywhere in a row.
pub struct Input<'a> {
    /// Token ids, (batch, seq) i64, each below `vocab_size` (also where padded).
    pub ids: &'a Tensor,
    /// Positions, (batch, seq) i64, each below `context` (also where padded).
    pub positions: &'a Tensor,
    /// Which tokens are real, (batch, seq) bool; `None` when all are. What stands at padded tokens is never attended to, and their
    /// own hidden states are finite but mean nothing.
    pub valid: Option<&'a Tensor>,
}

/// What callers must know of a language model to feed it.
#[derive(Debug, Clone, PartialEq)]
pub struct LmInfo {
    pub vocab_size: i64,
    /// Positions the model knows; a longer text does not fit.
    pub context: i64,
    pub n_layer: i64,
    pub hidden_size: i64,
    pub bos_token_id: Option<i64>,
    pub eos_token_ids: Vec<i64>,
}

/// A decoder-only language model.
pub trait CausalLm {
    fn info(&self) -> &LmInfo;

    fn device(&self) -> Device;

    /// Hidden states after the final norm, (batch, seq, hidden_size), in the weights' kind. With a cache, the new tokens attend to its
    /// columns and are appended to it; a cache is for inference, and no gradient is recorded with one.
    ///
    /// # Panics
    /// Where libtorch does: ids or positions out of range, or a batch that differs from the rows of the cache.
    fn hidden(&self, input: &Input, cache: Option<&mut KvCache>) -> Tensor;

    /// The language model head: (.., hidden_size) to (.., vocab_size), in the weights' kind; callers take the log-softmax in f32.
    fn logits(&self, hidden: &Tensor) -> Tensor;
}
