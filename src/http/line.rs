//! One request and its answer on the wire, whatever the answer is: addresses, headers, JSON. When
//! it is sent and how often is left to others.

use std::io::ErrorKind;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{HeaderMap, HeaderValue};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, DefaultConnector};
use ureq::{Agent, Timeout};

use super::address;
use super::failure::{Cause, Failure};
use super::patience::Patience;
use super::retry_after::retry_after;
use super::service::{Call, Service, Timeouts};
use super::words::{one_line, sentence};

/// The largest answer that is read: log-probabilities of long prompts are large.
const LARGEST_BODY: u64 = 1 << 30;

/// An answer, also one that refuses.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
    pub body: Body,
    /// How long it asks to wait.
    pub wait: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    Json(Value),
    /// What is no JSON; bytes that are no UTF-8 are replaced.
    Text(String),
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Option<&Value> {
        match &self.body {
            Body::Json(value) => Some(value),
            Body::Text(_) => None,
        }
    }

    /// What it says where it refuses, in one line and without the key of `service`.
    pub fn said(&self, service: &Service) -> String {
        let text = match &self.body {
            Body::Json(value) => sentence(value),
            Body::Text(text) => text.clone(),
        };
        one_line(&service.key.as_ref().map_or(text.clone(), |key| key.hide(&text)))
    }

    /// Its JSON where it is a success.
    pub fn success(self, service: &Service, call: &Call) -> Result<Value, Failure> {
        let cause = match self.body {
            Body::Json(value) if (200..300).contains(&self.status) => return Ok(value),
            Body::Text(_) if (200..300).contains(&self.status) => {
                Cause::Unusable(format!("no JSON came, but `{}`", self.said(service)))
            }
            _ => Cause::Status {
                status: self.status,
                said: Some(self.said(service)).filter(|said| !said.is_empty()),
                wait: self.wait,
                is_exhausted: self.is_exhausted(),
            },
        };
        Err(Failure::new(service, call, cause))
    }

    /// Whether it says that nothing is left to pay with, which no waiting changes.
    fn is_exhausted(&self) -> bool {
        let place = |name: &str| self.json()?.pointer(name)?.as_str();
        [place("/error/code"), place("/error/type")].contains(&Some("insufficient_quota"))
    }
}

/// Connections to a server, which are kept and used again.
pub(super) struct Line {
    service: Service,
    agent: Agent,
}

impl Line {
    pub fn new(service: &Service) -> Self {
        let timeouts = service.timeouts;
        let config = Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("w2s/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(timeouts.connect))
            .timeout_connect(Some(timeouts.connect))
            .max_idle_connections(service.limits.at_once)
            .max_idle_connections_per_host(service.limits.at_once)
            .build();
        let connector = DefaultConnector::new().chain(Patience { timeouts });
        let agent = Agent::with_parts(config, connector, DefaultResolver::default());
        Self { service: service.clone(), agent }
    }

    /// One request; any answer is a success.
    pub fn exchange(&self, call: &Call) -> Result<Reply, Failure> {
        let fail = |cause| Failure::new(&self.service, call, cause);
        let mut response =
            self.send(call).map_err(|error| fail(cause(&error, &self.service.timeouts)))?;
        let status = response.status().as_u16();
        let wait = retry_after(response.headers());
        let headers = listed(response.headers());
        let body = response.body_mut().with_config().limit(LARGEST_BODY).read_to_vec();
        let body = body.map_err(|error| fail(cause_in_body(&error, &self.service.timeouts)))?;
        let body = serde_json::from_slice(&body)
            .map_or_else(|_| Body::Text(String::from_utf8_lossy(&body).into_owned()), Body::Json);
        Ok(Reply { status, headers, body, wait })
    }

    fn send(&self, call: &Call) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        let url = self.service.address(&call.path);
        let key = match &self.service.key {
            Some(key) if address::is_of(&self.service.url, &url) => {
                let mut value = HeaderValue::try_from(key.bearer())
                    .map_err(|error| ureq::Error::Http(error.into()))?;
                value.set_sensitive(true);
                Some(value)
            }
            _ => None,
        };
        match &call.body {
            None => {
                let request = self.agent.get(&url);
                key.into_iter()
                    .fold(request, |asked, key| asked.header("authorization", key))
                    .call()
            }
            Some(body) => {
                let request = self.agent.post(&url).header("content-type", "application/json");
                key.into_iter()
                    .fold(request, |asked, key| asked.header("authorization", key))
                    .send(body.to_string())
            }
        }
    }
}

fn listed(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect()
}

/// Why there is no answer, or only its beginning up to the end of its headers.
fn cause(error: &ureq::Error, timeouts: &Timeouts) -> Cause {
    match error {
        ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
            Cause::Unreachable(format!("no connection within {}", seconds(timeouts.connect)))
        }
        ureq::Error::Io(io) if !is_broken(io.kind()) => Cause::Unreachable(io.to_string()),
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::Tls(_) => {
            Cause::Unreachable(error.to_string())
        }
        ureq::Error::Rustls(_) => Cause::Unreachable(error.to_string()),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
            Cause::Invalid(error.to_string())
        }
        other => cause_in_body(other, timeouts),
    }
}

/// Why an answer that began did not come whole.
fn cause_in_body(error: &ureq::Error, timeouts: &Timeouts) -> Cause {
    match error {
        ureq::Error::Timeout(Timeout::RecvResponse) => {
            Cause::Silent(format!("nothing came for {}", seconds(timeouts.first_byte)))
        }
        ureq::Error::Timeout(_) => {
            Cause::Silent(format!("nothing more came for {}", seconds(timeouts.silence)))
        }
        ureq::Error::BodyExceedsLimit(_) => Cause::Unusable(error.to_string()),
        other => Cause::Broken(other.to_string()),
    }
}

/// Whether it is an end of a connection that there was.
fn is_broken(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof
            | ErrorKind::InvalidData
            | ErrorKind::NotConnected
    )
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}
