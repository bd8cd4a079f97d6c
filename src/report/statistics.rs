//! Means and their errors.

use std::collections::HashSet;

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Sample standard deviation; 0 for fewer than two values.
pub fn standard_deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let mean = mean(values);
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt()
}

/// Standard error of the mean of independent values.
pub fn standard_error(values: &[f64]) -> f64 {
    standard_deviation(values) / (values.len() as f64).sqrt()
}

/// Distinct word bigrams over all word bigrams of all texts (Li et al. 2016); 0 where there is none.
pub fn distinct_2<'a>(texts: impl Iterator<Item = &'a str>) -> f64 {
    let mut seen = HashSet::new();
    let mut total = 0usize;
    for text in texts {
        let words: Vec<&str> = text.split_whitespace().collect();
        for bigram in words.windows(2) {
            total += 1;
            seen.insert((bigram[0], bigram[1]));
        }
    }
    if total == 0 { 0.0 } else { seen.len() as f64 / total as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let values = [1.0, 2.0, 3.0, 6.0];
        assert_eq!(mean(&values), 3.0);
        assert!((standard_deviation(&values) - (14.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert!((standard_error(&values) - (14.0f64 / 12.0).sqrt()).abs() < 1e-12);
        assert_eq!(distinct_2(["a b a b", "b a"].into_iter()), 0.5); // ab ba ab ba: 2 of 4
    }
}
