//! How far a policy is from its reference, by log-probabilities of tokens. How PPO charges it is in
//! `ppo.rs`.

use tch::{Kind, Tensor};

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

/// KL(π ‖ π_ref) = Σ_v π(v) (log π(v) − log π_ref(v)) of whole distributions, in nats.
///
/// `policy` and `reference` are log-probabilities of all tokens v, (rows, vocab) of one float kind;
/// returns (rows) f64. A token that the policy never says adds nothing. Rounding may leave a little
/// less than 0 between equal distributions; that is 0.
pub fn divergence(policy: &Tensor, reference: &Tensor) -> Tensor {
    let (weights, difference) = (policy.exp(), policy - reference);
    let never = weights.eq(0.0);
    let terms = (weights * difference).masked_fill(&never, 0.0);
    terms.sum_dim_intlist(-1, false, Kind::Double).clamp_min(0.0)
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_divergence_by_hand() {
        let of = |policy: [f64; 2], reference: [f64; 2]| {
            let [policy, reference] =
                [policy, reference].map(|of| Tensor::from_slice(&of).log().unsqueeze(0));
            divergence(&policy, &reference).double_value(&[0])
        };
        let expected = 0.75 * 3f64.ln() + 0.25 * (1.0f64 / 3.0).ln();
        assert!((of([0.75, 0.25], [0.25, 0.75]) - expected).abs() < 1e-12);
        assert_eq!(of([0.3, 0.7], [0.3, 0.7]), 0.0);
        // What is never said costs nothing, whatever the reference thinks of it.
        assert!((of([1.0, 0.0], [0.5, 0.5]) - 2f64.ln()).abs() < 1e-12);
        assert_eq!(of([1.0, 0.0], [1.0, 0.0]), 0.0);
        assert_eq!(of([0.5, 0.5], [1.0, 0.0]), f64::INFINITY);
    }
}
