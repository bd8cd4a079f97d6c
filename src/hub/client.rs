//! The program as a caller of the hub: its settings, hf-hub's own interface, and requests that
//! follow no redirect; patience with a busy hub. What is asked for is left to `repository.rs` and
//! `fetch.rs`.

use std::time::Duration;

use hf_hub::Cache;
use hf_hub::api::sync::{Api, ApiBuilder};
use tracing::warn;
use ureq::Body;
use ureq::http::Response;

use super::failure::Failure;
use super::settings::HubSettings;
use crate::error::{Error, Result};
use crate::recipe::HubId;

/// For the connection, and for the first line of an answer. A download may then take as long as it
/// takes.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// A hub that asks for more is not waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

pub(super) struct Client {
    pub settings: HubSettings,
    pub api: Api,
    /// Follows no redirect and hands out every answer, which hf-hub's own does not.
    agent: ureq::Agent,
}

impl Client {
    pub fn new(settings: HubSettings) -> Result<Self> {
        // Its own retries can append a whole file to a part, so it gets none.
        let api = ApiBuilder::from_cache(Cache::new(settings.cache.clone()))
            .with_endpoint(settings.endpoint.clone())
            .with_token(settings.token.clone())
            .with_progress(false)
            .with_retries(0)
            .with_user_agent("w2s", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(|error| {
                Error::failed(format!(
                    "the hub cannot be asked: {error}\n\nhint: check the proxy variables"
                ))
            })?;
        let agent = ureq::Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(ANSWER_WITHIN))
            .timeout_recv_response(Some(ANSWER_WITHIN))
            .user_agent(concat!("w2s/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Ok(Self { settings, api, agent })
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
            std::thread::sleep(wait);
        }
    }

    /// The answer to a request for the first byte; an error unless it is a success or a redirect.
    pub fn ask(&self, url: &str) -> Result<Response<Body>, Failure> {
        let mut request = self.agent.get(url).header("Range", "bytes=0-0");
        if let Some(token) = &self.settings.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let response = request.call().map_err(|error| Failure::of_request(&error))?;
        if response.status().as_u16() >= 400 {
            Err(Failure::of_status(&response))
        } else {
            Ok(response)
        }
    }
}
