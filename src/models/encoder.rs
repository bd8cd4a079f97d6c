//! The post-norm encoder block that BERT and DistilBERT share; only its parameters' names differ.

use tch::Tensor;
use tch::nn::Path;

use super::attention::{Mask, attend, split_heads};
use super::layers::{LayerNorm, Linear, LinearLayer};

/// From token ids to the logits of labels.
pub trait SequenceClassifier {
    /// ids (batch, seq) i64, mask (batch, seq) bool with the real tokens true and the first always
    /// real; (batch, num_labels) in the weights' kind.
    ///
    /// # Panics
    /// Where libtorch does: ids out of range, or more tokens than `max_position_embeddings`.
    fn forward(&self, ids: &tch::Tensor, mask: &tch::Tensor) -> tch::Tensor;

    /// All linear layers, under their names in the whole model.
    fn linears(&mut self) -> Vec<LinearLayer<'_>>;
}

/// Names of a block's parameters below the block, with `.` between levels.
pub(super) struct BlockNames {
    pub query: &'static str,
    pub key: &'static str,
    pub value: &'static str,
    pub attention_out: &'static str,
    pub attention_norm: &'static str,
    pub inner: &'static str,
    pub out: &'static str,
    pub norm: &'static str,
}

pub(super) struct BlockSizes {
    pub hidden: i64,
    pub inner: i64,
    pub heads: i64,
    pub epsilon: f64,
}

pub(super) struct EncoderBlock {
    query: Linear,
    key: Linear,
    value: Linear,
    attention_out: Linear,
    attention_norm: LayerNorm,
    inner: Linear,
    out: Linear,
    norm: LayerNorm,
    heads: i64,
    scale: f64,
}

impl EncoderBlock {
    pub fn new(p: &Path, names: &BlockNames, sizes: &BlockSizes) -> Self {
        let &BlockSizes { hidden, inner, heads, epsilon } = sizes;
        let at = |name: &str| name.split('.').fold(p.clone(), |path, part| path / part);
        Self {
            query: Linear::new(&at(names.query), hidden, hidden),
            key: Linear::new(&at(names.key), hidden, hidden),
            value: Linear::new(&at(names.value), hidden, hidden),
            attention_out: Linear::new(&at(names.attention_out), hidden, hidden),
            attention_norm: LayerNorm::new(&at(names.attention_norm), hidden, epsilon),
            inner: Linear::new(&at(names.inner), hidden, inner),
            out: Linear::new(&at(names.out), inner, hidden),
            norm: LayerNorm::new(&at(names.norm), hidden, epsilon),
            heads,
            scale: ((hidden / heads) as f64).powf(-0.5),
        }
    }

    /// Under their names, the block's own being `at`.
    pub fn linears(&mut self, at: &str, names: &BlockNames) -> Vec<LinearLayer<'_>> {
        let layers = [
            (names.query, &mut self.query),
            (names.key, &mut self.key),
            (names.value, &mut self.value),
            (names.attention_out, &mut self.attention_out),
            (names.inner, &mut self.inner),
            (names.out, &mut self.out),
        ];
        layers.into_iter().map(|(name, layer)| layer.layer(format!("{at}.{name}"))).collect()
    }

    /// (batch, seq, hidden) to the same shape.
    pub fn forward(&self, hidden: &Tensor, mask: &Mask) -> Tensor {
        let [query, key, value] = [&self.query, &self.key, &self.value]
            .map(|linear| split_heads(&linear.forward(hidden), self.heads));
        let attended = self
            .attention_out
            .forward_added(&attend(&query, &key, &value, mask, self.scale), hidden);
        let hidden = self.attention_norm.forward(&attended);
        let expanded = self.inner.forward(&hidden).gelu("none");
        self.norm.forward(&self.out.forward_added(&expanded, &hidden))
    }
}
