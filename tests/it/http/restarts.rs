//! Servers that are away: for a while, or for good.

use std::time::{Duration, Instant};

use w2s::http::Service;

use super::{MS, call, collect, echo, only_failure, service, start};
use crate::common::loopback::Loopback;

#[test]
fn a_server_that_restarts_in_the_middle_is_waited_for() {
    let server = Loopback::start(|asked| echo(&asked.json()).slow(10 * MS));
    let mut service = service(&server);
    service.limits.at_once = 16;
    service.timeouts.first_byte = Duration::from_secs(5);
    let calls = start(service);
    (0..200).for_each(|number| calls.submit(number, call(number)));
    let mut ends = collect(&calls, 50);
    server.stop();
    std::thread::sleep(300 * MS);
    let before = server.asked().len();
    server.restart();
    ends.extend(collect(&calls, 200 - ends.len()));
    ends.sort_by_key(|(number, _)| *number);
    for (at, (number, end)) in ends.iter().enumerate() {
        let value = end.as_ref().map(|answer| answer.value).map_err(ToString::to_string);
        assert_eq!((at as u64, Ok(at as u64)), (*number, value));
    }
    let stats = calls.stats();
    assert!(stats.retries.contains_key("no connection"), "{stats:?}");
    assert!(before < 200 && server.asked().len() <= 200 + 16, "{} asked", server.asked().len());
}

#[test]
fn a_server_that_was_never_there_is_given_up_after_all_attempts() {
    let server = Loopback::start(|asked| echo(&asked.json()));
    server.stop();
    let calls = start(Service { attempts: 3, ..service(&server) });
    (0..30).for_each(|number| calls.submit(number, call(number)));
    let begun = Instant::now();
    for (_, end) in collect(&calls, 30) {
        let failure = end.unwrap_err();
        assert!(failure.ends_all() && failure.to_string().contains("cannot be reached"));
        let error = w2s::error::Error::from(failure).to_string();
        assert!(error.contains("hint: check that the server runs"), "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(5) && calls.stats().sent < 64);
}

#[test]
fn a_host_that_does_not_exist_and_an_address_that_is_none_are_told() {
    let server = Loopback::start(|asked| echo(&asked.json()));
    let mut nowhere = Service { attempts: 2, ..service(&server) };
    nowhere.url = "http://no-such-host.invalid/v1".to_owned();
    let failure = only_failure(&start(nowhere.clone()));
    assert!(failure.ends_all() && failure.to_string().contains("cannot be reached"), "{failure}");
    nowhere.url = "htp://here".to_owned();
    let failure = only_failure(&start(nowhere));
    assert!(failure.ends_all(), "{failure}");
    assert!(
        failure.to_string().starts_with("models.large (htp://here/completions): "),
        "{failure}"
    );
}
