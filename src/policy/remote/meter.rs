//! What a progress line says of a server.

use crate::http::{Budget, Stats};

/// What a progress line says of requests.
pub fn meter_words(stats: &Stats, budget: &Budget) -> String {
    let used = stats.used.and(stats.perhaps).total();
    let mut words = format!("{} of {} requests under way", stats.in_flight, stats.allowed);
    if stats.seconds > 0.0 {
        let rate = stats.used.completion as f64 / stats.seconds;
        words.push_str(&format!(", {rate:.0} tokens/s"));
    }
    match budget.tokens {
        Some(most) => words.push_str(&format!(", {used} of {most} tokens")),
        None => words.push_str(&format!(", {used} tokens")),
    }
    if stats.cost > 0.0 {
        words.push_str(&format!(", {:.4} spent", stats.cost));
    }
    let retries: u64 = stats.retries.values().sum();
    if retries > 0 {
        words.push_str(&format!(", {retries} asked again"));
    }
    words
}
