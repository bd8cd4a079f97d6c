//! Single questions to a server, such as what it can do. Many at once are left to `calls.rs`.

use serde_json::Value;
use tracing::warn;

use super::failure::Failure;
use super::line::{Line, Reply};
use super::service::{Call, Service};
use super::wait::{LONGEST_WAIT, back_off, pause};

impl Service {
    /// The JSON of a successful answer; what may pass by itself is tried again. Neither limits nor
    /// the budget concern it.
    pub fn ask(&self, call: &Call) -> Result<Value, Failure> {
        let line = Line::new(self);
        let mut tries = 1;
        loop {
            let failure = match line.exchange(call).and_then(|reply| reply.success(self, call)) {
                Ok(value) => return Ok(value),
                Err(failure) => failure.after(tries),
            };
            if !failure.may_pass() || tries >= self.attempts {
                return Err(failure);
            }
            let grown = back_off(self.timeouts.first_wait, tries, LONGEST_WAIT);
            let wait = failure.asked_wait().unwrap_or(grown);
            warn!("{failure}; trying again in {:.1} s", wait.as_secs_f64());
            pause(wait).map_err(|_| Failure::interrupted(self, call))?;
            tries += 1;
        }
    }

    /// Any answer to one request, also one that refuses it.
    pub fn ask_once(&self, call: &Call) -> Result<Reply, Failure> {
        Line::new(self).exchange(call)
    }
}
