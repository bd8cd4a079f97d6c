//! The layers that all families share, under the parameter names of Hugging Face. Variables start as zeros: loading or `init` follows.

use tch::nn::{Init, Path};
use tch::{Kind, Tensor};

use super::lora::{Adapter, adapted};

pub(super) struct Linear {
    weight: Tensor, // (out, in)
    bias: Option<Tensor>,
    adapter: Option<Adapter>,
}

/// A linear layer as LoRA sees it.
pub struct LinearLayer<'a> {
    /// Of the layer below the decoder, such as `h.0.attn.c_attn`.
    pub(super) name: String,
    /// (out, in), or (in, out) where `fan_in_fan_out`, which is PEFT's name for that.
    pub(super) weight: &'a Tensor,
    pub(super) fan_in_fan_out: bool,
    pub(super) adapter: &'a mut Option<Adapter>,
}

impl Linear {
    pub(super) fn new(p: &Path, n_in: i64, n_out: i64) -> Self {
        Self::with_bias(p, n_in, n_out, true)
    }

    pub(super) fn with_bias(p: &Path, n_in: i64, n_out: i64, bias: bool) -> Self {
        Self { weight: zeros(p, "weight", &[n_out, n_in]), bias: bias.then(|| zeros(p, "bias", &[n_out])), adapter: None }
    }

    /// (.., in) to (.., out).
    pub(super) fn forward(&self, input: &Tensor) -> Tensor {
        adapted(self.adapter.as_ref(), input, input.linear(&self.weight, self.bias.as_ref()))
    }

    pub(super) fn layer(&mut self, name: String) -> LinearLayer<'_> {
        LinearLayer { name, weight: &self.weight, fan_in_fan_out: false, adapter: &mut self.adapter }
    }
}

/// GPT-2's linear layer, whose weight is stored transposed: (in, out).
pub(super) struct Conv1d {
    weight: Tensor,
    bias: Tensor,
    adapter: Option<Adapter>,
}

impl Conv1d {
    pub(super) fn new(p: &Path, n_in: i64, n_out: i64) -> Self {
        Self { weight: zeros(p, "weight", &[n_in, n_out]), bias: zeros(p, "bias", &[n_out]), adapter: None }
    }

    /// (.., in) to (.., out).
    pub(super) fn forward(&self, input: &Tensor) -> Tensor {
        adapted(self.adapter.as_ref(), input, input.linear(&self.weight.transpose(0, 1), Some(&self.bias)))
    }

    pub(super) fn layer(&mut self, name: String) -> LinearLayer<'_> {
        LinearLayer { name, weight: &self.weight, fan_in_fan_out: true, adapter: &mut self.adapter }
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

/// Root mean square norm (arXiv 1910.07467): no mean is taken out and there is no bias.
pub(super) struct RmsNorm {
    weight: Tensor,
    epsilon: f64,
}

impl RmsNorm {
    pub(super) fn new(p: &Path, size: i64, epsilon: f64) -> Self {
        Self { weight: zeros(p, "weight", &[size]), epsilon }
    }

    /// (.., size) to the same shape; the statistics are in f32 whatever the kind, the weight is applied in the kind.
    pub(super) fn forward(&self, input: &Tensor) -> Tensor {
        let exact = input.to_kind(Kind::Float);
        let scale = (exact.square().mean_dim([-1i64].as_slice(), true, Kind::Float) + self.epsilon).rsqrt();
        (exact * scale).to_kind(input.kind()) * &self.weight
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
