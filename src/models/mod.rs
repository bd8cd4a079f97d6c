//! Models on libtorch, one readable file for each architecture: config, modules, forward. Parameter paths are Hugging Face tensor
//! names. There is no dropout anywhere, so a seeded run is the same each time.

mod attention;
pub mod device;
mod distilbert;
mod folder;
mod gpt2;
mod init;
mod kv_cache;
pub mod weights;

pub use distilbert::{DistilBert, DistilBertConfig};
pub use folder::{Classifier, Lm, LmConfig};
pub use gpt2::{Gpt2, Gpt2Config};
pub use kv_cache::KvCache;

use tch::{Device, Tensor};

/// Tokens of one forward pass.
pub struct Input<'a> {
    /// (batch, seq) i64.
    pub ids: &'a Tensor,
    /// (batch, seq) i64, below the context length; explicit, so that padding can stand anywhere.
    pub positions: &'a Tensor,
    /// (batch, seq) bool; `None` when every token is real.
    pub valid: Option<&'a Tensor>,
}

/// What search and training need to know of any causal language model.
#[derive(Debug, Clone, PartialEq)]
pub struct LmInfo {
    pub vocab_size: i64,
    /// Tokens it can read.
    pub context: i64,
    pub n_layer: i64,
    pub hidden_size: i64,
    pub bos_token_id: Option<i64>,
    pub eos_token_ids: Vec<i64>,
}

pub trait CausalLm {
    fn info(&self) -> &LmInfo;

    fn device(&self) -> Device;

    /// Hidden states after the final norm, (batch, seq, hidden_size), in the weights' kind. With a cache, the new tokens attend to its
    /// columns too and are appended to it; without one, to each other.
    fn hidden(&self, input: &Input, cache: Option<&mut KvCache>) -> Tensor;

    /// The LM head: (.., hidden_size) → (.., vocab_size), in the weights' kind; log-softmax is the caller's, in f32.
    fn logits(&self, hidden: &Tensor) -> Tensor;
}
