//! The layers that all families share, under the parameter names of Hugging Face. Variables start
//! as zeros: loading or `init` follows.

use tch::nn::{Init, Path};
use tch::{Kind, Tensor};

use super::adapter::{Adapter, adapted};
use crate::kernels::{Activation, Weight};

pub(super) struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
    adapter: Option<Adapter>,
}

/// A linear layer as LoRA and packing see it.
pub struct LinearLayer<'a> {
    /// The layer's name below the decoder, such as `h.0.attn.c_attn`.
    pub(super) name: String,
    /// Transposed, that is (in, out), where PEFT says `fan_in_fan_out`.
    pub(super) weight: &'a mut Weight,
    pub(super) adapter: &'a mut Option<Adapter>,
}

impl Linear {
    pub(super) fn new(p: &Path, n_in: i64, n_out: i64) -> Self {
        Self::with_bias(p, n_in, n_out, true)
    }

    pub(super) fn with_bias(p: &Path, n_in: i64, n_out: i64, bias: bool) -> Self {
        let weight = Weight::new(&zeros(p, "weight", &[n_out, n_in]), false);
        Self { weight, bias: bias.then(|| zeros(p, "bias", &[n_out])), adapter: None }
    }

    /// GPT-2's `Conv1D`, whose weight is stored transposed: (in, out).
    pub(super) fn transposed(p: &Path, n_in: i64, n_out: i64) -> Self {
        let weight = Weight::new(&zeros(p, "weight", &[n_in, n_out]), true);
        Self { weight, bias: Some(zeros(p, "bias", &[n_out])), adapter: None }
    }

    /// (.., in) to (.., out).
    pub(super) fn forward(&self, input: &Tensor) -> Tensor {
        adapted(self.adapter.as_ref(), input, self.weight.product(input, self.bias.as_ref()))
    }

    /// [`Self::forward`] and the activation of it.
    pub(super) fn forward_activated(&self, input: &Tensor, activation: Activation) -> Tensor {
        match self.adapter {
            None => self.weight.activated_product(input, self.bias.as_ref(), activation),
            Some(_) => activation.forward(self.forward(input)),
        }
    }

    /// [`Self::forward`] added to `other` (.., out).
    pub(super) fn forward_added(&self, input: &Tensor, other: &Tensor) -> Tensor {
        match self.adapter {
            None => self.weight.added_product(input, self.bias.as_ref(), other),
            Some(_) => other + self.forward(input),
        }
    }

    pub(super) fn layer(&mut self, name: String) -> LinearLayer<'_> {
        LinearLayer { name, weight: &mut self.weight, adapter: &mut self.adapter }
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

    /// (.., size) to the same shape; the statistics are in f32 whatever the kind, the weight is
    /// applied in the kind.
    pub(super) fn forward(&self, input: &Tensor) -> Tensor {
        let exact = input.to_kind(Kind::Float);
        let scale =
            (exact.square().mean_dim([-1i64].as_slice(), true, Kind::Float) + self.epsilon).rsqrt();
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
