//! What paired differences prove: tests of their mean and of wins against losses, the correction
//! for many comparisons, and the smallest effect that would show. Which comparisons are one family
//! is decided by those who ask.

use special::Beta;

use super::{mean, standard_error};

/// Standard normal quantiles 0.975 (two-sided 5 %) and 0.8 (power).
const Z_SIGNIFICANT: f64 = 1.959_963_984_540_054;
const Z_POWER: f64 = 0.841_621_233_572_914_3;

/// Two-sided p of the paired t-test that the mean difference is 0: t = mean / standard error with
/// n − 1 degrees of freedom. 1 where all differences are 0; `None` for fewer than two, and where
/// all are the same other number, so that there is no spread to measure by.
pub fn paired_t(differences: &[f64]) -> Option<f64> {
    if differences.len() < 2 {
        return None;
    }
    if differences.iter().all(|difference| *difference == 0.0) {
        return Some(1.0);
    }
    let freedom = (differences.len() - 1) as f64;
    let t = mean(differences) / standard_error(differences);
    // P(|T| > t) = I_x(ν/2, 1/2), x = ν / (ν + t²)
    t.is_finite().then(|| incomplete_beta(freedom / (freedom + t * t), freedom / 2.0, 0.5))
}

/// Two-sided p of the exact sign test, which is McNemar's: wins and losses are equally likely, ties
/// say nothing. 1 where there is neither.
pub fn sign_test(wins: usize, losses: usize) -> f64 {
    let fewer = wins.min(losses) as f64;
    let more = wins.max(losses) as f64;
    if fewer == more {
        return 1.0;
    }
    // P(X ≤ k) of n fair trials = I_{1/2}(n − k, k + 1)
    (2.0 * incomplete_beta(0.5, more, fewer + 1.0)).min(1.0)
}

/// Holm's step-down adjustment (1979) of one family: the k-th smallest of m is multiplied by
/// m − k + 1, at most 1 and at least the one before.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let (mut adjusted, mut highest) = (vec![0.0; p.len()], 0.0f64);
    for (place, i) in order.into_iter().enumerate() {
        highest = highest.max(((p.len() - place) as f64 * p[i]).min(1.0));
        adjusted[i] = highest;
    }
    adjusted
}

/// The difference that as many prompts would show in 80 of 100 experiments at a two-sided 5 %:
/// (z₀.₉₇₅ + z₀.₈) · standard error. `None` where the differences do not vary.
pub fn detectable(standard_error: f64) -> Option<f64> {
    (standard_error > 0.0).then_some((Z_SIGNIFICANT + Z_POWER) * standard_error)
}

/// The regularised incomplete beta function I_x(a, b).
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    x.inc_beta(a, b, a.ln_beta(b))
}
