//! A budget holds to the token, whatever is on its way.

use serde_json::json;
use w2s::http::{Budget, Call, Service};

use super::{MS, call, collect, echo, service, start, tokens};
use crate::common::loopback::{Loopback, Play, Reply};

fn with_budget(server: &Loopback, budget: Budget) -> Service {
    Service { budget, ..service(server) }
}

#[test]
fn no_call_is_sent_that_could_break_the_budget() {
    let server = Loopback::start(|asked| echo(&asked.json()).slow(5 * MS));
    // Each may take 30 tokens and takes 15: 12 fit, then 20 are left.
    let budget = Budget { tokens: Some(200), ..Budget::default() };
    let calls = start(with_budget(&server, budget));
    (0..20).for_each(|number| calls.submit(number, call(number)));
    let ends = collect(&calls, 20);
    let answered = ends.iter().filter(|(_, end)| end.is_ok()).count();
    assert_eq!((answered, server.asked().len()), (12, 12));
    assert!(server.in_flight_most() <= 6, "{} were on their way", server.in_flight_most());
    assert_eq!(calls.stats().used, tokens(120, 60));
    let failure = ends[12].1.as_ref().unwrap_err();
    assert!(failure.ends_all());
    let text = failure.to_string();
    assert!(text.contains("180 of 200 tokens are spent, and the next request may take 30"));
    let error = w2s::error::Error::from(failure.clone()).to_string();
    assert!(error.contains("hint: raise `budget`"), "{error}");
}

#[test]
fn what_earlier_runs_paid_counts() {
    let server = Loopback::start(|asked| echo(&asked.json()));
    let budget = Budget {
        cost: Some(0.001),
        price_prompt: 2.0,
        price_completion: 10.0,
        ..Budget::default()
    };
    let calls = start(with_budget(&server, budget));
    // 8e-4 of a thousandth; each call may cost 2.2e-4 and costs 7e-5.
    calls.spent_before(tokens(100, 60));
    (0..3).for_each(|number| calls.submit(number, call(number)));
    let ends = collect(&calls, 3);
    assert_eq!(ends.iter().filter(|(_, end)| end.is_ok()).count(), 0);
    assert!(server.asked().is_empty() && (calls.stats().cost - 8e-4).abs() < 1e-12);

    let calls = start(with_budget(&server, budget));
    calls.spent_before(tokens(90, 40));
    (0..9).for_each(|number| calls.submit(number, call(number)));
    // 5.8e-4 and 7e-5 each: at 7.9e-4, after three, the next might be too much.
    let answered = collect(&calls, 9).iter().filter(|(_, end)| end.is_ok()).count();
    assert_eq!((answered, calls.stats().used), (3, tokens(120, 55)));
}

#[test]
fn refusals_cost_nothing_and_answers_that_broke_may_have_cost_all() {
    let server = Loopback::start(|asked| match asked.number {
        0 => Play::Reply(Reply::text(429, "")),
        1 => Play::Reply(Reply::text(500, "")),
        2 => Play::CutAfter(30, Reply::json(200, &json!({"said": 0}))),
        _ => echo(&asked.json()),
    });
    let budget = Budget { tokens: Some(75), ..Budget::default() };
    let calls = start(with_budget(&server, budget));
    calls.submit(0, call(0));
    assert!(collect(&calls, 1)[0].1.is_ok());
    assert_eq!((calls.stats().used, calls.stats().perhaps), (tokens(10, 5), tokens(10, 20)));
    calls.submit(1, call(1));
    assert!(collect(&calls, 1)[0].1.is_ok(), "30 fit exactly");
    calls.submit(2, call(2));
    assert!(collect(&calls, 1)[0].1.is_err());
    let free = Call { most: tokens(0, 0), ..call(3) };
    calls.submit(3, free);
    assert!(collect(&calls, 1)[0].1.is_err(), "a budget that is used up ends all");
}
