//! Threads that each have one request on its way, made when they are needed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::Value;

use super::failure::{Cause, Failure};
use super::line::Line;
use super::service::{Call, Service, Tokens};

/// Reads an answer: what it says and what it cost, or what is wrong with it.
pub(super) type Read<T> = dyn Fn(&Call, Value) -> Result<(T, Tokens), String> + Send + Sync;

/// A call on its way, and what is needed when it is back.
pub(super) struct Task {
    pub number: u64,
    pub call: Call,
    /// How often it failed by itself.
    pub failures: u32,
    /// How often it was sent.
    pub tries: u32,
    /// Which request it is among all that were sent.
    pub sent: u64,
}

/// What was asked for.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    pub value: T,
    pub used: Tokens,
    /// From sending the request to the end of its answer.
    pub seconds: f64,
}

/// What came of a task.
pub(super) struct Outcome<T> {
    pub task: Task,
    pub result: Result<Answer<T>, Failure>,
}

pub(super) struct Workers<T> {
    line: Arc<Line>,
    service: Arc<Service>,
    read: Arc<Read<T>>,
    outcome: Arc<dyn Fn(Outcome<T>) + Send + Sync>,
    jobs: Sender<Task>,
    queue: Arc<Mutex<Receiver<Task>>>,
    threads: usize,
}

impl<T: Send + 'static> Workers<T> {
    /// `outcome` is told, on their threads, what came of each task.
    pub fn new(
        service: Service,
        read: Arc<Read<T>>,
        outcome: impl Fn(Outcome<T>) + Send + Sync + 'static,
    ) -> Self {
        let (jobs, queue) = channel();
        Self {
            line: Arc::new(Line::new(&service)),
            service: Arc::new(service),
            read,
            outcome: Arc::new(outcome),
            jobs,
            queue: Arc::new(Mutex::new(queue)),
            threads: 0,
        }
    }

    /// Sends a task out, where `in_flight` others are.
    pub fn send(&mut self, task: Task, in_flight: usize) {
        if in_flight >= self.threads {
            self.threads += 1;
            self.spawn();
        }
        // The receiver lives as long as this does.
        let _ = self.jobs.send(task);
    }

    fn spawn(&self) {
        let (line, service) = (self.line.clone(), self.service.clone());
        let (read, outcome, queue) = (self.read.clone(), self.outcome.clone(), self.queue.clone());
        std::thread::spawn(move || {
            loop {
                let next = queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).recv();
                let Ok(task) = next else { return };
                let result = perform(&line, &service, &*read, &task.call);
                outcome(Outcome { task, result });
            }
        });
    }
}

fn perform<T>(
    line: &Line,
    service: &Service,
    read: &Read<T>,
    call: &Call,
) -> Result<Answer<T>, Failure> {
    let begun = Instant::now();
    let value = line.exchange(call)?.success(service, call)?;
    let seconds = begun.elapsed().as_secs_f64();
    // A reader that panics has said so, and must not leave its call without an end.
    let read = catch_unwind(AssertUnwindSafe(|| read(call, value)))
        .unwrap_or_else(|_| Err("reading it failed".to_owned()));
    let (value, used) =
        read.map_err(|problem| Failure::new(service, call, Cause::Unusable(problem)))?;
    Ok(Answer { value, used, seconds })
}
