//! How far a policy is from its reference, by log-probabilities of tokens. How PPO charges it is in
//! `ppo.rs`.

use tch::Tensor;

/// exp(d) − 1 − d with d = log π − log π_ref of each token: the estimator "k3" of KL(π_ref ‖ π),
/// never negative (J. Schulman, "Approximating KL Divergence", 2020).
///
/// Its mean is the divergence where the tokens are the reference's own samples, as preference pairs
/// mostly are or nearly; on other texts it is a measure of distance. `policy` and `reference` are
/// log-probabilities of the same tokens, (tokens) of one float kind; returns (tokens).
pub fn kl(policy: &Tensor, reference: &Tensor) -> Tensor {
    let difference = policy - reference;
    difference.expm1() - difference
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    #[test]
    fn its_mean_over_the_references_samples_is_the_divergence() {
        let (policy, reference) = ([0.5f64, 0.3, 0.2], [0.25, 0.25, 0.5]);
        let estimates =
            kl(&Tensor::from_slice(&policy).log(), &Tensor::from_slice(&reference).log());
        let mean =
            (&estimates * Tensor::from_slice(&reference)).sum(Kind::Double).double_value(&[]);
        let exact: f64 = policy.iter().zip(reference).map(|(p, q)| q * (q / p).ln()).sum();
        assert!((mean - exact).abs() < 1e-12 && exact > 0.1, "{mean} against {exact}");
        assert!((estimates.double_value(&[0]) - (2.0 - 1.0 - 2f64.ln())).abs() < 1e-12);
        assert!(Vec::<f64>::try_from(&estimates).unwrap().iter().all(|estimate| *estimate > 0.0));
    }

    #[test]
    fn small_differences_keep_their_digits() {
        let estimate = kl(&Tensor::from_slice(&[-1.0]), &Tensor::from_slice(&[-1.0 + 1e-4]))
            .double_value(&[0]);
        assert!((estimate / 5e-9 - 1.0).abs() < 1e-4, "{estimate}");
    }
}
