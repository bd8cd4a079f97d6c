//! Generalised advantage estimation and what comes before it: rewards of tokens and their
//! whitening. Plain numbers on the host: a batch of rollouts is thousands of tokens, not millions.

/// Advantages and returns of the tokens of one response (arXiv 1506.02438, Eq. 16): δ_t = r_t + γ
/// V_{t+1} − V_t, A_t = Σ_l (γλ)^l δ_{t+l}, and the return A_t + V_t that the value is fitted to.
/// The response ends after its last token, so the value after it is 0; that holds for a response
/// that was cut as well, as in the reference implementations.
///
/// # Panics
/// If there are not as many values as rewards.
pub fn gae(rewards: &[f64], values: &[f32], gamma: f64, lambda: f64) -> (Vec<f32>, Vec<f32>) {
    assert_eq!(rewards.len(), values.len());
    let mut advantages = vec![0.0; rewards.len()];
    let (mut behind, mut next_value) = (0.0, 0.0);
    for t in (0..rewards.len()).rev() {
        let value = f64::from(values[t]);
        let delta = rewards[t] + gamma * next_value - value;
        behind = delta + gamma * lambda * behind;
        advantages[t] = behind as f32;
        next_value = value;
    }
    let returns =
        advantages.iter().zip(values).map(|(advantage, value)| advantage + value).collect();
    (advantages, returns)
}

/// Sums `rewards` over chunks of `chunk_len` tokens and pays each sum at its chunk's last token,
/// that of a last, partial chunk at the last token of all; `None` is one chunk (paper C.3).
///
/// # Panics
/// If `chunk_len` is 0.
pub fn pay_by_chunk(rewards: &[f64], chunk_len: Option<usize>) -> Vec<f64> {
    let mut paid = vec![0.0; rewards.len()];
    let length = chunk_len.unwrap_or(rewards.len().max(1));
    for (index, chunk) in rewards.chunks(length).enumerate() {
        paid[index * length + chunk.len() - 1] = chunk.iter().sum();
    }
    paid
}

/// Shifts and scales all numbers together to mean 0 and variance 1 (unbiased, with 1e-8 under the
/// root), in place. One number alone, or equal ones, become 0.
pub fn whiten<'a>(values: impl Iterator<Item = &'a mut f32>) {
    let mut values: Vec<&mut f32> = values.collect();
    let count = values.len() as f64;
    let mean = values.iter().map(|value| f64::from(**value)).sum::<f64>() / count.max(1.0);
    let variance = values.iter().map(|value| (f64::from(**value) - mean).powi(2)).sum::<f64>()
        / (count - 1.0).max(1.0);
    for value in &mut values {
        **value = ((f64::from(**value) - mean) / (variance + 1e-8).sqrt()) as f32;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, each advantage from scratch.
    fn by_definition(rewards: &[f64], values: &[f32], gamma: f64, lambda: f64) -> Vec<f64> {
        let value = |t: usize| values.get(t).map_or(0.0, |value| f64::from(*value));
        let delta = |t: usize| rewards[t] + gamma * value(t + 1) - value(t);
        (0..rewards.len())
            .map(|t| {
                (t..rewards.len()).map(|s| (gamma * lambda).powi((s - t) as i32) * delta(s)).sum()
            })
            .collect()
    }

    proptest! {
        #[test]
        fn advantages_are_those_of_the_definition(
            tokens in prop::collection::vec((-3.0..3.0f64, -3.0f32..3.0), 0..40),
            gamma in 0.5..1.0f64,
            lambda in 0.0..1.0f64,
        ) {
            let (rewards, values): (Vec<f64>, Vec<f32>) = tokens.into_iter().unzip();
            let (advantages, returns) = gae(&rewards, &values, gamma, lambda);
            let exact = by_definition(&rewards, &values, gamma, lambda);
            for (t, exact) in exact.into_iter().enumerate() {
                prop_assert!((f64::from(advantages[t]) - exact).abs() < 1e-4);
                prop_assert!((returns[t] - advantages[t] - values[t]).abs() < 1e-4);
            }
        }

        #[test]
        fn chunks_pay_the_whole_sum(
            rewards in prop::collection::vec(-3.0..3.0f64, 0..30),
            length in 1usize..12,
        ) {
            for chunk_len in [Some(length), None] {
                let paid = pay_by_chunk(&rewards, chunk_len);
                let difference = paid.iter().sum::<f64>() - rewards.iter().sum::<f64>();
                prop_assert!(difference.abs() < 1e-12);
                let is_due = |t: usize| {
                    t + 1 == rewards.len()
                        || chunk_len.is_some_and(|length| (t + 1).is_multiple_of(length))
                };
                prop_assert!(paid.iter().enumerate().all(|(t, &paid)| paid == 0.0 || is_due(t)));
            }
        }
    }

    #[test]
    fn by_hand() {
        // γ = 0.5, λ = 0.5: δ = (1 + 0.5·2 − 1, 0 + 0.5·4 − 2, 2 − 4) = (1, 0, −2); A_2 = −2, A_1 =
        // −0.5, A_0 = 0.875.
        let (advantages, returns) = gae(&[1.0, 0.0, 2.0], &[1.0, 2.0, 4.0], 0.5, 0.5);
        assert_eq!(advantages, [0.875, -0.5, -2.0]);
        assert_eq!(returns, [1.875, 1.5, 2.0]);
        assert_eq!(pay_by_chunk(&[1.0, 2.0, 3.0, 4.0, 5.0], Some(2)), [0.0, 3.0, 0.0, 7.0, 5.0]);
        assert_eq!(pay_by_chunk(&[1.0, 2.0, 3.0], None), [0.0, 0.0, 6.0]);
        let mut values = [1.0, 2.0, 3.0];
        whiten(values.iter_mut());
        assert_eq!(values, [-1.0, 0.0, 1.0]);
        let mut same = [4.0, 4.0];
        whiten(same.iter_mut());
        assert_eq!(same, [0.0, 0.0]);
    }
}
