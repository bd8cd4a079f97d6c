//! The loopback server itself, seen by a client of plain bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::loopback::{Loopback, Play, Reply};

const ASK: &[u8] = b"POST /v1/x HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\n{}";

fn open(server: &Loopback) -> TcpStream {
    let stream = TcpStream::connect(server.url().trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    stream
}

/// What comes for a request, and what ended it.
fn said(stream: &mut TcpStream) -> (String, Result<usize, ErrorKind>) {
    stream.write_all(ASK).unwrap();
    let mut all = Vec::new();
    let end = stream.read_to_end(&mut all).map_err(|error| error.kind());
    (String::from_utf8(all).unwrap(), end)
}

#[test]
fn a_played_server_answers_cuts_resets_and_is_silent() {
    let whole = Reply::json(200, &json!({"a": 1}));
    let length = whole.bytes().len();
    let server = Loopback::start(move |asked| match asked.number {
        0 | 1 => Play::Reply(whole.clone()),
        2 => Play::CutAfter(9, whole.clone()),
        3 => Play::ResetAfter(9, whole.clone()),
        4 => Play::SilentAfter(9, whole.clone()),
        _ => Play::Drip { every: Duration::from_millis(1), bytes: 10, reply: whole.clone() },
    });
    let mut kept = open(&server);
    for _ in 0..2 {
        let (text, end) = said(&mut kept);
        assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("\r\n\r\n{\"a\":1}"), "{text}");
        assert_eq!(end, Err(ErrorKind::WouldBlock), "the connection is kept");
    }
    assert_eq!(said(&mut open(&server)), ("HTTP/1.1 ".into(), Ok(9)));
    assert_eq!(said(&mut open(&server)), ("HTTP/1.1 ".into(), Err(ErrorKind::ConnectionReset)));
    assert_eq!(said(&mut open(&server)), ("HTTP/1.1 ".into(), Err(ErrorKind::WouldBlock)));
    let begun = Instant::now();
    assert_eq!(said(&mut open(&server)).0.len(), length);
    assert!(begun.elapsed() > Duration::from_millis(length as u64 / 10));
    let asked = server.asked();
    assert_eq!((asked.len(), asked[5].json()), (6, json!({})));
    assert_eq!((asked[5].method.as_str(), asked[5].path.as_str()), ("POST", "/v1/x"));
    assert_eq!(asked[0].header("host"), Some("here"));
}

#[test]
fn a_played_server_stops_and_serves_on_the_same_port_again() {
    let server = Loopback::start(|_| Play::json(&json!(1)).slow(Duration::from_millis(1)));
    let url = server.url();
    let mut kept = open(&server);
    said(&mut kept).1.unwrap_err();
    server.stop();
    assert!(kept.write_all(ASK).is_err() || matches!(kept.read(&mut [0; 9]), Ok(0) | Err(_)));
    assert!(TcpStream::connect(url.trim_start_matches("http://")).is_err());
    server.restart();
    assert!(said(&mut open(&server)).0.starts_with("HTTP/1.1 200"));
    assert_eq!((server.url(), server.in_flight_most()), (url, 1));
}
