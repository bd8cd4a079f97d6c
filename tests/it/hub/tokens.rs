//! Who is told the token, and what is said of one that the hub refuses.

use std::fs;

use w2s::hub;
use w2s::hub::{HubSettings, Token};

use super::{ID, MODEL, Place, bodies, token};
use crate::common::failure;
use crate::hub_server::{Fault, Server, tag};

const SECRET: &str = "hf_secret";

fn with_token(place: &Place) -> HubSettings {
    HubSettings { token: Some(token(SECRET)), ..place.settings() }
}

/// A hub that asks for the token, and another host that has the same files for everybody.
fn two_hosts() -> (Place, Server) {
    let (place, other) = (Place::new(), Server::start());
    place.server.lock_with_token(MODEL, SECRET);
    other.publish(MODEL, "main", place.model.clone());
    (place, other)
}

/// The other host is asked at least once, and never with the token; the hub always with it.
fn assert_kept(what: &str, place: &Place, other: &Server) {
    let elsewhere = other.requests();
    assert!(!elsewhere.is_empty(), "{what}");
    assert!(elsewhere.iter().all(|request| request.authorization.is_none()), "{what}");
    // The tests' hub sends on to itself under another name.
    let hub = place.server.requests();
    let mut own = hub.iter().filter(|request| !request.path.starts_with("/cdn/"));
    assert!(
        own.all(|request| request.authorization.as_deref() == Some("Bearer hf_secret")),
        "{what}: {hub:?}"
    );
}

fn location(to: String) -> Fault {
    Fault::Status(302, vec![("location", to)])
}

#[test]
fn the_token_never_goes_to_a_host_that_the_hub_sends_on_to() {
    let name = "model.safetensors";
    let (place, other) = two_hosts();
    let cdn = format!("{}/cdn/{}/{name}", other.endpoint, tag(place.weights()));
    // As for large files of the hub: all that is to be known comes with the redirect.
    place.server.fault(name, 99, Fault::Header("location", cdn.clone()));
    let snapshot = place.fetch_as(ID, hub::Files::All, with_token(&place)).unwrap();
    assert_eq!(fs::read(snapshot.join(name)).unwrap(), place.weights());
    assert_kept("linked size", &place, &other);

    // The size is asked of the other host.
    let (place, other) = two_hosts();
    let cdn = format!("{}/cdn/{}/{name}", other.endpoint, tag(place.weights()));
    let headers = vec![
        ("location", cdn),
        ("etag", format!("\"{}\"", tag(place.weights()))),
        ("x-repo-commit", place.commit.clone()),
    ];
    place.server.fault(name, 99, Fault::Status(307, headers));
    let snapshot = place.fetch_as(ID, hub::Files::All, with_token(&place)).unwrap();
    assert_eq!(fs::read(snapshot.join(name)).unwrap(), place.weights());
    assert_kept("no linked size", &place, &other);

    // Everything lies at the other host, also what is told of the repository and small files.
    let (place, other) = two_hosts();
    let description = format!("{}/api/{MODEL}/revision/main?blobs=true", other.endpoint);
    place.server.fault("/api/", 99, location(description));
    for name in place.model.keys() {
        let there = format!("{}/owner/tiny/resolve/{}/{name}", other.endpoint, place.commit);
        place.server.fault(&format!("/{name}"), 99, location(there));
    }
    let snapshot = place.fetch_as(ID, hub::Files::All, with_token(&place)).unwrap();
    assert_eq!(fs::read(snapshot.join(name)).unwrap(), place.weights());
    assert_kept("a mirror", &place, &other);
}

