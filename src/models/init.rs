//! Fresh weights from our own random stream, never torch's global one: a model's start depends on its seed alone.

use std::f64::consts::TAU;

use rand::Rng;
use rand::rngs::ChaCha8Rng;
use tch::Tensor;

/// GPT-2's initialisation: every matrix N(0, 0.02), the projections back into the residual stream scaled by 1/√(2 · n_layer); norms and
/// biases stay at the 1 and 0 they were built with. `parameters` in a fixed order.
pub fn gpt2(parameters: &[(String, Tensor)], n_layer: i64, rng: &mut ChaCha8Rng) {
    let residual = (2.0 * n_layer as f64).powf(-0.5);
    for (name, parameter) in parameters.iter().filter(|(_, parameter)| parameter.dim() >= 2) {
        fill_normal(parameter, if name.ends_with("c_proj.weight") { 0.02 * residual } else { 0.02 }, rng);
    }
}

/// BERT's: every matrix N(0, 0.02).
pub fn bert(parameters: &[(String, Tensor)], rng: &mut ChaCha8Rng) {
    for (_, parameter) in parameters.iter().filter(|(_, parameter)| parameter.dim() >= 2) {
        fill_normal(parameter, 0.02, rng);
    }
}

/// Normal numbers by Box–Muller, in the tensor's memory order.
fn fill_normal(parameter: &Tensor, deviation: f64, rng: &mut ChaCha8Rng) {
    let _no_grad = tch::no_grad_guard();
    let mut uniform = || (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let numbers: Vec<f32> = (0..parameter.numel().div_ceil(2))
        .flat_map(|_| {
            let (radius, angle) = ((-2.0 * (1.0 - uniform()).ln()).sqrt() * deviation, uniform() * TAU);
            [(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]
        })
        .collect();
    parameter.shallow_clone().copy_(&Tensor::from_slice(&numbers[..parameter.numel()]).view(&parameter.size()[..]));
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::sampling::Stream;

    #[test]
    fn matrices_are_normal_and_the_residual_projections_smaller() {
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        let names = [("h.0.c_proj.weight", vec![200, 200]), ("wte.weight", vec![200, 200]), ("ln.bias", vec![200])];
        let parameters: Vec<(String, Tensor)> = names.iter().map(|(name, shape)| (name.to_string(), zeros(shape))).collect();
        gpt2(&parameters, 8, &mut Stream::new(1, "init", "x").rng());
        let deviation = |i: usize| f64::try_from(parameters[i].1.std(true)).unwrap();
        assert!((deviation(0) - 0.005).abs() < 1e-4 && (deviation(1) - 0.02).abs() < 4e-4, "{} {}", deviation(0), deviation(1));
        assert!(f64::try_from(parameters[1].1.mean(Kind::Float)).unwrap().abs() < 5e-4);
        assert_eq!(f64::try_from(parameters[2].1.abs().max()).unwrap(), 0.0);
    }
}
