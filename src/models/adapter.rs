//! The low-rank update of one linear layer (arXiv 2106.09685): y = W x + (α / r) B A x. The
//! adapters of a whole model and PEFT's folders are in `lora.rs`.

use tch::Tensor;

use crate::kernels::Weight;

/// The update of one linear layer.
pub struct Adapter {
    pub(super) a: Tensor, // (rank, in)
    pub(super) b: Tensor, // (out, rank)
    /// α / r
    pub(super) scale: f64,
}

impl Adapter {
    pub(super) fn alias(&self) -> Self {
        Self { a: self.a.shallow_clone(), b: self.b.shallow_clone(), scale: self.scale }
    }

    /// What it adds to a weight, (out, in), or (in, out) where `fan_in_fan_out`; f32.
    pub(super) fn update(&self, fan_in_fan_out: bool) -> Tensor {
        let update =
            Weight::new(&self.a.detach(), true).product(&self.b.detach(), None) * self.scale;
        if fan_in_fan_out { update.transpose(0, 1) } else { update }
    }
}

/// `output` (.., out) of a layer for `input` (.., in) with what its adapter adds, in the kind of
/// `output`; the sum is taken in f32.
pub(super) fn adapted(adapter: Option<&Adapter>, input: &Tensor, output: Tensor) -> Tensor {
    let Some(Adapter { a, b, scale }) = adapter else { return output };
    let low = Weight::new(a, false).product(&input.to_kind(a.kind()), None) * *scale; // (.., rank)
    let kind = output.kind();
    (output + Weight::new(b, false).product(&low, None)).to_kind(kind)
}
