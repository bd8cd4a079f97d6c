//! AdamW with decoupled weight decay (arXiv 1711.05101) in f32, its state open to checkpoints.
//!
//! torch's own optimisers cannot save their state through tch, and read and write each number
//! several times. Weights of another kind are copies of f32 masters, which alone take the updates:
//! bf16 would lose the small ones. No decay on biases and norms: tensors of fewer than two
//! dimensions.

use tch::{Device, Kind, Tensor};

use super::adamw_loop::{self, Step};
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
    slots: Vec<Slot>,
    step: i32,
    /// What the gradients are multiplied by in the next step.
    scale: f64,
    /// Whether the gradients of this step have been summed over micro-batches. A step of one leaves
    /// them at the parameters, also where the steps before it had several.
    summed: bool,
}

struct Slot {
    name: String,
    /// What the model computes with.
    parameter: Tensor,
    /// f32; the parameter itself where that is f32.
    master: Tensor,
    /// The f32 sum of the gradients of several micro-batches, where the parameter's own would lose
    /// digits.
    sum: Option<Tensor>,
    first: Tensor,
    second: Tensor,
    /// Its rate is the step's times this.
    factor: f64,
}

impl Slot {
    fn new(name: String, parameter: Tensor) -> Self {
        let zeros = || Tensor::zeros(parameter.size(), (Kind::Float, parameter.device()));
        let master = if parameter.kind() == Kind::Float {
            parameter.detach()
        } else {
            parameter.detach().to_kind(Kind::Float)
        };
        Self { name, master, sum: None, first: zeros(), second: zeros(), factor: 1.0, parameter }
    }

    /// `summed`: whether the step's gradients are in the sums of the slots that have one.
    fn gradient(&self, summed: bool) -> Option<Tensor> {
        let sum = self.sum.as_ref().filter(|_| summed).map(Tensor::shallow_clone);
        sum.or_else(|| Some(self.parameter.grad()).filter(Tensor::defined))
    }

    fn is_copy(&self) -> bool {
        self.parameter.kind() != Kind::Float
    }
}

impl AdamW {
    pub fn new(parameters: Vec<(String, Tensor)>, settings: AdamWSettings) -> Self {
        let _no_grad = tch::no_grad_guard();
        Self {
            settings,
            slots: parameters
                .into_iter()
                .map(|(name, parameter)| Slot::new(name, parameter))
                .collect(),
            step: 0,
            scale: 1.0,
            summed: false,
        }
    }

    /// With learning rates of their own for some parameters: the step's rate times `factor(name)`,
    /// decay included.
    pub fn with_learning_rate_factors(mut self, factor: impl Fn(&str) -> f64) -> Self {
        for slot in &mut self.slots {
            slot.factor = factor(&slot.name);
        }
        self
    }

    /// The f32 weights, by name. They alias the optimiser's own.
    pub fn weights(&self) -> Vec<(String, Tensor)> {
        self.slots.iter().map(|slot| (slot.name.clone(), slot.master.shallow_clone())).collect()
    }

