//! Means and their errors. Which numbers go together is decided by those who ask.

mod bootstrap;
mod paired;
mod texts;

pub use bootstrap::Resampled;
pub use paired::{detectable, holm, paired_t, sign_test};
pub use texts::{distinct, repetition};

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Sample standard deviation; 0 for fewer than two values.
pub fn standard_deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let mean = mean(values);
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64)
        .sqrt()
}

/// Standard error of the mean of independent values.
pub fn standard_error(values: &[f64]) -> f64 {
    standard_deviation(values) / (values.len() as f64).sqrt()
}

/// Wilson's score interval of a `share` of `count` trials, lowest and highest; `z` is the normal
/// quantile of its level.
pub fn wilson(share: f64, count: usize, z: f64) -> [f64; 2] {
    let n = count as f64;
    let spread = z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    let (middle, scale) = (share + z * z / (2.0 * n), 1.0 + z * z / n);
    [(middle - spread) / scale, (middle + spread) / scale]
}

/// The `p`-quantile of sorted values, on a straight line between neighbours; `None` of none.
pub fn quantile(sorted: &[f64], p: f64) -> Option<f64> {
    let place = p * (sorted.len().checked_sub(1)?) as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(low + (high - low) * place.fract())
}

/// Pearson's r of two series of one length; `None` where one of them does not vary.
pub fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let (mean_a, mean_b) = (mean(a), mean(b));
    let sum = |term: &dyn Fn(f64, f64) -> f64| {
        a.iter().zip(b).map(|(a, b)| term(a - mean_a, b - mean_b)).sum::<f64>()
    };
    let scale = (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt();
    (scale > 0.0).then(|| sum(&|a, b| a * b) / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    mod golden;

    #[test]
    fn by_hand() {
        let values = [1.0, 2.0, 3.0, 6.0];
        assert_eq!(mean(&values), 3.0);
        assert!((standard_deviation(&values) - (14.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert!((standard_error(&values) - (14.0f64 / 12.0).sqrt()).abs() < 1e-12);
        assert_eq!(
            (quantile(&[], 0.5), quantile(&[7.0], 0.9), quantile(&values, 0.5)),
            (None, Some(7.0), Some(2.5))
        );
        assert_eq!((quantile(&values, 0.0), quantile(&values, 1.0)), (Some(1.0), Some(6.0)));
        assert!((correlation(&values, &[-2.0, -4.0, -6.0, -12.0]).unwrap() + 1.0).abs() < 1e-12);
        assert_eq!(correlation(&values, &[1.0; 4]), None);
        assert_eq!(distinct(2, ["a b a b", "b a"].into_iter()), 0.5); // ab ba ab ba: 2 of 4
        // ab bc ca ab bc: 3 of 5
        assert!((repetition(2, " a b c\na b c ") - 0.4).abs() < 1e-12);
        assert_eq!(
            (repetition(4, "a b c"), repetition(1, "a b"), repetition(4, "")),
            (0.0, 0.0, 0.0)
        );
    }

    #[test]
    fn too_little_to_test_has_an_answer() {
        assert_eq!(
            (paired_t(&[]), paired_t(&[1.0]), paired_t(&[2.0, 2.0, 2.0])),
            (None, None, None)
        );
        assert_eq!((paired_t(&[0.0, 0.0]), paired_t(&[1.0, -1.0])), (Some(1.0), Some(1.0)));
        assert_eq!((sign_test(0, 0), sign_test(3, 3), sign_test(1, 0)), (1.0, 1.0, 1.0));
        assert_eq!((detectable(0.0), holm(&[]), holm(&[0.9, 0.8])), (None, vec![], vec![1.0, 1.0]));
        assert!(Resampled::of(&[]).is_none() && Resampled::of(&[1.0]).is_none());
        assert_eq!(Resampled::of(&[0.5; 3]).and_then(Resampled::interval), Some([0.5, 0.5]));
    }
}
