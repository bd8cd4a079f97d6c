//! What goes wrong between the program and a server: what may pass by itself, what ends all
//! questions to it, and one clear sentence with a way out for each.

use std::fmt;
use std::time::Duration;

use super::service::{Call, Service};
use super::wait::LONGEST_ASKED;
use crate::error::Error;

/// Why one call, or all of them, got no answer that can be used.
#[derive(Debug, Clone)]
pub struct Failure {
    service: String,
    address: String,
    /// Where the key comes from, if there is one.
    key: Option<String>,
    tries: u32,
    cause: Box<Cause>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Cause {
    /// An answer that is no success: its status and sentence, how long it asks to wait, and whether
    /// it says that nothing is left to pay with.
    Status { status: u16, said: Option<String>, wait: Option<Duration>, is_exhausted: bool },
    /// There is no connection.
    Unreachable(String),
    /// The connection ended before the answer was whole, or what came is no HTTP.
    Broken(String),
    /// A time ran out.
    Silent(String),
    /// An answer came that does not say what it should.
    Unusable(String),
    /// No such request can be made.
    Invalid(String),
    /// What it may cost is more than what is left.
    Budget(String),
    /// A stop was asked for.
    Interrupted,
}

/// What is to be done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaction {
    /// It will be the same again.
    GiveUp,
    /// It concerns this call, and may be gone when it is tried again.
    TryAgain,
    /// The server has too much to do: all should be sent more slowly.
    SlowDown,
    /// There is no server now: one should look now and then whether it is back.
    WaitForServer,
}

impl Failure {
    pub(super) fn new(service: &Service, call: &Call, cause: Cause) -> Self {
        let hide = |text: String| service.key.as_ref().map_or(text.clone(), |key| key.hide(&text));
        Self {
            service: service.name.clone(),
            address: without_user(&hide(service.address(&call.path))),
            key: service.key.as_ref().map(|key| key.from().to_owned()),
            tries: 1,
            cause: Box::new(match cause {
                Cause::Unreachable(text) => Cause::Unreachable(hide(text)),
                Cause::Broken(text) => Cause::Broken(hide(text)),
                Cause::Unusable(text) => Cause::Unusable(hide(text)),
                Cause::Invalid(text) => Cause::Invalid(hide(text)),
                other => other,
            }),
        }
    }

    pub(super) fn interrupted(service: &Service, call: &Call) -> Self {
        Self::new(service, call, Cause::Interrupted)
    }

    pub(super) fn after(self, tries: u32) -> Self {
        Self { tries, ..self }
    }

    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// Whether no other request will be answered either; else it concerns its own call alone.
    pub fn ends_all(&self) -> bool {
        match &*self.cause {
            Cause::Status { status, is_exhausted, .. } => {
                *is_exhausted
                    || matches!(status, 300..=399 | 401 | 402 | 403 | 404 | 405 | 429 | 503)
            }
            Cause::Unreachable(_) | Cause::Invalid(_) | Cause::Budget(_) | Cause::Interrupted => {
                true
            }
            Cause::Broken(_) | Cause::Silent(_) | Cause::Unusable(_) => false,
        }
    }

    /// Whether the same request may succeed later.
    pub(super) fn may_pass(&self) -> bool {
        self.reaction() != Reaction::GiveUp
    }

    pub(super) fn reaction(&self) -> Reaction {
        match &*self.cause {
            Cause::Status { is_exhausted: true, .. } => Reaction::GiveUp,
            Cause::Status { wait: Some(wait), .. } if *wait > LONGEST_ASKED => Reaction::GiveUp,
            Cause::Status { status: 429 | 503, .. } => Reaction::SlowDown,
            Cause::Status { status: 408 | 409 | 425 | 500.., .. } => Reaction::TryAgain,
            Cause::Broken(_) | Cause::Silent(_) | Cause::Unusable(_) => Reaction::TryAgain,
            Cause::Unreachable(_) => Reaction::WaitForServer,
            Cause::Status { .. } | Cause::Invalid(_) | Cause::Budget(_) | Cause::Interrupted => {
                Reaction::GiveUp
            }
        }
    }

