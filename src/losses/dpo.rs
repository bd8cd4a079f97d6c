//! Direct preference optimisation.

use tch::{Kind, Tensor};

/// All (pairs) f32; everything but `losses` is detached.
pub struct DpoOutput {
    pub losses: Tensor,
    pub chosen_rewards: Tensor,
    pub rejected_rewards: Tensor,
    /// 1 where the chosen response has the strictly higher reward, else 0: a tie is no success.
    pub accuracies: Tensor,
}

/// Eq. 7 of arXiv:2305.18290: −log σ(β (log π(y_w|x)/π_ref(y_w|x) − log π(y_l|x)/π_ref(y_l|x))), and the rewards β log π/π_ref.
///
/// The four log-probabilities are sums over the response tokens, (pairs) f32; `beta` is commonly 0.1 to 0.5.
pub fn dpo(
    policy_chosen: &Tensor,
    policy_rejected: &Tensor,
    reference_chosen: &Tensor,
    reference_rejected: &Tensor,
    beta: f64,
) -> DpoOutput {
    let chosen = (policy_chosen - reference_chosen) * beta;
    let rejected = (policy_rejected - reference_rejected) * beta;
    let losses = -(&chosen - &rejected).log_sigmoid();
    let (chosen_rewards, rejected_rewards) = (chosen.detach(), rejected.detach());
    let accuracies = chosen_rewards.gt_tensor(&rejected_rewards).to_kind(Kind::Float);
    DpoOutput { losses, chosen_rewards, rejected_rewards, accuracies }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor).unwrap()
    }

    #[test]
    fn equal_models_give_ln_two_and_no_success() {
        let logps = Tensor::from_slice(&[-3.0f32, -7.5]);
        let output = dpo(&logps, &logps, &logps, &logps, 0.1);
        assert!(values(&output.losses).iter().all(|loss| (loss - 2f32.ln()).abs() < 1e-6));
        assert_eq!(values(&output.accuracies), [0.0, 0.0]);
    }

    #[test]
    fn a_pair_by_hand_and_its_gradient_by_finite_differences() {
        let at = |chosen: f32| {
            let chosen = Tensor::from_slice(&[chosen]).set_requires_grad(true);
            let [rejected, ref_chosen, ref_rejected] = [-4.0f32, -3.0, -3.5].map(|logp| Tensor::from_slice(&[logp]));
            let output = dpo(&chosen, &rejected, &ref_chosen, &ref_rejected, 0.5);
            output.losses.sum(Kind::Float).backward();
            (values(&output.losses)[0], values(&chosen.grad())[0], values(&output.chosen_rewards)[0], values(&output.rejected_rewards)[0])
        };
        // margin = 0.5 ((-2 + 3) − (-4 + 3.5)) = 0.75
        let (loss, gradient, chosen, rejected) = at(-2.0);
        assert!((loss - (1.0 + (-0.75f32).exp()).ln()).abs() < 1e-6, "{loss}");
        assert!((chosen - 0.5).abs() < 1e-6 && (rejected + 0.25).abs() < 1e-6);
        let numeric = (at(-2.0 + 1e-2).0 - at(-2.0 - 1e-2).0) / 2e-2;
        assert!((gradient - numeric).abs() < 1e-3 && gradient < -0.1, "{gradient} against {numeric}");
    }
}
