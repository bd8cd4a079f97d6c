//! The client for bad days against a server on the loopback interface that has them.

mod pacing;
mod played;
mod restarts;
mod retries;
mod secrets;
mod spending;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use w2s::http::{Answer, Call, Calls, Failure, Service, Timeouts, Tokens};

use crate::common::loopback::{Loopback, Play, Reply};

const MS: Duration = Duration::from_millis(1);

/// The server's, by a client whose patience is that of a test.
fn service(server: &Loopback) -> Service {
    let timeouts =
        Timeouts { connect: 2000 * MS, first_byte: 300 * MS, silence: 60 * MS, first_wait: 4 * MS };
    Service { timeouts, ..Service::new("models.large", &format!("{}/v1/", server.url())) }
}

fn tokens(prompt: u64, completion: u64) -> Tokens {
    Tokens { prompt, completion }
}

/// Asks for `number`, and may cost 10 and 20 tokens.
fn call(number: u64) -> Call {
    let most = tokens(10, 20);
    Call { most, ..Call::post("completions", json!({ "number": number })) }
}

/// Reads `{"said": number}`, which costs 10 and 5 tokens.
fn read(_: &Call, value: Value) -> Result<(u64, Tokens), String> {
    let said = value["said"].as_u64().ok_or("it says nothing")?;
    Ok((said, tokens(10, 5)))
}

fn start(service: Service) -> Calls<u64> {
    Calls::start(service, read)
}

/// Answers with the number that was asked for.
fn echo(body: &Value) -> Play {
    Play::Reply(said(body))
}

fn said(body: &Value) -> Reply {
    Reply::json(200, &json!({ "said": body["number"] }))
}

type Ends = Vec<(u64, Result<Answer<u64>, Failure>)>;

/// The ends of so many calls, by their numbers.
fn collect(calls: &Calls<u64>, count: usize) -> Ends {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut ends = Vec::new();
    while ends.len() < count {
        assert!(Instant::now() < deadline, "{} of {count}: {:?}", ends.len(), calls.stats());
        ends.extend(calls.collect(100 * MS));
    }
    ends.sort_by_key(|(number, _)| *number);
    ends
}

/// Hands in `count` calls, all of which must be answered, each with its own number.
fn all_answered(calls: &Calls<u64>, count: u64) {
    (0..count).for_each(|number| calls.submit(number, call(number)));
    for (number, end) in collect(calls, count as usize) {
        assert_eq!(end.unwrap_or_else(|failure| panic!("{number}: {failure}")).value, number);
    }
}

/// The failure of the one call that was handed in.
fn only_failure(calls: &Calls<u64>) -> Failure {
    calls.submit(0, call(0));
    collect(calls, 1).remove(0).1.unwrap_err()
}
