//! Connections that fall silent: given up after a bound, and tried again where they stopped.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use w2s::hub;
use w2s::hub::HubSettings;

use super::{ID, Place, bodies};
use crate::common::{failure, success};
use crate::hub_server::Fault;

const SOON: Duration = Duration::from_millis(150);

fn hurried(place: &Place) -> HubSettings {
    HubSettings { etag_timeout: SOON, download_timeout: SOON, ..place.settings() }
}

#[test]
fn a_connection_on_which_nothing_comes_is_given_up_and_made_again() {
    let place = Place::new();
    // Descriptions, what is told of a file, and its bytes; two failures each, the third succeeds.
    for path in ["/api/", "tokenizer.json", "/cdn/"] {
        place.server.fault(path, 2, Fault::Hang(None));
    }
    let start = Instant::now();
    let snapshot = place.fetch_as(ID, hub::Files::All, hurried(&place)).unwrap();
    assert_eq!(fs::read(snapshot.join("model.safetensors")).unwrap(), place.weights());
    assert!(start.elapsed() >= 6 * SOON, "each was waited for");

    // One that stays silent is given up after as many tries as any other failure.
    let place = Place::new();
    place.server.fault("/api/", 99, Fault::Hang(None));
    let error = place.fetch_as(ID, hub::Files::All, hurried(&place)).unwrap_err();
    assert!(
        error.contains(
            "owner/tiny: the hub cannot be reached: nothing came for 0.15 s (HF_HUB_ETAG_TIMEOUT)"
        ),
        "{error}"
    );
    assert_eq!(place.server.requests().len(), 3);
}

#[test]
fn a_body_that_stalls_is_continued_where_it_stopped() {
    let place = Place::new();
    let bytes = place.publish_large(300_000);
    // Headers and then nothing; a third of the file; another third.
    for came in [0, 100_000, 100_000] {
        place.server.fault("model.safetensors", 1, Fault::Hang(Some(came)));
    }
    let snapshot = place.fetch_as(ID, hub::Files::All, hurried(&place)).unwrap();
    assert_eq!(fs::read(snapshot.join("model.safetensors")).unwrap(), bytes);
    let requests = place.server.requests();
    let ranges: Vec<_> = bodies(&requests, "model.safetensors")
        .iter()
        .map(|request| (request.range.clone().unwrap(), request.sent))
        .collect();
    let expected = [("bytes=0-", 100_000), ("bytes=100000-", 100_000), ("bytes=200000-", 100_000)];
    assert_eq!(ranges, expected.map(|(range, sent)| (range.to_owned(), sent)));

    let place = Place::new();
    place.publish_large(300_000);
    place.server.fault("model.safetensors", 1, Fault::Hang(Some(70_000)));
    place.server.fault("model.safetensors", 99, Fault::Hang(Some(0)));
    let error = place.fetch_as(ID, hub::Files::All, hurried(&place)).unwrap_err();
    assert!(
        error.contains(
            "only 70000 of 300000 bytes of model.safetensors came: nothing came for 0.15 s \
             (HF_HUB_DOWNLOAD_TIMEOUT)\n\nhint: start the same command again"
        ),
        "{error}"
    );
}

#[test]
fn a_description_that_stalls_is_asked_for_again() {
    let place = Place::new();
    place.server.fault("/api/", 1, Fault::HangDescription(10));
    place.fetch_as(ID, hub::Files::All, hurried(&place)).unwrap();
    let told = place.server.requests();
    assert_eq!(told.iter().filter(|request| request.path.starts_with("/api/")).count(), 2);
}

#[test]
fn the_hubs_own_variables_set_how_long_is_waited() {
    let place = Place::new();
    place.server.fault("/api/", 1, Fault::Hang(None));
    place.server.fault("model.safetensors", 1, Fault::Hang(Some(9)));
    let start = Instant::now();
    let mut steer = place.steer(ID);
    success(steer.env("HF_HUB_ETAG_TIMEOUT", "0.2").env("HF_HUB_DOWNLOAD_TIMEOUT", "0.2"));
    assert!(start.elapsed() < Duration::from_secs(9), "not the 10 s of the default");
    let error = failure(place.steer(ID).env("HF_HUB_ETAG_TIMEOUT", "soon"), 2);
    assert!(error.contains("HF_HUB_ETAG_TIMEOUT = `soon` is no number of seconds"), "{error}");
}

#[test]
fn a_silent_hub_is_left_at_once_when_a_stop_is_asked_for() {
    let place = Place::new();
    place.server.fault("model.safetensors", 99, Fault::Hang(Some(9)));
    let mut steer = place.steer(ID);
    let mut program =
        steer.stdout(Stdio::null()).stderr(Stdio::null()).env("W2S_LOG", "info").spawn().unwrap();
    let start = Instant::now();
    while bodies(&place.server.requests(), "model.safetensors").is_empty() {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
    }
    let asked = Instant::now();
    // SAFETY: a signal to a process of our own.
    unsafe { libc::kill(program.id() as i32, libc::SIGINT) };
    program.wait().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(2), "not the 10 s of the default");
}