    /// Adds the gradients of a micro-batch to those of the micro-batches before it, in f32. Needed
    /// after each of several; the gradients of one alone may be left where they are.
    pub fn add_gradients(&mut self) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        self.summed = true;
        for slot in self.slots.iter_mut().filter(|slot| slot.is_copy()) {
            let mut gradient = slot.parameter.grad();
            if !gradient.defined() {
                continue;
            }
            match &mut slot.sum {
                Some(sum) => drop(sum.f_add_(&gradient)?),
                None => slot.sum = Some(gradient.f_to_kind(Kind::Float)?),
            }
            drop(gradient.f_zero_()?);
        }
        Ok(())
    }

    /// Makes the next step divide the gradients by `weight`, so that the sum of many micro-batches
    /// becomes the mean over what they weigh, and scale them down to `max_norm` where they exceed
    /// it. Returns the norm before clipping.
    pub fn finish_gradients(&mut self, weight: f64, max_norm: f64) -> Result<f64> {
        let _no_grad = tch::no_grad_guard();
        let mut squares = 0.0;
        for gradient in self.slots.iter().filter_map(|slot| slot.gradient(self.summed)) {
            squares += match gradient.device() {
                Device::Cpu => adamw_loop::sum_of_squares(&gradient)?,
                _ => gradient
                    .f_to_kind(Kind::Float)?
                    .f_square()?
                    .f_sum(Kind::Double)?
                    .double_value(&[]),
            };
        }
        let norm = squares.sqrt() / weight;
        // PyTorch's clip_grad_norm_ adds 1e-6 to the norm as well.
        self.scale = (max_norm / (norm + 1e-6)).min(1.0) / weight;
        Ok(norm)
    }

    pub fn zero_gradients(&mut self) {
        self.summed = false;
        for slot in &mut self.slots {
            slot.parameter.zero_grad();
            if let Some(sum) = &mut slot.sum {
                let _ = sum.zero_();
            }
        }
    }

    /// One update with the gradients at hand; a parameter without a gradient keeps its value.
    pub fn step(&mut self, learning_rate: f64) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        self.step += 1;
        let AdamWSettings { beta1, beta2, epsilon, weight_decay } = self.settings;
        for slot in &mut self.slots {
            let Some(gradient) = slot.gradient(self.summed) else { continue };
            let learning_rate = learning_rate * slot.factor;
            let decays = slot.parameter.dim() >= 2;
            let step = Step {
                scale: self.scale,
                beta1,
                beta2,
                epsilon,
                rate: learning_rate / (1.0 - beta1.powi(self.step)),
                correction2: 1.0 - beta2.powi(self.step),
                keep: if decays { 1.0 - learning_rate * weight_decay } else { 1.0 },
            };
            step.apply(&gradient, &mut slot.master, &mut slot.first, &mut slot.second)?;
            if slot.is_copy() {
                slot.parameter.f_copy_(&slot.master)?;
            }
        }
        Ok(())
    }

    /// Updates made so far.
    pub fn updates(&self) -> i32 {
        self.step
    }

    /// Moments under `first.<name>` and `second.<name>`; with [`AdamW::restore`] this is the whole
    /// state.
    pub fn state(&self) -> (i32, Vec<(String, Tensor)>) {
        let named = |prefix: &str, of: fn(&Slot) -> &Tensor| -> Vec<(String, Tensor)> {
            self.slots
                .iter()
                .map(|slot| (format!("{prefix}.{}", slot.name), of(slot).shallow_clone()))
                .collect()
        };
        let mut tensors = named("first", |slot| &slot.first);
        tensors.extend(named("second", |slot| &slot.second));
        (self.step, tensors)
    }

    /// Takes over a state that [`AdamW::state`] gave; `tensor` finds a tensor by name.
    pub fn restore(&mut self, step: i32, tensor: impl Fn(&str) -> Result<Tensor>) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        self.step = step;
        for slot in &mut self.slots {
            slot.first.copy_(&tensor(&format!("first.{}", slot.name))?);
            slot.second.copy_(&tensor(&format!("second.{}", slot.name))?);
        }
        Ok(())
    }

    /// Gives the weights the values of `weights`, in the order of [`AdamW::weights`].
    pub fn set_weights(&mut self, weights: &[Tensor]) {
        let _no_grad = tch::no_grad_guard();
        for (slot, weight) in self.slots.iter_mut().zip(weights) {
            slot.master.copy_(weight);
            if slot.is_copy() {
                slot.parameter.copy_(weight);
            }
        }
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
        let mut optimizer =
            AdamW::new(vec![("w".into(), ours.shallow_clone())], AdamWSettings::with_decay(0.1));
        let store = tch::nn::VarStore::new(tch::Device::Cpu);
        let mut theirs = store.root().zeros("w", &[2, 2]);
        tch::no_grad(|| theirs.copy_(&start));
        let settings =
            tch::nn::AdamW { beta1: 0.9, beta2: 0.999, wd: 0.1, eps: 1e-8, amsgrad: false };
        let mut reference = tch::nn::OptimizerConfig::build(settings, &store, 1e-2).unwrap();
        for step in 0..20 {
            let target = Tensor::from_slice(&[1.0f32, 0.0, step as f32, -1.0]).view([2, 2]);
            reference.backward_step(&(&theirs - &target).square().sum(Kind::Float));
            optimizer.zero_gradients();
            (&ours - &target).square().sum(Kind::Float).backward();
            optimizer.finish_gradients(1.0, f64::INFINITY).unwrap();
            optimizer.step(1e-2).unwrap();
        }
        let difference = f64::try_from((&ours - &theirs).abs().max()).unwrap();
        assert!(difference < 1e-6, "{difference}");
        assert!(f64::try_from((&ours - &start).abs().max()).unwrap() > 1e-2);
    }

    #[test]
    fn a_factor_is_a_learning_rate_of_its_own() {
        let run = |rate: f64, factor: f64| {
            let parameters = [0, 1].map(|_| {
                Tensor::from_slice(&[0.5f32, -1.5, 2.0, 0.1]).view([2, 2]).set_requires_grad(true)
            });
            let named = ["body", "head"]
                .iter()
                .zip(&parameters)
                .map(|(name, parameter)| (name.to_string(), parameter.shallow_clone()));
            let mut optimizer = AdamW::new(named.collect(), AdamWSettings::with_decay(0.1))
                .with_learning_rate_factors(|name| if name == "head" { factor } else { 1.0 });
            for step in 0..5 {
                optimizer.zero_gradients();
                for parameter in &parameters {
                    (parameter - f64::from(step)).square().sum(Kind::Float).backward();
                }
                optimizer.step(rate).unwrap();
            }
            parameters.map(|parameter| Vec::<f32>::try_from(parameter.detach().view(-1)).unwrap())
        };
        let [body, head] = run(0.25, 4.0);
        assert_eq!(
            [&body, &head],
            [&run(0.25, 1.0)[1], &run(1.0, 1.0)[0]],
            "0.25 is a power of two, so the products are exact"
        );
        assert!(
            body.iter().zip(&head).all(|(body, head)| (body - head).abs() > 0.01),
            "{body:?} {head:?}"
        );
    }

    #[test]
    fn gradients_become_the_weighted_mean_and_are_clipped_by_norm() {
        let weight = Tensor::from_slice(&[3.0f32, 4.0]).set_requires_grad(true);
        let mut optimizer =
            AdamW::new(vec![("w".into(), weight.shallow_clone())], AdamWSettings::with_decay(0.0));
        (&weight * &weight).sum(Kind::Float).backward(); // gradient (6, 8), norm 10
        let norm = optimizer.finish_gradients(2.0, 1.0).unwrap();
        assert!((norm - 5.0).abs() < 1e-6, "{norm}");
        optimizer.step(0.0).unwrap();
        // The first moment is a tenth of the clipped gradient.
        let clipped = 10.0 * f64::try_from(optimizer.state().1[0].1.norm()).unwrap();
        assert!((clipped - 1.0).abs() < 1e-4, "{clipped}");
    }

    #[test]
    fn bf16_weights_follow_f32_masters_and_sum_gradients_in_f32() {
        let start = [1.0f32, -2.0, 0.5];
        let weight = Tensor::from_slice(&start).to_kind(Kind::BFloat16).set_requires_grad(true);
        let exact = Tensor::from_slice(&start).set_requires_grad(true);
        let settings = AdamWSettings::with_decay(0.0);
        let mut half = AdamW::new(vec![("w".into(), weight.shallow_clone())], settings);
        let mut full = AdamW::new(vec![("w".into(), exact.shallow_clone())], settings);
        // Steps of 1e-4 are lost on a bf16 number near 1 and must add up in the master; a sum of
        // 256 + 64 small gradients is lost in bf16.
        for _ in 0..100 {
            for (parameter, optimizer) in [(&weight, &mut half), (&exact, &mut full)] {
                optimizer.zero_gradients();
                for factor in std::iter::once(256.0).chain(std::iter::repeat_n(0.5, 64)) {
                    (parameter.sum(Kind::Float) * factor).backward();
                    optimizer.add_gradients().unwrap();
                }
                optimizer.finish_gradients(1.0, f64::INFINITY).unwrap();
                optimizer.step(1e-4).unwrap();
            }
        }
        let [masters, exact] = [&half, &full]
            .map(|optimizer| Vec::<f32>::try_from(&optimizer.weights()[0].1).unwrap());
        assert!(
            masters.iter().zip(&exact).all(|(a, b)| (a - b).abs() < 1e-6),
            "{masters:?} {exact:?}"
        );
        assert!((masters[0] - 0.99).abs() < 1e-4, "{masters:?}");
        let moments = [&half, &full]
            .map(|optimizer| Vec::<f32>::try_from(&optimizer.state().1[0].1).unwrap());
        assert_eq!(moments[0], moments[1]);
        assert!(weight.equal(&half.weights()[0].1.to_kind(Kind::BFloat16)));
    }
    #[test]
    fn a_step_of_one_micro_batch_after_steps_of_several_has_its_gradient() {
        let weights = |kind: Kind| {
            Tensor::from_slice(&[1.0f32, -2.0, 0.5]).to_kind(kind).set_requires_grad(true)
        };
        let trained = |kind: Kind| {
            let weight = weights(kind);
            let mut optimizer = AdamW::new(
                vec![("w".into(), weight.shallow_clone())],
                AdamWSettings::with_decay(0.0),
            );
            let norms = [2, 1, 3, 1].map(|micro_batches| {
                optimizer.zero_gradients();
                for micro_batch in 0..micro_batches {
                    (weight.sum(Kind::Float) * f64::from(micro_batch + 1)).backward();
                    if micro_batches > 1 {
                        optimizer.add_gradients().unwrap();
                    }
                }
                let norm = optimizer.finish_gradients(1.0, f64::INFINITY).unwrap();
                optimizer.step(1e-2).unwrap();
                norm / 3f64.sqrt()
            });
            (norms, Vec::<f32>::try_from(&optimizer.weights()[0].1).unwrap())
        };
        let (norms, half) = trained(Kind::BFloat16);
        assert!(
            norms
                .iter()
                .zip([3.0, 1.0, 6.0, 1.0])
                .all(|(found, expected)| (found - expected).abs() < 1e-6),
            "{norms:?}"
        );
        let (_, full) = trained(Kind::Float);
        assert!(half.iter().zip(&full).all(|(a, b)| (a - b).abs() < 1e-6), "{half:?} {full:?}");
    }
}