#[test]
fn a_chain_of_redirects_keeps_the_token_where_it_belongs() {
    let name = "model.safetensors";
    let (place, other) = two_hosts();
    // From the hub to itself by a relative address, to the other host, there once around, and from
    // there to where the bytes are.
    let port = other.endpoint.rsplit(':').next().unwrap();
    let moved = format!("/owner/moved/resolve/{}/{name}", place.commit);
    place.server.fault(
        &format!("/owner/tiny/resolve/{}/{name}", place.commit),
        99,
        location(moved),
    );
    let headers = vec![
        ("location", format!("//127.0.0.1:{port}/first/{name}")),
        ("x-linked-etag", format!("\"{}\"", tag(place.weights()))),
        ("x-linked-size", place.weights().len().to_string()),
        ("x-repo-commit", place.commit.clone()),
    ];
    place.server.fault("/owner/moved/", 99, Fault::Status(302, headers));
    other.fault("/second/", 99, location(format!("/cdn/{}/{name}", tag(place.weights()))));
    other.fault("/first/", 99, location(format!("second/{name}")));
    let snapshot = place.fetch_as(ID, hub::Files::All, with_token(&place)).unwrap();
    assert_eq!(fs::read(snapshot.join(name)).unwrap(), place.weights());
    let hub = place.server.requests();
    let moved: Vec<_> = hub.iter().filter(|request| request.path.contains("/moved/")).collect();
    assert_eq!(moved.len(), 2, "{hub:?}");
    assert!(moved.iter().all(|request| request.authorization.is_some()), "the hub itself");
    let there = other.requests();
    assert_eq!(there.len(), 3);
    assert_eq!(there[1].path, format!("/first/second/{name}"));
    assert!(there.iter().all(|request| request.authorization.is_none()), "{there:?}");

    // A circle ends.
    place.server.fault("/api/", 99, location(format!("/api/{MODEL}/revision/main?blobs=true")));
    let error = place.fetch_as(ID, hub::Files::All, with_token(&place)).unwrap_err();
    assert!(error.contains("the hub sends on more than 10 times"), "{error}");
}

#[test]
fn a_server_that_knows_no_ranges_is_read_from_the_beginning() {
    let place = Place::new();
    let bytes = place.publish_large(300_000);
    place.server.fault("model.safetensors", 1, Fault::Drop(100_000));
    place.server.fault("model.safetensors", 1, Fault::NoRanges);
    let snapshot = place.fetch().unwrap();
    assert_eq!(fs::read(snapshot.join("model.safetensors")).unwrap(), bytes);
    let requests = place.server.requests();
    let sent: Vec<_> =
        bodies(&requests, "model.safetensors").iter().map(|request| request.sent).collect();
    assert_eq!(sent, [100_000, 300_000]);
}

#[test]
fn a_refused_token_is_told_in_the_hubs_own_words() {
    let place = Place::new();
    let expired = "User Access Token \"laptop\" is expired";
    let by_header = Fault::Words(401, vec![("x-error-message", expired.to_owned())], "");
    let by_body = Fault::Words(
        401,
        Vec::new(),
        "{\"error\":\"User Access Token \\\"laptop\\\" is expired\"}",
    );
    let said = format!("owner/tiny: the hub refuses access (401): {expired}\n\nhint: ");
    for fault in [by_header, by_body] {
        place.server.fault("/api/", 2, fault);
        let error = failure(place.steer(ID).env("HF_TOKEN", "hf_old"), 1);
        assert!(error.contains(&said), "{error}");
        assert!(
            error.contains("the token that was sent is that of HF_TOKEN: put a valid one there (")
                && error.contains("/settings/tokens)")
                && !error.contains("hf_old"),
            "{error}"
        );
        let file = place.home.path().join("token");
        fs::write(&file, "hf_stored\n").unwrap();
        let error = failure(&mut place.steer(ID), 1);
        assert!(error.contains(&said) && !error.contains("hf_stored"), "{error}");
        let from = format!("the token that was sent is that of the file {}: ", file.display());
        assert!(error.contains(&from), "{error}");
        place.server.heal();
    }

    // The words of another machine cannot write to the terminal as they like.
    let wild = Fault::Words(403, Vec::new(), "{\"error\":\"no\\u001b[31m\\nway.\"}");
    place.server.fault("/api/", 1, wild);
    let settings = HubSettings {
        token: Some(Token { secret: SECRET.to_owned(), from: "the file x".to_owned() }),
        ..place.settings()
    };
    let error = place.fetch_as(ID, hub::Files::All, settings).unwrap_err();
    assert!(error.contains("the hub refuses access (403): no [31m way\n"), "{error}");
    assert!(error.contains("the token in use may not read it: check the file x, and"), "{error}");
    place.server.fault("/api/", 9, Fault::Words(503, Vec::new(), "{\"error\":\"maintenance\"}"));
    let error = place.fetch().unwrap_err();
    assert!(error.contains("the hub answered with status 503: maintenance\n"), "{error}");
}
