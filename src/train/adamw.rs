//! AdamW with decoupled weight decay (arXiv 1711.05101), its state open to checkpoints.
//!
//! torch's own optimisers cannot save their state through tch. No decay on biases and norms: tensors of fewer than two dimensions.

use tch::Tensor;

use crate::error::Result;

#[derive(Debug, Clone, Copy)]
pub struct AdamWSettings {
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    pub weight_decay: f64,
}

impl AdamWSettings {
    /// PyTorch's defaults with the given decay.
    pub fn with_decay(weight_decay: f64) -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay }
    }
}

pub struct AdamW {
    settings: AdamWSettings,
    parameters: Vec<(String, Tensor)>,
    first: Vec<Tensor>,
    second: Vec<Tensor>,
    step: i32,
}

impl AdamW {
    pub fn new(parameters: Vec<(String, Tensor)>, settings: AdamWSettings) -> Self {
        let zeros = || parameters.iter().map(|(_, parameter)| parameter.detach().zeros_like()).collect();
        Self { settings, first: zeros(), second: zeros(), parameters, step: 0 }
    }

    pub fn parameters(&self) -> &[(String, Tensor)] {
        &self.parameters
    }

    /// Divides the accumulated gradients by `weight`, so that the sum of many micro-batches becomes the mean over what they weigh, and
    /// scales them down to `max_norm` where they exceed it. Returns the norm before clipping.
    pub fn finish_gradients(&mut self, weight: f64, max_norm: f64) -> Result<f64> {
        let _no_grad = tch::no_grad_guard();
        let gradients: Vec<Tensor> = self.parameters.iter().map(|(_, p)| p.grad()).filter(Tensor::defined).collect();
        let norms: Vec<Tensor> = gradients.iter().map(|gradient| gradient.norm()).collect();
        let norm = f64::try_from(Tensor::stack(&norms, 0).norm())? / weight;
        // PyTorch's clip_grad_norm_ adds 1e-6 to the norm as well.
        let scale = (max_norm / (norm + 1e-6)).min(1.0) / weight;
        for mut gradient in gradients {
            let _ = gradient.g_mul_scalar_(scale);
        }
        Ok(norm)
    }

    pub fn zero_gradients(&mut self) {
        for (_, parameter) in &mut self.parameters {
            parameter.zero_grad();
        }
    }

    /// One update with the gradients at hand; a parameter without a gradient keeps its value.
    pub fn step(&mut self, learning_rate: f64) {
        let _no_grad = tch::no_grad_guard();
        self.step += 1;
        let AdamWSettings { beta1, beta2, epsilon, weight_decay } = self.settings;
        let (correction1, correction2) = (1.0 - beta1.powi(self.step), 1.0 - beta2.powi(self.step));
        for (i, (_, parameter)) in self.parameters.iter_mut().enumerate() {
            let gradient = parameter.grad();
            if !gradient.defined() {
                continue;
            }
            if parameter.dim() >= 2 && weight_decay > 0.0 {
                let _ = parameter.g_mul_scalar_(1.0 - learning_rate * weight_decay);
            }
            let (first, second) = (&mut self.first[i], &mut self.second[i]);
            let _ = first.g_mul_scalar_(beta1).g_add_(&(&gradient * (1.0 - beta1)));
            let _ = second.g_mul_scalar_(beta2).addcmul_(&gradient, &(&gradient * (1.0 - beta2)));
            let denominator = (&*second / correction2).sqrt_().g_add_scalar_(epsilon);
            let _ = parameter.addcdiv_(&(&*first * (-learning_rate / correction1)), &denominator);
        }
    }

    /// Moments under `first.<name>` and `second.<name>`; with [`AdamW::restore`] this is the whole state.
    pub fn state(&self) -> (i32, Vec<(String, Tensor)>) {
        let named = |prefix: &str, tensors: &[Tensor]| -> Vec<(String, Tensor)> {
            self.parameters.iter().zip(tensors).map(|((name, _), tensor)| (format!("{prefix}.{name}"), tensor.shallow_clone())).collect()
        };
        let mut tensors = named("first", &self.first);
        tensors.extend(named("second", &self.second));
        (self.step, tensors)
    }

    /// Takes over a state that [`AdamW::state`] gave; `tensor` finds a tensor by name.
    pub fn restore(&mut self, step: i32, tensor: impl Fn(&str) -> Result<Tensor>) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        self.step = step;
        for (i, (name, _)) in self.parameters.iter().enumerate() {
            self.first[i].copy_(&tensor(&format!("first.{name}"))?);
            self.second[i].copy_(&tensor(&format!("second.{name}"))?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    #[test]
    fn equals_pytorch_and_libtorch() {
        // Both decay here because libtorch's AdamW has one group: two-dimensional parameters only.
        let start = Tensor::from_slice(&[0.5f32, -1.5, 2.0, 0.1]).view([2, 2]);
        let ours = start.copy().set_requires_grad(true);
        let mut optimizer = AdamW::new(vec![("w".into(), ours.shallow_clone())], AdamWSettings::with_decay(0.1));
        let store = tch::nn::VarStore::new(tch::Device::Cpu);
        let mut theirs = store.root().zeros("w", &[2, 2]);
        tch::no_grad(|| theirs.copy_(&start));
        let settings = tch::nn::AdamW { beta1: 0.9, beta2: 0.999, wd: 0.1, eps: 1e-8, amsgrad: false };
        let mut reference = tch::nn::OptimizerConfig::build(settings, &store, 1e-2).unwrap();
        for step in 0..20 {
            let target = Tensor::from_slice(&[1.0f32, 0.0, step as f32, -1.0]).view([2, 2]);
            reference.backward_step(&(&theirs - &target).square().sum(Kind::Float));
            optimizer.zero_gradients();
            (&ours - &target).square().sum(Kind::Float).backward();
            optimizer.finish_gradients(1.0, f64::INFINITY).unwrap();
            optimizer.step(1e-2);
        }
        let difference = f64::try_from((&ours - &theirs).abs().max()).unwrap();
        assert!(difference < 1e-6, "{difference}");
        assert!(f64::try_from((&ours - &start).abs().max()).unwrap() > 1e-2);
    }

    #[test]
    fn gradients_become_the_weighted_mean_and_are_clipped_by_norm() {
        let weight = Tensor::from_slice(&[3.0f32, 4.0]).set_requires_grad(true);
        let mut optimizer = AdamW::new(vec![("w".into(), weight.shallow_clone())], AdamWSettings::with_decay(0.0));
        (&weight * &weight).sum(Kind::Float).backward(); // gradient (6, 8), norm 10
        let norm = optimizer.finish_gradients(2.0, 1.0).unwrap();
        assert!((norm - 5.0).abs() < 1e-6, "{norm}");
        let clipped = f64::try_from(weight.grad().norm()).unwrap();
        assert!((clipped - 1.0).abs() < 1e-4, "{clipped}");
    }
}
