//! The thread that decides: which call goes out when, what is tried again, what is given up. It
//! alone knows the queue, the pace, the limits and the budget; nothing of them is shared.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tracing::warn;

use super::failure::{Cause, Failure, Reaction};
use super::ledger::Ledger;
use super::pace::Pace;
use super::service::{Call, Service, Tokens};
use super::stats::Stats;
use super::wait::{LONGEST_WAIT, back_off};
use super::window::Window;
use super::workers::{Answer, Outcome, Task, Workers};

/// Failures are told at most so often.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// What the thread hears.
pub(super) enum Event<T> {
    Submit(u64, Call),
    Cancel(u64),
    SpentBefore(Tokens),
    Done(Outcome<T>),
    Over,
}

/// The end of a call, by its number.
pub(super) type End<T> = (u64, Result<Answer<T>, Failure>);

pub(super) struct Pump<T> {
    service: Service,
    workers: Workers<T>,
    ends: Sender<End<T>>,
    /// Ends that are told once what is told of how it stands counts them.
    ended_calls: Vec<End<T>>,
    /// What others may know of how it stands.
    told: Arc<Mutex<Stats>>,
    pace: Pace,
    ledger: Ledger,
    requests: Window,
    tokens: Window,
    ready: VecDeque<Task>,
    /// By when they are ready again.
    later: BTreeMap<(Instant, u64), Task>,
    in_flight: usize,
    /// Calls on their way that nobody wants any more.
    unwanted: HashSet<u64>,
    /// Why no call will be answered any more.
    ended: Option<Failure>,
    stats: Stats,
    last_warning: Option<Instant>,
}

