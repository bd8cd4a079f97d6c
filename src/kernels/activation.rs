//! The activations of feed-forward layers. Where nothing is learned they are applied in place on a
//! CPU: in bf16 by a table of all 65,536 values, which libtorch itself fills, in f32 by one vector
//! loop. libtorch's tanh alone takes longer than the layer's matrix product where that runs on tile
//! instructions.

use std::sync::OnceLock;

use tch::{Device, Kind, Tensor};

use super::parallel::in_parallel;
use super::simd::{Work, dispatch, sigmoid};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x Φ(x) with Φ by the tanh of a cubic: `gelu_new`.
    GeluTanh,
    /// x σ(x).
    Silu,
}

/// Fewer numbers than this are not worth another thread.
const LEAST: usize = 1 << 16;

impl Activation {
    /// The activated numbers of (..); `input` must not be in use elsewhere, because it may be
    /// overwritten.
    pub fn forward(self, input: Tensor) -> Tensor {
        let in_place =
            input.device() == Device::Cpu && input.is_contiguous() && !input.requires_grad();
        match input.kind() {
            Kind::BFloat16 if in_place => self.by_table(&input),
            Kind::Float if in_place => self.by_loop(&input),
            _ => return self.by_libtorch(&input),
        }
        input
    }

    fn by_libtorch(self, input: &Tensor) -> Tensor {
        match self {
            Self::GeluTanh => input.gelu("tanh"),
            Self::Silu => input.silu(),
        }
    }

    fn by_table(self, input: &Tensor) {
        static TABLES: [OnceLock<Vec<u16>>; 2] = [OnceLock::new(), OnceLock::new()];
        let table: &[u16; 1 << 16] = TABLES[self as usize]
            .get_or_init(|| {
                let all: Vec<i16> = (0..=u16::MAX).map(|bits| bits as i16).collect();
                let values = self
                    .by_libtorch(&Tensor::from_slice(&all).view_dtype(Kind::BFloat16))
                    .view_dtype(Kind::Int16);
                Vec::<i16>::try_from(values)
                    .expect("65,536 numbers")
                    .into_iter()
                    .map(|bits| bits as u16)
                    .collect()
            })
            .as_slice()
            .try_into()
            .expect("a value for each bf16");
        on_numbers(input, |numbers: &mut [u16]| {
            numbers.iter_mut().for_each(|number| *number = table[usize::from(*number)])
        });
    }

    fn by_loop(self, input: &Tensor) {
        on_numbers(input, |numbers| dispatch(Apply { activation: self, numbers }));
    }
}

/// The activation of f32 numbers in place.
struct Apply<'a> {
    activation: Activation,
    numbers: &'a mut [f32],
}

impl Work for Apply<'_> {
    type Answer = ();

    #[inline(always)]
    fn run(self) {
        let numbers = self.numbers.iter_mut();
        match self.activation {
            // (1 + tanh u) / 2 is σ(2u).
            Activation::GeluTanh => {
                numbers.for_each(|x| *x *= sigmoid(1.595_769 * (*x + 0.044_715 * *x * *x * *x)))
            }
            Activation::Silu => numbers.for_each(|x| *x *= sigmoid(*x)),
        }
    }
}

/// `work` on shares of the tensor's numbers, which are of type `T`.
fn on_numbers<T>(input: &Tensor, work: impl Fn(&mut [T]) + Sync) {
    let start = input.data_ptr() as usize;
    in_parallel(input.numel(), LEAST, |share| {
        // SAFETY: a contiguous tensor in main memory of this many numbers, which nothing else uses;
        // the shares do not overlap.
        work(unsafe {
            std::slice::from_raw_parts_mut((start as *mut T).add(share.start), share.len())
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_give_what_libtorch_gives() {
        let numbers = Tensor::linspace(-12.0, 12.0, 300_001, (Kind::Float, Device::Cpu));
        for activation in [Activation::GeluTanh, Activation::Silu] {
            for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
                let input = numbers.to_kind(kind);
                // In f32 libtorch's own tanh form loses more than ours, so f64 judges; the halves
                // are libtorch's to the bit.
                let exact = kind == Kind::Float;
                let expected = activation.by_libtorch(&if exact {
                    input.to_kind(Kind::Double)
                } else {
                    input.shallow_clone()
                });
                let found = activation.forward(input.copy());
                let error = (found.to_kind(Kind::Double) - expected.to_kind(Kind::Double)).abs();
                let scale = expected.to_kind(Kind::Double).abs().clamp_min(1e-3);
                let worst = (error / scale).max().double_value(&[]);
                assert!(
                    worst < if exact { 2e-6 } else { 1e-12 },
                    "{activation:?} {kind:?}: {worst}"
                );
            }
            let learned = numbers.copy().set_requires_grad(true);
            let _ = activation.forward(learned.shallow_clone());
            assert!(learned.equal(&numbers), "what is learned from is not overwritten");
        }
    }
}
