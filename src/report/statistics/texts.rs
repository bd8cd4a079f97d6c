//! How much texts repeat themselves and each other, in words between white space.

use std::collections::HashSet;

/// Distinct runs of `n` words over all runs of `n` words of all texts (distinct-n, Li et al. 2016);
/// 0 where there is none.
pub fn distinct<'a>(n: usize, texts: impl Iterator<Item = &'a str>) -> f64 {
    let mut seen = HashSet::new();
    let mut total = 0usize;
    for text in texts {
        let words: Vec<&str> = text.split_whitespace().collect();
        for run in words.windows(n) {
            total += 1;
            seen.insert(run.to_vec());
        }
    }
    if total == 0 { 0.0 } else { seen.len() as f64 / total as f64 }
}

/// The share of a text's runs of `n` words that it has said before (seq-rep-n, Welleck et al.
/// 2020): 1 − distinct / all; 0 where there is none.
pub fn repetition(n: usize, text: &str) -> f64 {
    let words: Vec<&str> = text.split_whitespace().collect();
    let total = words.windows(n).len();
    let distinct = words.windows(n).collect::<HashSet<_>>().len();
    if total == 0 { 0.0 } else { 1.0 - distinct as f64 / total as f64 }
}
