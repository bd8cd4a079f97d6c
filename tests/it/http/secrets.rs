//! The key goes to its server and nowhere else: not to other hosts, logs, errors and `{:?}`.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use serde_json::json;
use w2s::http::{Call, Secret, Service};

use super::{call, collect, echo, only_failure, service, start};
use crate::common::loopback::{Loopback, Play, Reply};

const KEY: &str = "sk-very-secret-4711";

fn with_key(server: &Loopback) -> Service {
    let key = Some(Secret::new(KEY, "the environment variable `SOME_KEY`"));
    Service { key, attempts: 2, ..service(server) }
}

/// What is logged goes here.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_key_is_sent_to_its_own_host_alone() {
    let (server, other) = (
        Loopback::start(|asked| echo(&asked.json())),
        Loopback::start(|asked| echo(&asked.json())),
    );
    let calls = start(with_key(&server));
    calls.submit(0, call(0));
    let elsewhere = Call { path: format!("{}/v1/completions", other.url()), ..call(1) };
    calls.submit(1, elsewhere);
    assert!(collect(&calls, 2).iter().all(|(_, end)| end.is_ok()));
    let bearer = format!("Bearer {KEY}");
    assert_eq!(server.asked()[0].header("authorization"), Some(bearer.as_str()));
    assert_eq!(other.asked()[0].header("authorization"), None);
}

#[test]
fn the_key_is_in_no_error_log_or_debugging_even_where_servers_repeat_it() {
    let log = Log::default();
    let mut shown = Vec::new();
    for (status, body) in [
        (401, json!({"error": {"message": format!("incorrect key: {KEY}")}}).to_string()),
        (500, format!("<html>Authorization: Bearer {KEY}</html>")),
        (500, format!("{}{KEY}", "x".repeat(290))),
        (200, format!("no JSON but {KEY}")),
        (200, json!({"other": KEY}).to_string()),
    ] {
        let server = Loopback::start(move |_| Play::Reply(Reply::text(status, body.as_str())));
        let service = with_key(&server);
        shown.push(format!("{service:?} {:?}", service.key));
        shown.push(service.key.clone().unwrap().to_string());
        let failure = only_failure(&start(service.clone()));
        shown.push(format!("{failure} {failure:?}"));
        shown.push(w2s::error::Error::from(failure).to_string());
        let reply = service.ask_once(&call(0)).unwrap();
        shown.push(reply.said(&service));
        tracing::subscriber::with_default(written_to(&log), || {
            let _ = service.ask(&call(0));
        });
    }
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("status 500") && logged.contains("trying again"), "{logged}");
    shown.push(logged);
    for text in shown {
        assert!(!text.contains("sk-"), "{text}");
    }
}

fn written_to(log: &Log) -> impl tracing::Subscriber + Send + Sync + 'static {
    let to = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || to.clone())
        .finish()
}

#[test]
fn a_key_that_is_missing_or_refused_is_told_by_its_name() {
    let error = Secret::of_variable("W2S_TEST_NO_SUCH_KEY").unwrap_err().to_string();
    assert!(error.contains("`W2S_TEST_NO_SUCH_KEY` that is to hold a key is not set"), "{error}");
    let server = Loopback::start(|_| Play::Reply(Reply::text(401, "")));
    let error = w2s::error::Error::from(only_failure(&start(with_key(&server)))).to_string();
    assert!(error.contains("hint: the key is that of the environment variable `SOME_KEY`"));
    let error = w2s::error::Error::from(only_failure(&start(service(&server)))).to_string();
    assert!(error.contains("hint: name the environment variable that holds the key"), "{error}");
}
