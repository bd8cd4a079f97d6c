//! The arithmetic of AdamW over main memory in one pass, where libtorch's operators make a dozen;
//! other devices use those.

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::kernels::parallel::in_parallel;
use crate::kernels::simd::{LANES, Work, dispatch, widen};

/// Fewer numbers than this are not worth another thread.
const LEAST: usize = 1 << 16;
/// Numbers whose squares are summed together: the sum must not depend on the number of threads.
const BLOCK: usize = 1 << 14;

/// One update with everything that is the same for all numbers of a tensor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// What the gradient is multiplied by.
    pub scale: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    /// The learning rate over 1 − β1^t.
    pub rate: f64,
    /// 1 − β2^t.
    pub correction2: f64,
    /// What decay leaves of a weight.
    pub keep: f64,
}

impl Step {
    /// m ← β1 m + (1 − β1) g, v ← β2 v + (1 − β2) g², w ← keep w − rate m / (√(v / correction2) +
    /// ε), with g the scaled gradient. All are contiguous and of one size; `gradient` is f32 or
    /// bf16, the others f32.
    pub fn apply(
        &self,
        gradient: &Tensor,
        weight: &mut Tensor,
        first: &mut Tensor,
        second: &mut Tensor,
    ) -> Result<()> {
        if gradient.device() != Device::Cpu {
            return self.by_libtorch(gradient, weight, first, second);
        }
        let gradient = readable(gradient)?;
        let count = weight.numel();
        let starts = [gradient.data_ptr(), weight.data_ptr(), first.data_ptr(), second.data_ptr()]
            .map(|start| start as usize);
        let is_float = gradient.kind() == Kind::Float;
        in_parallel(count, LEAST, |share| {
            let [gradient, weight, first, second] = starts;
            let (from, length) = (share.start, share.len());
            // SAFETY: contiguous tensors in main memory of `count` numbers of these kinds, which
            // nothing else writes; the shares do not overlap.
            unsafe {
                let numbers = |start: usize| {
                    std::slice::from_raw_parts_mut((start as *mut f32).add(from), length)
                };
                let (weight, first, second) = (numbers(weight), numbers(first), numbers(second));
                if is_float {
                    let gradient =
                        std::slice::from_raw_parts((gradient as *const f32).add(from), length);
                    dispatch(Loop { step: *self, gradient, weight, first, second, read: |x| x });
                } else {
                    let gradient =
                        std::slice::from_raw_parts((gradient as *const u16).add(from), length);
                    dispatch(Loop { step: *self, gradient, weight, first, second, read: widen });
                }
            }
        });
        Ok(())
    }

    fn by_libtorch(
        &self,
        gradient: &Tensor,
        weight: &mut Tensor,
        first: &mut Tensor,
        second: &mut Tensor,
    ) -> Result<()> {
        let gradient = gradient.f_to_kind(Kind::Float)? * self.scale;
        drop(first.f_mul_scalar_(self.beta1)?.f_add_(&(&gradient * (1.0 - self.beta1)))?);
        drop(
            second
                .f_mul_scalar_(self.beta2)?
                .f_addcmul_(&gradient, &(&gradient * (1.0 - self.beta2)))?,
        );
        let denominator = (&*second / self.correction2).sqrt_().f_add_scalar_(self.epsilon)?;
        drop(weight.f_mul_scalar_(self.keep)?.f_addcdiv_(&(&*first * -self.rate), &denominator)?);
        Ok(())
    }
}

struct Loop<'a, T, R> {
    step: Step,
    gradient: &'a [T],
    weight: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    read: R,
}

impl<T: Copy, R: Fn(T) -> f32 + Copy> Work for Loop<'_, T, R> {
    type Answer = ();

    #[inline(always)]
    fn run(self) {
        let Step { scale, beta1, beta2, epsilon, rate, correction2, keep } = self.step;
        let [scale, beta1, beta2, epsilon, rate, keep] =
            [scale, beta1, beta2, epsilon, rate, keep].map(|x| x as f32);
        let (rest1, rest2, per_correction) = (
            (1.0 - self.step.beta1) as f32,
            (1.0 - self.step.beta2) as f32,
            (1.0 / correction2) as f32,
        );
        let moments = self.first.iter_mut().zip(self.second);
        for ((weight, (first, second)), &gradient) in
            self.weight.iter_mut().zip(moments).zip(self.gradient)
        {
            let gradient = (self.read)(gradient) * scale;
            *first = beta1 * *first + rest1 * gradient;
            *second = beta2 * *second + rest2 * gradient * gradient;
            *weight =
                keep * *weight - rate * *first / ((*second * per_correction).sqrt() + epsilon);
        }
    }
}

