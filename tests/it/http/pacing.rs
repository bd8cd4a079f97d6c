//! As many requests at once as the server takes, and no more in a minute than it allows.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{MS, all_answered, call, collect, echo, service, start, tokens};
use crate::common::loopback::{Loopback, Play, Reply};
use crate::common::one_of_three;

#[test]
fn a_slow_server_is_kept_busy() {
    one_of_three(|| {
        let server = Loopback::start(|asked| echo(&asked.json()).slow(50 * MS));
        let mut service = service(&server);
        service.limits.at_once = 64;
        let (calls, begun) = (start(service), Instant::now());
        all_answered(&calls, 1000);
        let busy = 1000.0 * 0.05 / (64.0 * begun.elapsed().as_secs_f64());
        assert_eq!((server.in_flight_most(), server.asked().len()), (64, 1000));
        if busy >= 0.9 { Ok(()) } else { Err(format!("{busy} of the slots are busy")) }
    });
}

#[test]
fn what_the_server_takes_at_once_is_found_with_few_refusals() {
    static NOW: AtomicUsize = AtomicUsize::new(0);
    struct Slot;
    impl Drop for Slot {
        fn drop(&mut self) {
            NOW.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let server = Loopback::start(|asked| {
        let taken = NOW.fetch_add(1, Ordering::SeqCst);
        let _slot = Slot;
        if taken >= 64 {
            return Play::Reply(Reply::text(429, "too many"));
        }
        std::thread::sleep(10 * MS);
        echo(&asked.json())
    });
    let mut service = service(&server);
    service.limits.at_once = 200;
    service.timeouts.first_wait = MS;
    let calls = start(service);
    all_answered(&calls, 6000);
    let stats = calls.stats();
    let refusals = stats.retries.get("status 429").copied().unwrap_or_default();
    assert!((1..600).contains(&refusals), "{stats:?}");
    assert!((32..=70).contains(&stats.allowed), "{stats:?}");
}

#[test]
fn no_more_requests_go_out_in_a_minute_than_are_allowed() {
    let server = Loopback::start(|asked| echo(&asked.json()));
    let mut service = service(&server);
    service.limits.requests_per_minute = Some(5);
    let calls = start(service);
    (0..8).for_each(|number| calls.submit(number, call(number)));
    assert_eq!(collect(&calls, 5).len(), 5);
    assert!(calls.collect(150 * MS).is_empty());
    let stats = calls.stats();
    assert_eq!((server.asked().len(), stats.waiting, stats.in_flight), (5, 3, 0));
}

#[test]
fn no_more_tokens_go_out_in_a_minute_than_are_allowed() {
    let server = Loopback::start(|asked| echo(&asked.json()));
    let mut service = service(&server);
    // Each may take 30 tokens and takes 15: after five, one more might be too many.
    service.limits.tokens_per_minute = Some(100);
    let calls = start(service);
    (0..8).for_each(|number| calls.submit(number, call(number)));
    assert_eq!(collect(&calls, 5).len(), 5);
    assert!(calls.collect(150 * MS).is_empty());
    assert_eq!((server.asked().len(), calls.stats().used), (5, tokens(50, 25)));
}

#[test]
fn calls_that_are_not_wanted_any_more_are_not_sent_or_not_told() {
    let server = Loopback::start(|asked| echo(&asked.json()).slow(30 * MS));
    let mut service = service(&server);
    service.limits.at_once = 2;
    let calls = start(service);
    (0..6).for_each(|number| calls.submit(number, call(number)));
    std::thread::sleep(10 * MS);
    [0, 3, 4, 77].into_iter().for_each(|number| calls.cancel(number));
    let ends = collect(&calls, 3);
    assert_eq!(ends.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2, 5]);
    let begun = Instant::now();
    assert!(calls.collect(Duration::from_secs(5)).is_empty() && begun.elapsed() < 100 * MS);
    assert_eq!(server.asked().len(), 4, "that on its way and those that are wanted");
    assert_eq!((calls.stats().answered, calls.stats().used), (4, tokens(40, 20)));
}

#[test]
fn a_call_that_waits_for_its_next_try_holds_no_slot() {
    let server = Loopback::start(|asked| match (asked.number, asked.json()["number"].as_u64()) {
        (0, _) => Play::Reply(Reply::text(500, "").with("retry-after-ms", 200)),
        _ => echo(&asked.json()),
    });
    let mut service = service(&server);
    service.limits.at_once = 1;
    let (calls, begun) = (start(service), Instant::now());
    (0..4).for_each(|number| calls.submit(number, call(number)));
    let first = calls.collect(Duration::from_secs(5));
    assert!(first[0].0 != 0 && begun.elapsed() < 150 * MS, "{first:?}");
    let rest = collect(&calls, 4 - first.len());
    assert!(rest.iter().any(|(number, end)| *number == 0 && end.is_ok()), "{rest:?}");
}
