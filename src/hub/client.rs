//! The program as a caller of the hub: one request and its redirects, with the token for the hub's
//! own host alone; patience with a busy or silent hub. What is asked for is left to `repository.rs`
//! and `fetch.rs`.

use std::time::Duration;

use tracing::warn;
use ureq::Body;
use ureq::http::Response;

use super::failure::Failure;
use super::settings::HubSettings;
use crate::http::{address, pause};
use crate::recipe::HubId;

/// A hub that asks for more is not waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
const MOST_REDIRECTS: usize = 10;

pub(super) struct Client {
    pub settings: HubSettings,
    /// Follows no redirect and hands out every answer.
    agent: ureq::Agent,
}

/// How long an answer, and every further piece of it, is waited for.
#[derive(Clone, Copy)]
pub(super) enum Patience {
    /// With what is told of a repository or a file.
    Word,
    /// With the bytes of a file.
    Bytes,
}

impl Patience {
    fn within(self, settings: &HubSettings) -> Duration {
        match self {
            Self::Word => settings.etag_timeout,
            Self::Bytes => settings.download_timeout,
        }
    }

    /// What is said of a server that let it run out.
    pub fn ran_out(self, settings: &HubSettings) -> String {
        let variable = match self {
            Self::Word => "HF_HUB_ETAG_TIMEOUT",
            Self::Bytes => "HF_HUB_DOWNLOAD_TIMEOUT",
        };
        format!("nothing came for {} s ({variable})", self.within(settings).as_secs_f64())
    }
}

/// An answer, and the address that it came from.
pub(super) struct Answer {
    pub url: String,
    pub response: Response<Body>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// Where it sends on to.
    pub fn location(&self) -> Option<String> {
        let is_redirection = self.response.status().is_redirection();
        let location = self.header("location").filter(|_| is_redirection)?;
        Some(address::join(&self.url, location))
    }
}

impl Client {
    pub fn new(settings: HubSettings) -> Self {
        let agent = ureq::Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            // A compressed answer has other bytes and another length than the file.
            .accept_encoding("identity")
            .user_agent(concat!("w2s/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Self { settings, agent }
    }

    /// Repeats what may pass by itself, with growing waits, until nothing came `attempts` times in
    /// a row.
    pub fn patiently<T>(
        &self,
        id: &HubId,
        attempts: u32,
        mut attempt: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut failures = 0;
        loop {
            let failure = match attempt() {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            failures = if failure.brought_bytes() { 1 } else { failures + 1 };
            let grown = self.settings.first_wait.saturating_mul(1 << (failures - 1).min(16));
            let wait = failure.asked_wait().unwrap_or(grown.min(LONGEST_WAIT));
            if !failure.may_pass() || failures >= attempts || wait > LONGEST_WAIT {
                return Err(failure);
            }
            warn!("{id}: {failure}; trying again in {:.1} s", wait.as_secs_f64());
            pause(wait).map_err(|_| Failure::Interrupted)?;
        }
    }

    /// The answer to one request for `range` of what lies at `url`, which may send on; an error
    /// where it is none of success.
    pub fn ask(
        &self,
        url: String,
        range: Option<&str>,
        patience: Patience,
    ) -> Result<Answer, Failure> {
        let within = Some(patience.within(&self.settings));
        let mut request = self
            .agent
            .get(&url)
            .config()
            .timeout_resolve(within)
            .timeout_connect(within)
            .timeout_recv_response(within)
            .timeout_per_read(within)
            .timeout_per_write(within)
            .build();
        if let Some(range) = range {
            request = request.header("Range", range);
        }
        if let Some(token) = &self.settings.token
            && address::is_of(&self.settings.endpoint, &url)
        {
            request = request.header("Authorization", format!("Bearer {}", token.secret));
        }
        let response = request.call().map_err(|error| match error {
            ureq::Error::Timeout(_) => Failure::Unreachable(patience.ran_out(&self.settings)),
            other => Failure::of_request(&other),
        })?;
        if response.status().as_u16() >= 400 {
            Err(Failure::of_status(response))
        } else {
            Ok(Answer { url, response })
        }
    }

    /// The first answer in a chain of redirects that does not send on, or that is `enough`.
    pub fn follow(
        &self,
        url: String,
        range: Option<&str>,
        patience: Patience,
        enough: impl Fn(&Answer) -> bool,
    ) -> Result<Answer, Failure> {
        let mut answer = self.ask(url, range, patience)?;
        for _ in 0..MOST_REDIRECTS {
            match answer.location().filter(|_| !enough(&answer)) {
                Some(location) => answer = self.ask(location, range, patience)?,
                None if answer.response.status().is_redirection() && !enough(&answer) => {
                    return Err(Failure::refused(
                        "an answer sends on to no usable address",
                        "check that HF_ENDPOINT names a hub",
                    ));
                }
                None => return Ok(answer),
            }
        }
        Err(Failure::refused(
            format!("the hub sends on more than {MOST_REDIRECTS} times"),
            "check that HF_ENDPOINT names a hub",
        ))
    }
}
