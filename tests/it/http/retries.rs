//! What may pass by itself is asked again, and what cannot is not.

use std::collections::HashSet;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::json;
use w2s::http::{Call, Cause, Service};

use super::{MS, all_answered, call, collect, echo, only_failure, said, service, start};
use crate::common::loopback::{Asked, Loopback, Play, Reply};
use crate::common::success;

/// Plays `bad` at the first request for each number, and answers the next one.
fn once_bad(bad: impl Fn(&Asked) -> Play + Send + Sync + 'static) -> Loopback {
    let seen = Mutex::new(HashSet::new());
    Loopback::start(move |asked| {
        let body = asked.json();
        let is_first = seen.lock().unwrap().insert(body["number"].as_u64());
        if is_first { bad(asked) } else { echo(&body) }
    })
}

fn with_slots(server: &Loopback, at_once: usize) -> Service {
    let mut service = service(server);
    service.limits.at_once = at_once;
    service
}

#[test]
fn storms_of_refusals_and_errors_pass() {
    for status in [429, 503, 500, 502, 408, 409, 425, 529] {
        let server = once_bad(move |_| Play::Reply(Reply::text(status, "<html>busy</html>")));
        let calls = start(with_slots(&server, 8));
        all_answered(&calls, 40);
        let stats = calls.stats();
        let retries = stats.retries.get(&format!("status {status}"));
        assert_eq!((stats.sent, retries), (80, Some(&40)), "{stats:?}");
        assert_eq!((stats.answered, stats.failed, stats.waiting, stats.in_flight), (40, 0, 0, 0));
    }
}

