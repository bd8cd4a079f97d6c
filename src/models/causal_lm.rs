//! A decoder-only language model: one family's decoder under the head that all families share.

use tch::{Device, Tensor};

use super::KvCache;

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
    /// Rows of the embedding; a tokenizer may use fewer.
    pub vocab_size: i64,
    /// Positions the model knows; a longer text does not fit.
    pub context: i64,
    pub n_layer: i64,
    pub hidden_size: i64,
    pub bos_token_id: Option<i64>,
    pub eos_token_ids: Vec<i64>,
}

/// What a family adds: from ids to hidden states.
pub trait Decoder {
    /// Hidden states after the final norm, (batch, seq, hidden_size), in the weights' kind. With a cache, the new tokens attend to its
    /// columns and are appended to it; a cache is for inference, and no gradient is recorded with one.
    ///
    /// # Panics
    /// Where libtorch does: ids or positions out of range, or a batch that differs from the rows of the cache.
    fn hidden(&self, input: &Input, cache: Option<&mut KvCache>) -> Tensor;

    /// The token embedding, (vocab_size, hidden_size).
    fn embedding(&self) -> &Tensor;
}

pub struct CausalLm {
    info: LmInfo,
    decoder: Box<dyn Decoder>,
    /// (vocab_size, hidden_size), the same tensor as the embedding if tied.
    head: Tensor,
}

impl CausalLm {
    pub(super) fn new(info: LmInfo, decoder: Box<dyn Decoder>, head: Tensor) -> Self {
        Self { info, decoder, head }
    }

    pub fn info(&self) -> &LmInfo {
        &self.info
    }

    /// Which ids end a sequence; the first ends what is scored and learned.
    pub(super) fn set_eos(&mut self, ids: Vec<i64>) {
        self.info.eos_token_ids = ids;
    }

    pub fn device(&self) -> Device {
        self.head.device()
    }

    /// [`Decoder::hidden`].
    pub fn hidden(&self, input: &Input, cache: Option<&mut KvCache>) -> Tensor {
        self.decoder.hidden(input, cache)
    }

    /// The language model head: (.., hidden_size) to (.., vocab_size), in the weights' kind; callers take the log-softmax in f32.
    pub fn logits(&self, hidden: &Tensor) -> Tensor {
        hidden.linear(&self.head, None::<&Tensor>)
    }
}
