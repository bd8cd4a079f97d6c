//! Log-probabilities of tokens under a causal language model.

use tch::{Kind, Tensor};

/// log p(target) = logit(target) − logsumexp(logits), in f32.
///
/// `logits` (positions, vocab) of any float kind, `targets` (positions) i64; returns (positions)
/// f32. The negative of its sum is the cross-entropy.
pub fn token_logps(logits: &Tensor, targets: &Tensor) -> Tensor {
    let logits = logits.to_kind(Kind::Float);
    logits.gather(-1, &targets.unsqueeze(-1), false).squeeze_dim(-1) - logits.logsumexp([-1], false)
}

/// Sums `values` (positions) f32 over the positions of each row; `rows` (positions) i64 holds row
/// numbers below `count`. Returns (count).
pub fn sum_by_row(values: &Tensor, rows: &Tensor, count: i64) -> Tensor {
    Tensor::zeros([count], (Kind::Float, values.device())).index_add(0, rows, values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logps_by_hand() {
        // softmax of (0, ln 3) is (1/4, 3/4)
        let logits = Tensor::from_slice(&[0.0f32, 3f32.ln(), 3f32.ln(), 0.0]).view([2, 2]);
        let logps =
            Vec::<f32>::try_from(token_logps(&logits, &Tensor::from_slice(&[1i64, 1]))).unwrap();
        assert!(
            (logps[0] - 0.75f32.ln()).abs() < 1e-6 && (logps[1] - 0.25f32.ln()).abs() < 1e-6,
            "{logps:?}"
        );
        let summed = sum_by_row(
            &Tensor::from_slice(&[1.0f32, 2.0, 4.0]),
            &Tensor::from_slice(&[0i64, 2, 0]),
            3,
        );
        assert_eq!(Vec::<f32>::try_from(summed).unwrap(), [5.0, 0.0, 2.0]);
    }
}
