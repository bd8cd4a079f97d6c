//! How many requests may be on their way, and when none may go out: fewer where the server says
//! that it is busy, one at a time while there is no server.
//!
//! The number is halved by refusals, once for all requests that were sent before the last time, and
//! grows by one with every round of answers. Refusals and missing servers make everything wait:
//! what is sent in between would be refused as well.

use std::time::{Duration, Instant};

use super::failure::Reaction;
use super::service::Service;
use super::wait::{LONGEST_WAIT, back_off};

/// The longest wait between two looks at whether a server is back.
const LONGEST_LOOK: Duration = Duration::from_secs(5);

pub(super) struct Pace {
    most: usize,
    attempts: u32,
    first_wait: Duration,
    /// How long a server without a success is waited for.
    patience: Duration,
    allowed: usize,
    /// Answers since the number changed.
    round: usize,
    /// Requests sent, and how many of them were sent before the last reaction to a failure.
    sent: u64,
    reacted: u64,
    paused: Option<Instant>,
    trouble: Option<Trouble>,
    has_answered: bool,
}

/// Since the last success.
struct Trouble {
    since: Instant,
    /// How often there was a reaction.
    times: u32,
    /// Whether the server was missing last.
    is_away: bool,
}

impl Pace {
    pub fn new(service: &Service) -> Self {
        let most = service.limits.at_once.max(1);
        Self {
            most,
            attempts: service.attempts,
            first_wait: service.timeouts.first_wait,
            patience: service.timeouts.first_byte,
            allowed: most,
            round: 0,
            sent: 0,
            reacted: 0,
            paused: None,
            trouble: None,
            has_answered: false,
        }
    }

    pub fn allowed(&self) -> usize {
        let is_away = self.trouble.as_ref().is_some_and(|trouble| trouble.is_away);
        if is_away { 1 } else { self.allowed }
    }

    /// When something may go out: now, or at a later time.
    pub fn opens(&self, now: Instant) -> Instant {
        self.paused.map_or(now, |until| until.max(now))
    }

    /// The number of a request that goes out.
    pub fn send(&mut self) -> u64 {
        self.sent += 1;
        self.sent - 1
    }

    /// The server answered, if only to refuse this one call.
    pub fn answered(&mut self) {
        self.has_answered = true;
        self.trouble = None;
        self.round += 1;
        if self.round >= self.allowed {
            self.round = 0;
            self.allowed = (self.allowed + 1).min(self.most);
        }
    }

    /// Request number `sent` found the server busy or missing; whether that was waited for long
    /// enough.
    pub fn refused(
        &mut self,
        sent: u64,
        reaction: Reaction,
        asked: Option<Duration>,
        now: Instant,
    ) -> bool {
        let is_away = reaction == Reaction::WaitForServer;
        let is_new = sent >= self.reacted;
        let trouble = self.trouble.get_or_insert(Trouble { since: now, times: 0, is_away });
        trouble.is_away = is_away;
        let longest = if is_away { LONGEST_LOOK } else { LONGEST_WAIT };
        let mut wait = asked.unwrap_or_default();
        if is_new {
            self.reacted = self.sent;
            trouble.times += 1;
            wait = asked.unwrap_or_else(|| back_off(self.first_wait, trouble.times, longest));
            if !is_away {
                self.allowed = (self.allowed / 2).max(1);
                self.round = 0;
            }
        }
        let until = now + wait;
        self.paused = Some(self.paused.map_or(until, |paused| paused.max(until)));
        let is_unknown = is_away && !self.has_answered;
        trouble.times >= self.attempts && (is_unknown || now - trouble.since >= self.patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: Reaction = Reaction::SlowDown;
    const AWAY: Reaction = Reaction::WaitForServer;

    fn pace(at_once: usize) -> Pace {
        let mut service = Service::new("test", "http://here");
        service.limits.at_once = at_once;
        service.attempts = 3;
        Pace::new(&service)
    }

    #[test]
    fn refusals_of_those_sent_together_halve_once_and_rounds_of_answers_add_one() {
        let (mut pace, now) = (pace(8), Instant::now());
        let sent: Vec<u64> = (0..8).map(|_| pace.send()).collect();
        sent.iter().for_each(|sent| assert!(!pace.refused(*sent, BUSY, None, now)));
        assert_eq!(pace.allowed(), 4);
        (0..4).for_each(|_| pace.answered());
        assert_eq!(pace.allowed(), 5);
        (0..5).for_each(|_| pace.answered());
        assert_eq!(pace.allowed(), 6);
        (0..99).for_each(|_| pace.answered());
        assert_eq!(pace.allowed(), 8, "never more than at first");
        for _ in 0..9 {
            let sent = pace.send();
            pace.refused(sent, BUSY, None, now);
        }
        assert_eq!(pace.allowed(), 1, "and never none");
    }

    #[test]
    fn nothing_goes_out_before_the_longest_wait_that_was_asked_for() {
        let (mut pace, now) = (pace(8), Instant::now());
        let sent: Vec<u64> = (0..3).map(|_| pace.send()).collect();
        assert_eq!(pace.opens(now), now);
        for (sent, seconds) in sent.into_iter().zip([2, 7, 3]) {
            pace.refused(sent, BUSY, Some(Duration::from_secs(seconds)), now);
        }
        assert_eq!(pace.opens(now), now + Duration::from_secs(7));
    }

    #[test]
    fn a_missing_server_is_looked_for_by_one_and_not_for_ever() {
        let (mut pace, now) = (pace(8), Instant::now());
        let (first, second) = (pace.send(), pace.send());
        assert!(!pace.refused(first, AWAY, None, now) && !pace.refused(second, AWAY, None, now));
        assert_eq!(pace.allowed(), 1);
        let sent = pace.send();
        assert!(!pace.refused(sent, AWAY, None, now));
        let sent = pace.send();
        assert!(pace.refused(sent, AWAY, None, now), "it never answered");
        pace.answered();
        assert_eq!(pace.allowed(), 8, "what is allowed is as before");
        for _ in 0..9 {
            let sent = pace.send();
            assert!(!pace.refused(sent, AWAY, None, now), "it is restarting");
        }
        let sent = pace.send();
        assert!(pace.refused(sent, AWAY, None, now + Duration::from_secs(600)));
    }
}
