//! Cross-entropy of a classifier. Padding and pooling are the models'.

use tch::{Kind, Tensor};

/// Both (texts) f32; `accuracies` is 1 where the arg-max is the label.
pub struct ClassificationOutput {
    pub losses: Tensor,
    pub accuracies: Tensor,
}

/// −log softmax(logits)[label]; `logits` (texts, labels), `labels` (texts) i64.
pub fn classification(logits: &Tensor, labels: &Tensor) -> ClassificationOutput {
    let losses = -super::token_logps(logits, labels);
    let accuracies = logits.argmax(-1, false).eq_tensor(labels).to_kind(Kind::Float);
    ClassificationOutput { losses, accuracies }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let logits = Tensor::from_slice(&[0.0f32, 3f32.ln(), 2.0, -1.0]).view([2, 2]);
        let output = classification(&logits, &Tensor::from_slice(&[1i64, 1]));
        let losses = Vec::<f32>::try_from(output.losses).unwrap();
        assert!(
            (losses[0] + 0.75f32.ln()).abs() < 1e-6
                && (losses[1] - (3.0 + (-3f32).exp().ln_1p())).abs() < 1e-5,
            "{losses:?}"
        );
        assert_eq!(Vec::<f32>::try_from(output.accuracies).unwrap(), [1.0, 0.0]);
    }
}