    /// How long the server asks to wait.
    pub(super) fn asked_wait(&self) -> Option<Duration> {
        if let Cause::Status { wait, .. } = *self.cause { wait } else { None }
    }

    /// Whether the server may have worked, and be paid, for an answer that did not come.
    pub(super) fn may_have_cost(&self) -> bool {
        matches!(*self.cause, Cause::Broken(_) | Cause::Silent(_) | Cause::Unusable(_))
    }

    /// In a few words, for counting.
    pub(super) fn kind(&self) -> String {
        match &*self.cause {
            Cause::Status { status, .. } => format!("status {status}"),
            Cause::Unreachable(_) => "no connection".to_owned(),
            Cause::Broken(_) => "broken connection".to_owned(),
            Cause::Silent(_) => "silence".to_owned(),
            Cause::Unusable(_) => "unusable answer".to_owned(),
            Cause::Invalid(_) => "no request".to_owned(),
            Cause::Budget(_) => "budget".to_owned(),
            Cause::Interrupted => "interrupted".to_owned(),
        }
    }

    fn hint(&self) -> String {
        let key = match &self.key {
            Some(from) => format!("the key is that of {from}: put a valid one there"),
            None => "name the environment variable that holds the key by `key`".to_owned(),
        };
        match &*self.cause {
            Cause::Status { status: 401 | 403, .. } => key,
            Cause::Status { is_exhausted: true, .. } | Cause::Status { status: 402, .. } => {
                "the account has nothing left: the same command continues once it has".to_owned()
            }
            Cause::Status { status: 404 | 405, .. } => {
                "check the address, which most servers want \
                                                        with `/v1` at its end, and the name of the \
                                                        model"
                    .to_owned()
            }
            Cause::Status { status: 300..=399, .. } => {
                "name the address that it sends on to, such as `https://` for `http://`".to_owned()
            }
            Cause::Status { status: 429 | 503, .. } => {
                "the same command continues later; lower `limits.at_once`, or say what is allowed \
                 by `limits.requests_per_minute` and `limits.tokens_per_minute`"
                    .to_owned()
            }
            Cause::Unreachable(_) => {
                "check that the server runs and that the address is right; the same command \
                 continues"
                    .to_owned()
            }
            Cause::Silent(_) => {
                "`limits.first_byte_seconds` and `limits.silence_seconds` say how long is waited"
                    .to_owned()
            }
            Cause::Invalid(_) => "check the address, and the proxy variables".to_owned(),
            Cause::Budget(_) => {
                "raise `budget`, and the same command continues: nothing is paid twice".to_owned()
            }
            Cause::Status { status: 400 | 413 | 422, .. } => {
                "it will not take this request; where prompt or response are too long for it, \
                 shorten the prompt or lower `max_new_tokens`"
                    .to_owned()
            }
            _ => "the same command asks again".to_owned(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): ", self.service, self.address)?;
        match &*self.cause {
            Cause::Status { status, said, wait, .. } => {
                write!(f, "the server answered with status {status}")?;
                said.as_ref().map_or(Ok(()), |said| write!(f, ": {said}"))?;
                if let Some(wait) = wait.filter(|wait| *wait > LONGEST_ASKED) {
                    write!(f, "; it asks to wait {:.0} s", wait.as_secs_f64())?;
                }
            }
            Cause::Unreachable(reason) => write!(f, "the server cannot be reached: {reason}")?,
            Cause::Broken(reason) => write!(f, "the connection broke: {reason}")?,
            Cause::Silent(reason) => write!(f, "the server is silent: {reason}")?,
            Cause::Unusable(reason) => write!(f, "the answer cannot be used: {reason}")?,
            Cause::Invalid(reason) => write!(f, "no request can be made: {reason}")?,
            Cause::Budget(reason) => write!(f, "the budget is used up: {reason}")?,
            Cause::Interrupted => write!(f, "interrupted")?,
        }
        if self.tries > 1 { write!(f, " (tried {} times)", self.tries) } else { Ok(()) }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match *failure.cause {
            Cause::Interrupted => Self::Interrupted,
            _ => Self::failed(format!("{failure}\n\nhint: {}", failure.hint())),
        }
    }
}

/// The address without the name and password that may stand in it.
fn without_user(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}
