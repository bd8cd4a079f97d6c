//! What scipy, statsmodels and numpy make of the same numbers: tests/golden/statistics.py.

use serde::Deserialize;

use super::super::{Resampled, detectable, holm, paired_t, sign_test, standard_error};

#[derive(Deserialize)]
struct Golden {
    pairs: Vec<Pair>,
    families: Vec<Family>,
    signs: Vec<Signs>,
}

#[derive(Deserialize)]
struct Pair {
    a: Vec<f64>,
    b: Vec<f64>,
    bootstrap95: [f64; 2],
    scipy_bootstrap95: [f64; 2],
    difference_bootstrap95: [f64; 2],
    scipy_difference_bootstrap95: [f64; 2],
    p: f64,
    wins: usize,
    losses: usize,
    p_wins: f64,
    p_mcnemar: f64,
    standard_error: f64,
    detectable: f64,
}

#[derive(Deserialize)]
struct Family {
    p: Vec<f64>,
    holm: Vec<f64>,
}

#[derive(Deserialize)]
struct Signs {
    wins: usize,
    losses: usize,
    p_wins: f64,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../../tests/golden/statistics.json")).unwrap()
}

/// By how much of `expected` it differs.
fn error(ours: f64, expected: f64) -> f64 {
    (ours - expected).abs() / expected.abs().max(f64::MIN_POSITIVE)
}

fn within(ours: [f64; 2], expected: [f64; 2]) -> f64 {
    (0..2).map(|i| (ours[i] - expected[i]).abs()).fold(0.0, f64::max)
}

#[test]
fn tests_and_corrections_are_those_of_scipy_and_statsmodels() {
    let golden = golden();
    assert_eq!((golden.pairs.len(), golden.families.len(), golden.signs.len()), (8, 5, 6));
    for pair in &golden.pairs {
        let differences: Vec<f64> = pair.a.iter().zip(&pair.b).map(|(a, b)| a - b).collect();
        let count = |is: fn(&f64) -> bool| differences.iter().filter(|value| is(value)).count();
        let (wins, losses) = (count(|value| *value > 0.0), count(|value| *value < 0.0));
        assert_eq!((wins, losses), (pair.wins, pair.losses));
        let spread = standard_error(&differences);
        for (ours, expected) in [
            (paired_t(&differences).unwrap(), pair.p),
            (sign_test(wins, losses), pair.p_wins),
            (sign_test(wins, losses), pair.p_mcnemar),
            (spread, pair.standard_error),
            (detectable(spread).unwrap(), pair.detectable),
        ] {
            let n = differences.len();
            assert!(error(ours, expected) < 1e-10, "{n} prompts: {ours} for {expected}");
            assert!(error(ours * (1.0 + 1e-8), expected) > 1e-10);
        }
    }
    for signs in &golden.signs {
        let ours = sign_test(signs.wins, signs.losses);
        assert!(error(ours, signs.p_wins) < 1e-10, "{ours} for {}", signs.p_wins);
    }
    for family in &golden.families {
        let ours = holm(&family.p);
        assert_eq!(ours.len(), family.holm.len());
        for (ours, expected) in ours.iter().zip(&family.holm) {
            assert!(error(*ours, *expected) < 1e-12, "{ours} for {expected}");
        }
    }
}

#[test]
fn intervals_are_numpys_of_the_same_draws_and_nearly_scipys_of_others() {
    for pair in &golden().pairs {
        let [a, b] = [&pair.a, &pair.b].map(|values| Resampled::of(values).unwrap());
        let differences: Vec<f64> = pair.a.iter().zip(&pair.b).map(|(a, b)| a - b).collect();
        let directly = Resampled::of(&differences).unwrap().interval().unwrap();
        let difference = a.minus(&b).interval().unwrap();
        let ours = a.interval().unwrap();
        assert!(within(ours, pair.bootstrap95) < 1e-12, "{ours:?}");
        assert!(within(difference, pair.difference_bootstrap95) < 1e-12, "{difference:?}");
        assert!(within(difference, directly) < 1e-12, "{difference:?} {directly:?}");
        // Ten thousand other draws: bounds differ by a few percent of the interval's width.
        for (ours, scipy) in
            [(ours, pair.scipy_bootstrap95), (difference, pair.scipy_difference_bootstrap95)]
        {
            let width = scipy[1] - scipy[0];
            assert!(within(ours, scipy) < 0.04 * width, "{ours:?} {scipy:?}");
            assert!(within([ours[0] - 0.08 * width, ours[1]], scipy) > 0.04 * width);
        }
    }
}
