//! Waits: how long after the next failure in a row, and sleeping so that a stop is seen.

use std::time::{Duration, Instant};

use rand::RngExt;

use crate::artifacts::interrupt;
use crate::error::Result;

/// A server that asks for more is not waited for.
pub(super) const LONGEST_ASKED: Duration = Duration::from_secs(300);
/// The longest wait between two tries that a server does not ask for.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How soon a wait sees that a stop was asked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The wait after the `failures`-th failure in a row, which doubles with each up to `longest`; at
/// random between half of it and all of it, so that those that failed together do not ask again
/// together.
pub(super) fn back_off(first: Duration, failures: u32, longest: Duration) -> Duration {
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(longest).mul_f64(rand::rng().random_range(0.5..=1.0))
}

/// Sleeps, but ends at once with [`Error::Interrupted`](crate::error::Error::Interrupted) where a
/// stop was asked for.
pub fn pause(wait: Duration) -> Result<()> {
    let until = Instant::now() + wait;
    loop {
        interrupt::check()?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(LOOK_EVERY));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_jittered() {
        let (first, longest) = (Duration::from_millis(500), Duration::from_secs(8));
        for (failures, most) in [(1, 500), (2, 1000), (5, 8000), (6, 8000), (99, 8000)] {
            let waits: Vec<u128> =
                (0..50).map(|_| back_off(first, failures, longest).as_millis()).collect();
            assert!(waits.iter().all(|wait| (most / 2..=most).contains(wait)), "{waits:?}");
            assert!(waits.iter().any(|wait| *wait != waits[0]), "{waits:?}");
        }
    }
}
