//! What this machine can do at most: the rate of a large matrix product by the best kernel there
//! is, and of memory, measured in the kind that a model would use. Whatever kernel the models take,
//! they are held against the best.

use std::time::Instant;

use tch::{Device, Kind, Tensor};

use crate::kernels::onednn::{self, Then};

/// All are the best of several tries: other work on the machine only takes away.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MachineRates {
    pub matmul_flops_per_s: f64,
    /// Whose product that was.
    pub matmul_kernel: &'static str,
    /// Bytes read and written.
    pub memory_bytes_per_s: f64,
    /// By what that was reached.
    pub memory_work: &'static str,
}

/// A typical layer's product, as large as speed still grows with size: (2048, 768) by (768, 3072).
const SHAPE: [i64; 3] = [2048, 768, 3072];
const COPIED_BYTES: i64 = 256 << 20;

impl MachineRates {
    pub fn measure(device: Device, kind: Kind) -> Self {
        let _no_grad = tch::no_grad_guard();
        let (matmul_kernel, matmul_flops_per_s) = fastest(matmul_rates(device, kind));
        let (memory_work, memory_bytes_per_s) = fastest(memory_rates(device, kind));
        Self { matmul_flops_per_s, matmul_kernel, memory_bytes_per_s, memory_work }
    }
}

/// The rate of each library's product, by its name.
fn matmul_rates(device: Device, kind: Kind) -> Vec<(&'static str, f64)> {
    let [rows, inner, columns] = SHAPE;
    let random = |shape: [i64; 2]| Tensor::randn(shape, (Kind::Float, device)).to_kind(kind);
    let (input, weight) = (random([rows, inner]), random([columns, inner]));
    let flops = 2.0 * (rows * inner * columns) as f64;
    let mut rates =
        vec![("libtorch", flops / best(device, || drop(input.linear(&weight, None::<&Tensor>))))];
    let packed = (device == Device::Cpu).then(|| onednn::pack(&weight, rows).ok()).flatten();
    rates.extend(packed.map(|packed| {
        (
            "oneDNN, packed",
            flops / best(device, || drop(onednn::product(&input, &packed, None, Then::Nothing))),
        )
    }));
    rates
}

fn memory_rates(device: Device, kind: Kind) -> Vec<(&'static str, f64)> {
    let elements = COPIED_BYTES / kind.elt_size_in_bytes() as i64;
    let (from, mut to) =
        (Tensor::zeros([elements], (kind, device)), Tensor::zeros([elements], (kind, device)));
    let copied = 2.0 * COPIED_BYTES as f64 / best(device, || to.copy_(&from));
    // As whole numbers, which no kind is slow to add up.
    let numbers = from.view_dtype(Kind::Int);
    vec![("copied", copied), ("read", COPIED_BYTES as f64 / best(device, || drop(numbers.max())))]
}

fn fastest(rates: Vec<(&'static str, f64)>) -> (&'static str, f64) {
    rates.into_iter().max_by(|(_, a), (_, b)| a.total_cmp(b)).expect("one at least")
}

/// Seconds of the fastest of twelve runs after three that are not counted.
fn best(device: Device, mut run: impl FnMut()) -> f64 {
    let mut timed = || {
        let started = Instant::now();
        run();
        if let Device::Cuda(index) = device {
            tch::Cuda::synchronize(index as i64);
        }
        started.elapsed().as_secs_f64()
    };
    for _ in 0..3 {
        timed();
    }
    (0..12).map(|_| timed()).fold(f64::INFINITY, f64::min)
}
