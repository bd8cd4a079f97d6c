//! The loss of a reward model.

use tch::{Kind, Tensor};

/// Both (pairs); `accuracies` is 1 where the chosen response has the strictly higher reward, else
/// 0. f32, detached.
pub struct BradleyTerryOutput {
    pub losses: Tensor,
    pub accuracies: Tensor,
}

/// −log σ(r(chosen) − r(rejected)), the negative log-likelihood of the Bradley–Terry model: Eq. 1
/// of arXiv:2203.02155, Eq. 2 of arXiv:2305.18290. `chosen` and `rejected` are rewards, (pairs) of
/// one float kind, in which the losses are too.
pub fn bradley_terry(chosen: &Tensor, rejected: &Tensor) -> BradleyTerryOutput {
    let margins = chosen - rejected;
    BradleyTerryOutput {
        losses: -margins.log_sigmoid(),
        accuracies: margins.detach().gt(0.0).to_kind(Kind::Float),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand_and_by_finite_differences() {
        let rejected = Tensor::from_slice(&[0.5, 2.0, -1.0, -50.0]);
        let rewards = [2.5, 2.0, -3.0, 50.0];
        let losses = |rewards: &[f64]| {
            Vec::<f64>::try_from(bradley_terry(&Tensor::from_slice(rewards), &rejected).losses)
                .unwrap()
        };
        let chosen = Tensor::from_slice(&rewards).set_requires_grad(true);
        let output = bradley_terry(&chosen, &rejected);
        output.losses.sum(Kind::Double).backward();
        // Margins 2, 0, −2 and 100.
        let expected = [(-2f64).exp().ln_1p(), 2f64.ln(), 2f64.exp().ln_1p(), 0.0];
        assert!(
            losses(&rewards)
                .iter()
                .zip(expected)
                .all(|(loss, expected)| (loss - expected).abs() < 1e-12)
        );
        assert_eq!(
            Vec::<f32>::try_from(&output.accuracies).unwrap(),
            [1.0, 0.0, 0.0, 1.0],
            "a tie is no success"
        );
        let gradients = Vec::<f64>::try_from(chosen.grad()).unwrap();
        let (above, below) = (
            losses(&rewards.map(|reward| reward + 1e-5)),
            losses(&rewards.map(|reward| reward - 1e-5)),
        );
        for (pair, gradient) in gradients.iter().enumerate() {
            let numeric = (above[pair] - below[pair]) / 2e-5;
            assert!((gradient - numeric).abs() < 1e-8, "{gradient} against {numeric}");
        }
        assert!(
            gradients[2] < -0.8 && gradients[3] > -1e-6,
            "what is ordered wrongly is what moves: {gradients:?}"
        );
    }
}
