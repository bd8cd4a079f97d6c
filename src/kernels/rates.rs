//! What this machine can do at most: the rate of a large matrix product and of a large copy, measured in the kind that a model would use.

use std::time::Instant;

use tch::{Device, Kind, Tensor};

/// Both are the best of several tries: other work on the machine only takes away.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MachineRates {
    pub matmul_flops_per_s: f64,
    /// Bytes read and written.
    pub memory_bytes_per_s: f64,
}

/// A typical layer's product, as large as speed still grows with size: (2048, 768) by (768, 3072).
const SHAPE: [i64; 3] = [2048, 768, 3072];
const COPIED_BYTES: i64 = 256 << 20;

impl MachineRates {
    pub fn measure(device: Device, kind: Kind) -> Self {
        let _no_grad = tch::no_grad_guard();
        let [rows, inner, columns] = SHAPE;
        let random = |shape: [i64; 2]| Tensor::randn(shape, (Kind::Float, device)).to_kind(kind);
        let (input, weight) = (random([rows, inner]), random([columns, inner]));
        let matmul = best(device, || drop(input.linear(&weight, None::<&Tensor>)));
        let elements = COPIED_BYTES / kind.elt_size_in_bytes() as i64;
        let (from, mut to) = (Tensor::zeros([elements], (kind, device)), Tensor::zeros([elements], (kind, device)));
        let copy = best(device, || to.copy_(&from));
        Self { matmul_flops_per_s: 2.0 * (rows * inner * columns) as f64 / matmul, memory_bytes_per_s: 2.0 * COPIED_BYTES as f64 / copy }
    }
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
