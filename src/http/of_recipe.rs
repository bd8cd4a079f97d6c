//! A service as a recipe's limits and budget have it, whichever of its tables names it.

use std::time::Duration;

use super::secret::Secret;
use super::service::{Budget, Limits, Service, Timeouts};
use crate::error::Result;
use crate::recipe::{ApiBudget, ApiLimits};

/// A service at `url`, in messages called `name`; `key` names the variable that holds its key.
///
/// # Errors
/// Where that variable is not set.
pub fn service(
    name: &str,
    url: &str,
    key: Option<&str>,
    limits: &ApiLimits,
    budget: &ApiBudget,
) -> Result<Service> {
    let seconds = Duration::from_secs_f64;
    let ApiLimits {
        at_once,
        requests_per_minute,
        tokens_per_minute,
        attempts,
        connect_seconds,
        first_byte_seconds,
        silence_seconds,
    } = *limits;
    let ApiBudget { tokens, cost, price_prompt, price_completion } = *budget;
    Ok(Service {
        key: key.map(Secret::of_variable).transpose()?,
        timeouts: Timeouts {
            connect: seconds(connect_seconds),
            first_byte: seconds(first_byte_seconds),
            silence: seconds(silence_seconds),
            ..Timeouts::default()
        },
        attempts,
        limits: Limits { at_once, requests_per_minute, tokens_per_minute },
        budget: Budget { tokens, cost, price_prompt, price_completion },
        ..Service::new(name, url)
    })
}
