//! The layers that all families share, under the parameter names of Hugging Face. Variables start as zeros: loading or `init` follows.

use tch::Tensor;
use tch::nn::{Init, Path};

pub(super) struct Linear {
    weight: Tensor, // (out, in)
    bias: Tensor,
}

impl Linear {
    pub(super) fn new(p: &Path, n_in: i64, n_out: i64) -> Self {
        Self { weight: zeros(p, "weight", &[n_out, n_in]), bias: zeros(p, "bias", &[n_out]) }
    }

    /// (.., in) to (.., out).
    pub(super) fn forward(&self, input: &Tensor) -> Tensor {
        input.linear(&self.weight, Some(&self.bias))
    }
}

/// GPT-2's linear layer, whose weight is stored transposed: (in, out).
pub(super) struct Conv1d {
    weight: Tensor,
    bias: Tensor,
}

impl Conv1d {
    pub(super) fn new(p: &Path, n_in: i64, n_out: i64) -> Self {
        Self { weight: zeros(p, "weight", &[n_in, n_out]), bias: zeros(p, "bias", &[n_out]) }
    }

    /// (.., in) to (.., out).
    pub(super) fn forward(&self, input: &Tensor) -> Tensor {
        input.linear(&self.weight.transpose(0, 1), Some(&self.bias))
    }
}

pub(super) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    size: i64,
    epsilon: f64,
}

impl LayerNorm {
    pub(super) fn new(p: &Path, size: i64, epsilon: f64) -> Self {
        Self { weight: zeros(p, "weight", &[size]), bias: zeros(p, "bias", &[size]), size, epsilon }
    }

    /// (.., size) to the same shape; the statistics are in f32 whatever the kind.
    pub(super) fn forward(&self, input: &Tensor) -> Tensor {
        input.layer_norm(self.size, Some(&self.weight), Some(&self.bias), self.epsilon, true)
    }
}

pub(super) struct Embedding {
    pub(super) weight: Tensor, // (count, size)
}

impl Embedding {
    pub(super) fn new(p: &Path, count: i64, size: i64) -> Self {
        Self { weight: zeros(p, "weight", &[count, size]) }
    }

    /// ids (batch, seq) to (batch, seq, size).
    pub(super) fn forward(&self, ids: &Tensor) -> Tensor {
        Tensor::embedding(&self.weight, ids, -1, false, false)
    }
}

pub(super) fn zeros(p: &Path, name: &str, shape: &[i64]) -> Tensor {
    p.var(name, shape, Init::Const(0.0))
}