/// Σ x² of an f32 or bf16 tensor in main memory, the same for any number of threads.
pub(super) fn sum_of_squares(tensor: &Tensor) -> Result<f64> {
    let tensor = readable(tensor)?;
    let (count, start, is_float) =
        (tensor.numel(), tensor.data_ptr() as usize, tensor.kind() == Kind::Float);
    let blocks = in_parallel(count.div_ceil(BLOCK), LEAST / BLOCK, |share| {
        let block = |index: usize| {
            let (from, length) = (index * BLOCK, BLOCK.min(count - index * BLOCK));
            // SAFETY: a contiguous tensor in main memory of `count` numbers of this kind.
            unsafe {
                if is_float {
                    dispatch(Squares {
                        numbers: std::slice::from_raw_parts(
                            (start as *const f32).add(from),
                            length,
                        ),
                        read: |x| x,
                    })
                } else {
                    dispatch(Squares {
                        numbers: std::slice::from_raw_parts(
                            (start as *const u16).add(from),
                            length,
                        ),
                        read: widen,
                    })
                }
            }
        };
        share.map(block).collect::<Vec<f64>>()
    });
    Ok(blocks.into_iter().flatten().sum())
}

struct Squares<'a, T, R> {
    numbers: &'a [T],
    read: R,
}

impl<T: Copy, R: Fn(T) -> f32 + Copy> Work for Squares<'_, T, R> {
    type Answer = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let mut sums = [0f32; LANES];
        let chunks = self.numbers.chunks_exact(LANES);
        let rest = chunks.remainder();
        for chunk in chunks {
            for (sum, &x) in sums.iter_mut().zip(chunk) {
                let x = (self.read)(x);
                *sum += x * x;
            }
        }
        let rest: f64 = rest.iter().map(|&x| f64::from((self.read)(x)).powi(2)).sum();
        sums.iter().map(|&sum| f64::from(sum)).sum::<f64>() + rest
    }
}

/// The tensor with its numbers in order and of a kind that the loops read.
fn readable(tensor: &Tensor) -> Result<Tensor> {
    match tensor.kind() {
        Kind::Float | Kind::BFloat16 => Ok(tensor.f_contiguous()?),
        Kind::Half => Ok(tensor.f_to_kind(Kind::Float)?.f_contiguous()?),
        other => Err(Error::failed(format!("a gradient of kind {other:?} cannot be used"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loop_is_libtorchs_arithmetic() {
        let wave =
            |seed: f64| (Tensor::arange(100_003, (Kind::Float, Device::Cpu)) * 0.37 + seed).sin();
        let step = Step {
            scale: 0.7,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            rate: 1e-2,
            correction2: 1.0 - 0.999f64.powi(3),
            keep: 0.999,
        };
        for kind in [Kind::Float, Kind::BFloat16] {
            let gradient = wave(0.1).to_kind(kind);
            let start = || [wave(1.0), wave(2.0) * 0.1, wave(3.0).square()];
            let ([mut w, mut m, mut v], [mut lw, mut lm, mut lv]) = (start(), start());
            step.apply(&gradient, &mut w, &mut m, &mut v).unwrap();
            step.by_libtorch(&gradient, &mut lw, &mut lm, &mut lv).unwrap();
            for (ours, libtorchs) in [(w, lw), (m, lm), (v, lv)] {
                assert!(
                    ours.allclose(&libtorchs, 1e-5, 1e-6, false),
                    "{kind:?}: {}",
                    (ours - libtorchs).abs().max()
                );
            }
            let exact = gradient.to_kind(Kind::Double).square().sum(Kind::Double).double_value(&[]);
            assert!((sum_of_squares(&gradient).unwrap() / exact - 1.0).abs() < 1e-6);
        }
    }
}
