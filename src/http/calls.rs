//! Several calls on their way to one server: they are handed in and their ends fetched, in
//! whichever order they come. All waiting, repeating and counting is done by threads of its own.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::failure::Failure;
use super::pump::{End, Event, Pump};
use super::service::{Call, Service, Tokens};
use super::stats::Stats;
use super::workers::{Answer, Workers};

pub struct Calls<T> {
    events: Sender<Event<T>>,
    ends: Receiver<End<T>>,
    /// Calls whose end is still wanted.
    open: RefCell<HashSet<u64>>,
    told: Arc<Mutex<Stats>>,
    begun: Arc<OnceLock<Instant>>,
}

impl<T: Send + 'static> Calls<T> {
    /// Sends nothing yet. `read` says what an answer means and what it cost, on the threads that
    /// ask; an answer of which it says what is wrong is asked for again.
    pub fn start(
        service: Service,
        read: impl Fn(&Call, Value) -> Result<(T, Tokens), String> + Send + Sync + 'static,
    ) -> Self {
        let (events, heard) = channel();
        let (told_ends, ends) = channel();
        let told = Arc::new(Mutex::new(Stats::default()));
        let back = events.clone();
        // Whoever is over does not hear of what was on its way.
        let outcome = move |outcome| drop(back.send(Event::Done(outcome)));
        let workers = Workers::new(service.clone(), Arc::new(read), outcome);
        let pump = Pump::new(service, workers, told_ends, told.clone());
        std::thread::spawn(move || pump.run(&heard));
        Self { events, ends, open: RefCell::default(), told, begun: Arc::default() }
    }

    /// Hands in a call by a number of its own.
    pub fn submit(&self, number: u64, call: Call) {
        self.begun.get_or_init(Instant::now);
        self.open.borrow_mut().insert(number);
        self.tell(Event::Submit(number, call));
    }

    /// The ends of calls since the last time; waits for the first one for at most `patience`, where
    /// there is a call.
    pub fn collect(&self, patience: Duration) -> Vec<(u64, Result<Answer<T>, Failure>)> {
        let until = Instant::now() + patience;
        let mut open = self.open.borrow_mut();
        let mut found = Vec::new();
        while found.is_empty() && !open.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(first) = self.ends.recv_timeout(left) else { break };
            let ends = std::iter::once(first).chain(self.ends.try_iter());
            found.extend(ends.filter(|(number, _)| open.remove(number)));
        }
        found
    }

    /// A call that is not wanted any more: it is not sent where it waits, and its answer is
    /// dropped, but counted as spent, where it is on its way.
    pub fn cancel(&self, number: u64) {
        if self.open.borrow_mut().remove(&number) {
            self.tell(Event::Cancel(number));
        }
    }

    /// What earlier runs paid, for the budget.
    pub fn spent_before(&self, used: Tokens) {
        self.tell(Event::SpentBefore(used));
    }

    pub fn stats(&self) -> Stats {
        self.watch()()
    }

    /// [`Self::stats`] for somebody else, who may ask at any time.
    pub fn watch(&self) -> impl Fn() -> Stats + use<T> {
        let (told, begun) = (self.told.clone(), self.begun.clone());
        move || {
            let stats = told.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
            let seconds = begun.get().map_or(0.0, |begun| begun.elapsed().as_secs_f64());
            Stats { seconds, ..stats }
        }
    }

    fn tell(&self, event: Event<T>) {
        // The thread lives as long as this does.
        let _ = self.events.send(event);
    }
}

impl<T> Drop for Calls<T> {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Over);
    }
}