#[test]
fn what_a_server_asks_to_wait_is_waited_in_all_its_forms() {
    let in_two_seconds = || {
        let mut date = Command::new("date");
        date.args(["-u", "-d", "+2 seconds", "+%a, %d %b %Y %H:%M:%S GMT"]).env("LC_ALL", "C");
        success(&mut date).trim().to_owned()
    };
    type Ask = (&'static str, Box<dyn Fn() -> String + Send + Sync>, u64, u64);
    let asks: [Ask; 3] = [
        ("retry-after-ms", Box::new(|| "120".into()), 120, 700),
        ("retry-after", Box::new(|| "0.15".into()), 150, 700),
        ("retry-after", Box::new(in_two_seconds), 900, 2500),
    ];
    for (name, value, least, most) in asks {
        for status in [429, 500] {
            let text = value();
            let refusal = Reply::text(status, "").with(name, text.clone());
            let server = once_bad(move |_| Play::Reply(refusal.clone()));
            let (calls, begun) = (start(service(&server)), Instant::now());
            all_answered(&calls, 1);
            let took = begun.elapsed();
            let expected = least as u128..=most as u128;
            assert!(expected.contains(&took.as_millis()), "{name}: {text}: {took:?}");
        }
    }
}

#[test]
fn nothing_is_sent_while_a_server_asks_to_wait_and_a_long_wait_ends_all() {
    let refusal = Reply::text(429, "").with("retry-after-ms", 150);
    let server = Loopback::start(move |asked| {
        if asked.number == 0 { Play::Reply(refusal.clone()) } else { echo(&asked.json()) }
    });
    let calls = start(with_slots(&server, 1));
    all_answered(&calls, 5);
    let asked = server.asked();
    assert!(asked[1].at - asked[0].at >= 150 * MS, "{:?}", asked[1].at - asked[0].at);

    let tomorrow = Reply::text(429, "").with("retry-after", 86_400);
    let server = Loopback::start(move |_| Play::Reply(tomorrow.clone()));
    let failure = only_failure(&start(service(&server)));
    assert!(failure.ends_all() && failure.to_string().contains("asks to wait 86400 s"));
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn an_answer_reset_or_cut_at_any_byte_is_asked_again() {
    let whole = said(&json!({ "number": 7 }));
    for at in 0..whole.bytes().len() {
        let reply = whole.clone();
        let server = once_bad(move |asked| match asked.json()["number"].as_u64() {
            Some(0) => Play::ResetAfter(at, reply.clone()),
            _ => Play::CutAfter(at, reply.clone()),
        });
        let calls = start(service(&server));
        all_answered(&calls, 2);
        let stats = calls.stats();
        assert_eq!(stats.retries.get("broken connection"), Some(&2), "{at}: {stats:?}");
    }
}

#[test]
fn an_answer_whose_length_nobody_told_and_that_ends_early_is_asked_again() {
    let whole = said(&json!({ "number": 0 })).with("connection", "close");
    let server = once_bad(move |_| Play::CutAfter(whole.bytes().len() - 1, whole.clone()));
    let calls = start(service(&server));
    all_answered(&calls, 1);
    assert_eq!(calls.stats().retries.get("unusable answer"), Some(&1));
}

#[test]
fn a_slow_answer_is_read_to_its_end_and_a_silent_one_is_not() {
    // It drips for longer than both times, but never pauses for so long.
    let server = Loopback::start(|asked| {
        let reply = said(&asked.json()).with("x-long", "y".repeat(40));
        Play::Drip { every: 4 * MS, bytes: 1, reply }
    });
    let (calls, begun) = (start(service(&server)), Instant::now());
    all_answered(&calls, 1);
    assert!(begun.elapsed() > 400 * MS && calls.stats().sent == 1, "{:?}", calls.stats());

    // From the beginning, within the status line, the headers and the body.
    for (after, least) in [(0, 300), (5, 60), (30, 60), (usize::MAX, 60)] {
        let server = once_bad(move |asked| {
            let reply = said(&asked.json());
            let end = reply.bytes().len() - 1;
            Play::SilentAfter(after.min(end), reply)
        });
        let (calls, begun) = (start(service(&server)), Instant::now());
        all_answered(&calls, 1);
        assert!(begun.elapsed() >= least * MS, "{after}: {:?}", begun.elapsed());
        assert_eq!(calls.stats().retries.get("silence"), Some(&1), "{after}");
    }
    let server = Loopback::start(|_| Play::silence());
    let failure = only_failure(&start(Service { attempts: 2, ..service(&server) }));
    assert!(!failure.ends_all());
    assert!(failure.to_string().ends_with("nothing came for 0.3 s (tried 2 times)"), "{failure}");
}

#[test]
fn answers_that_are_no_json_or_do_not_say_what_they_should_are_asked_again() {
    for body in ["{\"said\": 1", "", "<html>", "null", "[]", "{\"said\": \"x\"}", "\u{0}"] {
        let server = once_bad(move |_| Play::Reply(Reply::text(200, body)));
        let calls = start(service(&server));
        all_answered(&calls, 3);
        assert_eq!(calls.stats().retries.get("unusable answer"), Some(&3), "{body}");
    }
    let server = Loopback::start(|_| Play::json(&json!({"choices": []})));
    let failure = only_failure(&start(Service { attempts: 3, ..service(&server) }));
    assert_eq!((server.asked().len(), failure.ends_all()), (3, false));
    assert_eq!(failure.cause(), &Cause::Unusable("it says nothing".into()));
}

#[test]
fn a_reader_that_panics_leaves_no_call_without_an_end() {
    let server = Loopback::start(|asked| echo(&asked.json()));
    let service = Service { attempts: 1, ..service(&server) };
    let calls = w2s::http::Calls::start(service, |_, _| -> Result<(u64, _), String> {
        std::panic::resume_unwind(Box::new(()))
    });
    let failure = only_failure(&calls);
    assert_eq!(failure.cause(), &Cause::Unusable("reading it failed".into()));
}

#[test]
fn what_concerns_one_prompt_ends_it_alone_and_what_concerns_all_ends_all() {
    for (status, ends_all) in [
        (400, false),
        (413, false),
        (422, false),
        (401, true),
        (403, true),
        (404, true),
        (308, true),
    ] {
        let server = Loopback::start(move |asked| match asked.json()["number"].as_u64() {
            Some(1) => Play::Reply(Reply::json(status, &json!({"error": {"message": "no"}}))),
            _ => echo(&asked.json()),
        });
        let calls = start(with_slots(&server, 1));
        (0..4).for_each(|number| calls.submit(number, call(number)));
        let ends = collect(&calls, 4);
        assert!(ends[0].1.is_ok());
        let failure = ends[1].1.as_ref().unwrap_err();
        assert_eq!(failure.ends_all(), ends_all, "{failure}");
        let text = failure.to_string();
        assert!(text.ends_with(&format!("the server answered with status {status}: no")), "{text}");
        for (_, end) in &ends[2..] {
            assert_eq!(end.is_err(), ends_all, "{status}");
        }
        assert_eq!(server.asked().len(), if ends_all { 2 } else { 4 });
        calls.submit(9, call(9));
        assert_eq!(collect(&calls, 1)[0].1.is_err(), ends_all, "and those handed in later");
    }
}

#[test]
fn a_quota_that_is_used_up_is_not_waited_for() {
    let said = json!({"error": {"message": "pay first", "code": "insufficient_quota"}});
    let server = Loopback::start(move |_| Play::Reply(Reply::json(429, &said)));
    let failure = only_failure(&start(service(&server)));
    assert!(failure.ends_all() && failure.to_string().contains("pay first"));
    assert_eq!(server.asked().len(), 1);
    let error = w2s::error::Error::from(failure).to_string();
    assert!(error.contains("\n\nhint: the account has nothing left"), "{error}");
}

#[test]
fn a_server_that_only_refuses_is_given_up_by_all_calls_at_once() {
    let server = Loopback::start(|_| Play::Reply(Reply::text(429, "slow down")));
    let mut service = with_slots(&server, 4);
    service.attempts = 3;
    let (calls, begun) = (start(service), Instant::now());
    (0..50).for_each(|number| calls.submit(number, call(number)));
    let ends = collect(&calls, 50);
    assert!(ends.iter().all(|(_, end)| end.as_ref().is_err_and(|failure| failure.ends_all())));
    assert!(begun.elapsed() >= 300 * MS, "it was waited for");
    assert!(server.asked().len() < 30, "{} refusals", server.asked().len());
}

#[test]
fn single_questions_are_asked_again_and_probes_are_not() {
    let server = once_bad(|_| Play::Reply(Reply::text(500, "oh")));
    let asked = Call::post("completions", json!({"number": 3}));
    let reply = service(&server).ask_once(&asked).unwrap();
    assert_eq!((reply.status, reply.said(&service(&server)).as_str()), (500, "oh"));
    assert_eq!(service(&server).ask_once(&asked).unwrap().json(), Some(&json!({"said": 3})));
    let server = once_bad(|_| Play::Reply(Reply::text(500, "oh")));
    assert_eq!(service(&server).ask(&asked).unwrap(), json!({"said": 3}));
    let server = Loopback::start(|asked| match asked.method.as_str() {
        "GET" => Play::json(&json!({"path": asked.path})),
        _ => Play::Reply(Reply::text(405, "")),
    });
    assert_eq!(service(&server).ask(&Call::get("models")).unwrap(), json!({"path": "/v1/models"}));
    let native = format!("{}/props", server.url());
    assert_eq!(service(&server).ask(&Call::get(native)).unwrap(), json!({"path": "/props"}));
    let failure = service(&server).ask(&asked).unwrap_err();
    assert!(failure.ends_all() && server.asked().len() == 3);
}

#[test]
fn waits_grow_with_each_failure_of_a_call() {
    let server = Loopback::start(|_| Play::Reply(Reply::text(500, "")));
    let mut service = Service { attempts: 6, ..service(&server) };
    service.timeouts.first_wait = Duration::from_millis(8);
    let failure = only_failure(&start(service));
    assert!(failure.to_string().ends_with("status 500 (tried 6 times)"), "{failure}");
    let asked = server.asked();
    let gaps: Vec<_> = asked.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    for (gap, most) in gaps.iter().zip([8, 16, 32, 64, 128]) {
        assert!(*gap >= most / 2 * MS, "{gaps:?}");
    }
}
