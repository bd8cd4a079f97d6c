//! First values of new models, drawn from our own random stream: the same seed gives the same model
//! whatever else libtorch has drawn. Which value a variable starts from is the config's word.

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use tch::Tensor;

use crate::error::Result;

/// How one variable starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fill {
    Zeros,
    Ones,
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
}

/// Fills the variables in the order of their names from one stream seeded by `seed`.
pub fn fill(
    variables: &BTreeMap<String, Tensor>,
    seed: u64,
    rule: impl Fn(&str) -> Fill,
) -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    let mut normals = Normals::new(seed);
    for (name, variable) in variables {
        let mut variable = variable.shallow_clone();
        match rule(name) {
            Fill::Zeros => drop(variable.f_zero_()?),
            Fill::Ones => drop(variable.f_fill_(1.0)?),
            Fill::Normal(deviation) => {
                let values: Vec<f32> =
                    (0..variable.numel()).map(|_| (deviation * normals.next()) as f32).collect();
                variable
                    .f_copy_(&Tensor::f_from_slice(&values)?.f_view(variable.size().as_slice())?)?;
            }
        }
    }
    Ok(())
}

/// Standard normal numbers by the Box-Muller transform, which makes them in pairs.
struct Normals {
    random: ChaCha8Rng,
    spare: Option<f64>,
}

impl Normals {
    fn new(seed: u64) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), spare: None }
    }

    fn next(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let above_zero = 1.0 - self.random.random::<f64>(); // (0, 1]: its logarithm is finite
        let radius = (-2.0 * above_zero.ln()).sqrt();
        let (sine, cosine) = (TAU * self.random.random::<f64>()).sin_cos();
        self.spare = Some(radius * sine);
        radius * cosine
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn normals_have_the_moments_of_a_normal() {
        let mut normals = Normals::new(7);
        let drawn: Vec<f64> = (0..200_000).map(|_| normals.next()).collect();
        let moment = |power| drawn.iter().map(|x| x.powi(power)).sum::<f64>() / drawn.len() as f64;
        let lag = drawn.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / drawn.len() as f64;
        // Four standard errors: sqrt(1, 2, 15, 96, 1) / sqrt(200,000).
        for (found, expected, tolerance) in [
            (moment(1), 0.0, 0.009),
            (moment(2), 1.0, 0.013),
            (moment(3), 0.0, 0.035),
            (moment(4), 3.0, 0.09),
            (lag, 0.0, 0.009),
        ] {
            assert!((found - expected).abs() < tolerance, "{found} is not {expected}");
        }
    }

    #[test]
    fn the_seed_and_nothing_else_decides() {
        let drawn = |seed| {
            let variables = BTreeMap::from([(
                "w".to_owned(),
                Tensor::zeros([3, 5], (Kind::Float, Device::Cpu)),
            )]);
            fill(&variables, seed, |_| Fill::Normal(0.02)).unwrap();
            let _unrelated = Tensor::randn([4], (Kind::Float, Device::Cpu));
            Vec::<f32>::try_from(variables["w"].view(-1)).unwrap()
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }
}
