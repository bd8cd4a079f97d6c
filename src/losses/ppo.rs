//! Proximal policy optimisation: the clipped losses, and estimates of the divergence from a
//! reference.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// All (tokens) f32; everything but `losses` is detached.
pub struct ClippedLoss {
    pub losses: Tensor,
    /// 1 where the clipped branch is the larger one, so that no gradient flows.
    pub clipped: Tensor,
}

/// Eq. 7 of arXiv 1707.06347 as a loss: max(−A ρ, −A clip(ρ, 1 − ε, 1 + ε)) with ρ = exp(log π −
/// log π_old) of each token.
///
/// All (tokens) f32; `old_logps` and `advantages` without gradient, `clip` is ε.
pub fn ppo_policy(
    logps: &Tensor,
    old_logps: &Tensor,
    advantages: &Tensor,
    clip: f64,
) -> ClippedLoss {
    let ratio = (logps - old_logps).exp();
    let (plain, clipped) =
        (-(advantages * &ratio), -(advantages * ratio.clamp(1.0 - clip, 1.0 + clip)));
    larger(plain, &clipped)
}

/// ½ max((V − R)², (V_clip − R)²) with V_clip = V_old + clip(V − V_old, −ε, ε): the value moves no
/// further than the policy does.
///
/// All (tokens) f32; `old_values` and `returns` without gradient.
pub fn ppo_value(values: &Tensor, old_values: &Tensor, returns: &Tensor, clip: f64) -> ClippedLoss {
    let near = old_values + (values - old_values).clamp(-clip, clip);
    larger((values - returns).square() * 0.5, &((near - returns).square() * 0.5))
}

fn larger(plain: Tensor, clipped: &Tensor) -> ClippedLoss {
    let which = clipped.gt_tensor(&plain).to_kind(Kind::Float).detach();
    ClippedLoss { losses: plain.maximum(clipped), clipped: which }
}

/// ½ (log π − log π_old)² of each token: about the divergence of the policy from the one that
/// sampled, as long as both are near.
pub fn approx_kl(logps: &Tensor, old_logps: &Tensor) -> Tensor {
    (logps - old_logps).square() * 0.5
}

/// Estimates of KL(π ‖ π_ref) from tokens drawn from π (J. Schulman, "Approximating KL divergence",
/// 2020).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KlEstimator {
    /// log π − log π_ref: unbiased, of either sign.
    #[default]
    K1,
    /// π_ref/π − 1 − log(π_ref/π): unbiased, never negative, of less variance.
    K3,
}

impl KlEstimator {
    /// The estimate from one token.
    pub fn estimate(self, logp: f32, reference: f32) -> f32 {
        let difference = reference - logp;
        match self {
            Self::K1 => -difference,
            Self::K3 => difference.exp_m1() - difference,
        }
    }
}

/// The KL coefficient after a step of `samples` rollouts whose measured divergence is `kl` nats per
/// response (arXiv 1909.08593, section 2.2): β (1 + e · samples / horizon) with e = clip(kl /
/// target − 1, −0.2, 0.2), so that it rises while the policy is further away than `target`.
pub fn adapt_kl_coefficient(
    coefficient: f64,
    kl: f64,
    target: f64,
    horizon: f64,
    samples: usize,
) -> f64 {
    let error = (kl / target - 1.0).clamp(-0.2, 0.2);
    coefficient * (1.0 + error * samples as f64 / horizon)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor).unwrap()
    }

    fn tensor(values: &[f32]) -> Tensor {
        Tensor::from_slice(values)
    }

    #[test]
    fn the_policy_loss_by_hand() {
        // ρ = 1.5 and 0.5, each with A = 1 and −1, at ε = 0.2.
        let logps =
            tensor(&[1.5f32.ln(), 1.5f32.ln(), 0.5f32.ln(), 0.5f32.ln()]).set_requires_grad(true);
        let output = ppo_policy(&logps, &tensor(&[0.0; 4]), &tensor(&[1.0, -1.0, 1.0, -1.0]), 0.2);
        let expected = [-1.2, 1.5, -0.5, 0.8];
        assert!(
            values(&output.losses)
                .iter()
                .zip(expected)
                .all(|(found, exact)| (found - exact).abs() < 1e-6),
            "{:?}",
            values(&output.losses)
        );
        assert_eq!(values(&output.clipped), [1.0, 0.0, 0.0, 1.0]);
        output.losses.sum(Kind::Float).backward();
        // Where the clipped branch counts nothing is learned; else the gradient is −A ρ.
        let gradient = values(&logps.grad());
        assert!(
            [0.0, 1.5, -0.5, 0.0]
                .iter()
                .zip(&gradient)
                .all(|(exact, found)| (found - exact).abs() < 1e-6),
            "{gradient:?}"
        );
    }

    #[test]
    fn at_the_old_policy_the_ratio_is_one_and_the_gradient_the_advantage() {
        let logps = tensor(&[-0.3, -2.0]).set_requires_grad(true);
        let output = ppo_policy(&logps, &logps.detach(), &tensor(&[0.7, -1.1]), 0.2);
        assert_eq!(values(&output.losses), [-0.7, 1.1]);
        output.losses.sum(Kind::Float).backward();
        assert_eq!(values(&logps.grad()), [-0.7, 1.1]);
    }

    #[test]
    fn the_value_loss_by_hand() {
        // Return 1, old value 0, ε 0.2: at V = 0.5 the clipped 0.2 is further away; at V = −0.5 it
        // is the nearer one.
        let output =
            ppo_value(&tensor(&[0.5, -0.5, 0.1]), &tensor(&[0.0; 3]), &tensor(&[1.0; 3]), 0.2);
        let expected = [0.5 * 0.8f32.powi(2), 0.5 * 1.5f32.powi(2), 0.5 * 0.9f32.powi(2)];
        assert!(
            values(&output.losses)
                .iter()
                .zip(expected)
                .all(|(found, exact)| (found - exact).abs() < 1e-6),
            "{:?}",
            values(&output.losses)
        );
        assert_eq!(values(&output.clipped), [1.0, 0.0, 0.0]);
    }

    #[test]
    fn both_estimators_have_the_divergence_as_their_mean() {
        // π = (0.7, 0.3), π_ref = (0.5, 0.5).
        let (policy, reference) = ([0.7f32, 0.3], [0.5f32, 0.5]);
        let exact: f32 = policy.iter().zip(reference).map(|(p, r)| p * (p / r).ln()).sum();
        for estimator in [KlEstimator::K1, KlEstimator::K3] {
            let mean: f32 = policy
                .iter()
                .zip(reference)
                .map(|(p, r)| p * estimator.estimate(p.ln(), r.ln()))
                .sum();
            assert!((mean - exact).abs() < 1e-6, "{estimator:?}: {mean} {exact}");
        }
        assert!(
            KlEstimator::K3.estimate(0.3f32.ln(), 0.5f32.ln()) > 0.0
                && KlEstimator::K1.estimate(0.3f32.ln(), 0.5f32.ln()) < 0.0
        );
    }

    #[test]
    fn the_kl_coefficient_follows_its_target() {
        let adapt = |kl| adapt_kl_coefficient(0.2, kl, 6.0, 100.0, 50);
        assert_eq!(adapt(6.0), 0.2);
        // A tenth above the target over half a horizon; further off than a fifth counts as a fifth.
        for (kl, expected) in [(6.6, 0.21), (60.0, 0.22), (0.0, 0.18), (-1.0, 0.18)] {
            assert!((adapt(kl) - expected).abs() < 1e-12, "{kl}: {}", adapt(kl));
        }
    }
}