impl<T: Send + 'static> Pump<T> {
    pub fn new(
        service: Service,
        workers: Workers<T>,
        ends: Sender<End<T>>,
        told: Arc<Mutex<Stats>>,
    ) -> Self {
        let limits = service.limits;
        Self {
            workers,
            ends,
            ended_calls: Vec::new(),
            told,
            pace: Pace::new(&service),
            ledger: Ledger::new(service.budget),
            requests: Window::new(limits.requests_per_minute.map(u64::from)),
            tokens: Window::new(limits.tokens_per_minute),
            ready: VecDeque::new(),
            later: BTreeMap::new(),
            in_flight: 0,
            unwanted: HashSet::new(),
            ended: None,
            stats: Stats::default(),
            last_warning: None,
            service,
        }
    }

    /// Until nobody listens any more.
    pub fn run(mut self, events: &Receiver<Event<T>>) {
        loop {
            let now = Instant::now();
            self.wake(now);
            let look_at = self.send(now);
            self.tell();
            let event = match look_at {
                Some(at) => events.recv_timeout(at.saturating_duration_since(Instant::now())),
                None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let more = match event {
                Ok(event) => std::iter::once(event).chain(events.try_iter()),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            for event in more {
                match event {
                    Event::Submit(number, call) => self.submit(number, call),
                    Event::Cancel(number) => self.cancel(number),
                    Event::SpentBefore(used) => self.ledger.spent_before(used),
                    Event::Done(outcome) => self.done(outcome),
                    Event::Over => return,
                }
            }
        }
    }

    fn submit(&mut self, number: u64, call: Call) {
        match self.ended.clone() {
            Some(failure) => self.end(number, Err(failure)),
            None => {
                self.ready.push_back(Task { number, call, failures: 0, tries: 0, sent: 0 });
            }
        }
    }

    fn cancel(&mut self, number: u64) {
        let waiting = self.ready.len() + self.later.len();
        self.ready.retain(|task| task.number != number);
        self.later.retain(|_, task| task.number != number);
        if waiting == self.ready.len() + self.later.len() && self.in_flight > 0 {
            self.unwanted.insert(number);
        }
    }

    /// Those whose wait is over are ready.
    fn wake(&mut self, now: Instant) {
        while let Some(entry) = self.later.first_entry()
            && entry.key().0 <= now
        {
            let task = entry.remove();
            self.ready.push_front(task);
        }
    }

    /// Sends what may go out now; when to look again if nothing is heard.
    fn send(&mut self, now: Instant) -> Option<Instant> {
        while let Some(task) = self.ready.front() {
            let most = task.call.most;
            if self.in_flight >= self.pace.allowed() {
                break;
            }
            let opens = [
                self.pace.opens(now),
                self.requests.opens(1, now),
                self.tokens.opens(most.total(), now),
            ];
            let opens = opens.into_iter().max().unwrap_or(now);
            if opens > now {
                return Some(self.first_later().map_or(opens, |later| later.min(opens)));
            }
            if self.ledger.fits(most) {
                self.send_first(now);
            } else if self.in_flight > 0 {
                // Those on their way may settle for less.
                break;
            } else {
                let cause = Cause::Budget(self.ledger.refusal(most));
                self.end_all(&Failure::new(&self.service, &task.call, cause));
            }
        }
        self.first_later()
    }

    fn first_later(&self) -> Option<Instant> {
        self.later.keys().next().map(|(at, _)| *at)
    }

    fn send_first(&mut self, now: Instant) {
        let Some(mut task) = self.ready.pop_front() else { return };
        task.tries += 1;
        task.sent = self.pace.send();
        self.ledger.reserve(task.call.most);
        self.requests.add(task.sent, 1, now);
        self.tokens.add(task.sent, task.call.most.total(), now);
        self.stats.sent += 1;
        self.workers.send(task, self.in_flight);
        self.in_flight += 1;
    }

    fn done(&mut self, Outcome { task, result }: Outcome<T>) {
        self.in_flight -= 1;
        let (spent, is_sure) = match &result {
            Ok(answer) => (answer.used, true),
            Err(failure) if failure.may_have_cost() => (task.call.most, false),
            Err(_) => (Tokens::default(), true),
        };
        self.ledger.settle(task.call.most, spent, is_sure);
        self.tokens.correct(task.sent, spent.total());
        match result {
            Ok(answer) => {
                self.pace.answered();
                self.end(task.number, Ok(answer));
            }
            Err(failure) => self.failed(task, failure),
        }
    }

    fn failed(&mut self, mut task: Task, failure: Failure) {
        let now = Instant::now();
        let (reaction, asked) = (failure.reaction(), failure.asked_wait());
        let is_given_up = match reaction {
            Reaction::GiveUp => {
                self.pace.answered();
                true
            }
            Reaction::TryAgain => {
                task.failures += 1;
                task.failures >= self.service.attempts
            }
            Reaction::SlowDown | Reaction::WaitForServer => {
                self.pace.refused(task.sent, reaction, asked, now)
            }
        };
        let failure = failure.after(task.tries);
        if is_given_up && failure.ends_all() {
            self.end_all(&failure);
        }
        let end = self.ended.clone().or_else(|| is_given_up.then(|| failure.clone()));
        if let Some(end) = end {
            return self.end(task.number, Err(end));
        }
        if self.unwanted.remove(&task.number) {
            return;
        }
        *self.stats.retries.entry(failure.kind()).or_default() += 1;
        self.warn(&failure, now);
        if reaction == Reaction::TryAgain {
            let first = self.service.timeouts.first_wait;
            let grown = || back_off(first, task.failures, LONGEST_WAIT);
            self.later.insert((now + asked.unwrap_or_else(grown), task.number), task);
        } else {
            // All wait, and it goes first.
            self.ready.push_front(task);
        }
    }

    fn end_all(&mut self, failure: &Failure) {
        self.ended = Some(failure.clone());
        let waiting = std::mem::take(&mut self.ready).into_iter();
        for task in waiting.chain(std::mem::take(&mut self.later).into_values()) {
            self.end(task.number, Err(failure.clone()));
        }
    }

    fn end(&mut self, number: u64, result: Result<Answer<T>, Failure>) {
        match &result {
            Ok(_) => self.stats.answered += 1,
            Err(_) => self.stats.failed += 1,
        }
        if !self.unwanted.remove(&number) {
            self.ended_calls.push((number, result));
        }
    }

    fn tell(&mut self) {
        self.stats.waiting = self.ready.len() + self.later.len();
        self.stats.in_flight = self.in_flight;
        self.stats.allowed = self.pace.allowed();
        self.stats.used = self.ledger.used();
        self.stats.perhaps = self.ledger.perhaps();
        self.stats.cost = self.ledger.cost();
        let mut told = self.told.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        told.clone_from(&self.stats);
        drop(told);
        for end in self.ended_calls.drain(..) {
            // Whoever does not listen any more needs nothing.
            let _ = self.ends.send(end);
        }
    }

    fn warn(&mut self, failure: &Failure, now: Instant) {
        if self.last_warning.is_none_or(|last| now - last >= TELL_EVERY) {
            self.last_warning = Some(now);
            warn!("{failure}; it will be asked again");
        }
    }
}
