//! A limit on what goes out in any minute: what went out is remembered until it is a minute old.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);

pub(super) struct Window {
    limit: Option<u64>,
    /// When, of which request, and how much.
    out: VecDeque<(Instant, u64, u64)>,
    sum: u64,
}

impl Window {
    pub fn new(limit: Option<u64>) -> Self {
        Self { limit, out: VecDeque::new(), sum: 0 }
    }

    /// When `amount` may go out: now, or at a later time. What is more than the limit by itself
    /// goes out alone.
    pub fn opens(&mut self, amount: u64, now: Instant) -> Instant {
        let Some(limit) = self.limit else { return now };
        while let Some((at, _, amount)) = self.out.front()
            && *at + MINUTE <= now
        {
            self.sum -= amount;
            self.out.pop_front();
        }
        let (mut sum, mut opens) = (self.sum, now);
        for (at, _, old) in &self.out {
            if sum + amount <= limit {
                break;
            }
            sum -= old;
            opens = *at + MINUTE;
        }
        opens
    }

    pub fn add(&mut self, request: u64, amount: u64, now: Instant) {
        if self.limit.is_some() {
            self.out.push_back((now, request, amount));
            self.sum += amount;
        }
    }

    /// What was added for the request turned out to be `amount`.
    pub fn correct(&mut self, request: u64, amount: u64) {
        if let Some((_, _, old)) = self.out.iter_mut().find(|(_, known, _)| *known == request) {
            self.sum = self.sum - *old + amount;
            *old = amount;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_minute_holds_more_than_the_limit() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut window = Window::new(Some(10));
        assert_eq!(window.opens(4, start), start);
        window.add(0, 4, start);
        window.add(1, 5, start + second);
        let now = start + 2 * second;
        assert_eq!(window.opens(1, now), now);
        assert_eq!(window.opens(2, now), start + MINUTE);
        assert_eq!(window.opens(6, now), start + second + MINUTE);
        window.correct(1, 2);
        assert_eq!(window.opens(4, now), now, "less was used than reserved");
        let later = start + MINUTE;
        assert_eq!((window.opens(8, later), window.sum), (later, 2));
        assert_eq!(window.opens(99, later), start + second + MINUTE, "alone");
    }

    #[test]
    fn without_a_limit_nothing_is_remembered() {
        let mut window = Window::new(None);
        let now = Instant::now();
        window.add(0, u64::MAX, now);
        assert_eq!((window.opens(u64::MAX, now), window.out.len()), (now, 0));
    }
}
