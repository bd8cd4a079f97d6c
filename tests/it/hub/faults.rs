//! Hubs that are busy, broken or hostile, and caches that are wrong.

use std::fs;
use std::time::Duration;

use w2s::hub;
use w2s::hub::HubSettings;
use w2s::recipe::HubId;

use super::{ALL, ID, MODEL, Place, bodies, tree};
use crate::common::failure;
use crate::hub_server::{Fault, tag};

#[test]
fn what_is_not_there_is_said_in_one_line() {
    let place = Place::new();
    let error = failure(&mut place.steer("owner/tinny"), 1);
    assert!(
        error.contains("owner/tinny: the hub has no such repository or revision (404)"),
        "{error}"
    );
    assert!(error.contains("if a local folder was meant, there is none of this name"), "{error}");
    let error = place.fetch_as("owner/tiny@v2", hub::Files::All, place.settings()).unwrap_err();
    assert!(error.contains("owner/tiny@v2: the repository has no such revision (404)"), "{error}");
    assert_eq!(place.server.requests().len(), 2, "asked once each");
    let error = place.hub().dataset(&HubId::parse(ID).unwrap(), ALL).unwrap_err().to_string();
    assert!(error.contains("(404)"), "a model is no data set: {error}");
}

#[test]
fn a_busy_hub_is_waited_for_as_long_as_it_asks() {
    let place = Place::new();
    let busy = |wait: &str| Fault::Status(429, vec![("retry-after", wait.to_owned())]);
    // With an hour as the program's own first wait, only the hub's word can have ended it.
    let patient = HubSettings { first_wait: Duration::from_secs(3600), ..place.settings() };
    place.server.fault("/api/", 2, busy("0"));
    place.server.fault("/resolve/", 2, busy("0"));
    place.server.fault(
        "/resolve/",
        1,
        Fault::Status(429, vec![("ratelimit", "\"resolvers\";r=0;t=0".to_owned())]),
    );
    let error = place.fetch_as(ID, hub::Files::All, patient).unwrap_err();
    assert!(error.contains("too many requests (429)"), "three in a row for one file: {error}");
    place.server.heal();
    place.server.fault("/resolve/", 2, busy("0"));
    place.server.fault("/resolve/", 1, Fault::Status(503, Vec::new()));
    let slow = HubSettings { attempts: 4, ..place.settings() };
    place.fetch_as(ID, hub::Files::All, slow).unwrap();
}

#[test]
fn a_hub_that_stays_busy_is_given_up() {
    let place = Place::new();
    place.server.fault("/api/", 99, Fault::Status(429, Vec::new()));
    let error = place.fetch().unwrap_err();
    assert!(
        error.contains(
            "owner/tiny: the hub refuses: too many requests (429)\n\nhint: wait some minutes"
        ),
        "{error}"
    );
    assert_eq!(place.server.requests().len(), 3);
    place.server.heal();
    place.server.fault("/api/", 1, Fault::Status(429, vec![("retry-after", "86400".to_owned())]));
    assert!(place.fetch().unwrap_err().contains("(429)"), "a day is not waited for");
    assert_eq!(place.server.requests().len(), 1);
}

#[test]
fn a_dropped_connection_is_resumed_where_it_broke() {
    let place = Place::new();
    let bytes = place.publish_large(300_000);
    place.server.fault("model.safetensors", 1, Fault::Drop(100_000));
    place.server.fault("model.safetensors", 1, Fault::Drop(50_000));
    let snapshot = place.fetch().unwrap();
    assert_eq!(fs::read(snapshot.join("model.safetensors")).unwrap(), bytes);
    let requests = place.server.requests();
    let ranges: Vec<_> = bodies(&requests, "model.safetensors")
        .iter()
        .map(|request| (request.range.clone().unwrap(), request.sent))
        .collect();
    let expected = [("bytes=0-", 100_000), ("bytes=100000-", 50_000), ("bytes=150000-", 150_000)];
    assert_eq!(ranges, expected.map(|(range, sent)| (range.to_owned(), sent)));
}

#[test]
fn bytes_that_come_renew_patience_and_the_next_run_resumes_too() {
    let place = Place::new();
    let bytes = place.publish_large(60_000);
    // Five breaks with bytes between them are no reason to stop; three without are.
    place.server.fault("model.safetensors", 5, Fault::Drop(10_000));
    place.server.fault("model.safetensors", 3, Fault::Drop(0));
    let error = place.fetch().unwrap_err();
    assert!(error.contains("only 50000 of 60000 bytes of model.safetensors came"), "{error}");
    assert!(
        error.contains("hint: start the same command again: it continues where this ended"),
        "{error}"
    );
    assert!(
        place.fetch_as(ID, hub::Files::All, place.offline()).is_err(),
        "half a model is no model"
    );
    place.server.heal();
    place.server.requests();
    assert_eq!(fs::read(place.fetch().unwrap().join("model.safetensors")).unwrap(), bytes);
    assert_eq!(
        bodies(&place.server.requests(), "model.safetensors")
            .iter()
            .map(|request| request.sent)
            .sum::<usize>(),
        10_000
    );
}

#[test]
fn a_file_that_ends_early_as_if_whole_is_not_taken_for_whole() {
    let place = Place::new();
    let bytes = place.publish_large(50_000);
    place.server.fault("model.safetensors", 1, Fault::Truncate(20_000));
    place.server.fault("model.safetensors", 9, Fault::Truncate(0));
    let error = place.fetch().unwrap_err();
    assert!(
        error.contains(
            "only 20000 of 50000 bytes of model.safetensors came: the answer ended early"
        ),
        "{error}"
    );
    assert!(
        !place.cached("blobs").join(tag(&bytes)).exists(),
        "{:?}",
        tree(&place.cached("blobs"))
    );
    assert!(tree(&place.cached("snapshots")).iter().all(|path| !path.contains("safetensors")));
    assert!(!place.cached("refs/main").exists());
    place.server.heal();
    place.server.requests();
    assert_eq!(fs::read(place.fetch().unwrap().join("model.safetensors")).unwrap(), bytes);
    assert_eq!(
        bodies(&place.server.requests(), "model.safetensors")[0].range.as_deref(),
        Some("bytes=20000-")
    );
}

#[test]
fn a_file_of_the_wrong_size_is_refused_and_not_kept() {
    let place = Place::new();
    let blob = place.cached("blobs").join(tag(place.weights()));
    place.server.fault("model.safetensors", 1, Fault::Longer(7));
    let error = place.fetch().unwrap_err();
    let size = place.weights().len();
    assert!(
        error.contains(&format!(
            "model.safetensors has {} bytes, but {size} were announced",
            size + 7
        )),
        "{error}"
    );
    let left = || {
        tree(&place.cached(""))
            .into_iter()
            .filter(|path| path.contains(&tag(place.weights())) || path.contains("safetensors"))
    };
    assert!(left().all(|path| path.ends_with(".lock")), "{:?}", left().collect::<Vec<_>>());

    place.server.list("model.safetensors", 12);
    let error = place.fetch().unwrap_err();
    assert!(
        error.contains(&format!("model.safetensors has {size} bytes, but 12 were announced")),
        "{error}"
    );
    assert!(!blob.exists());
}

#[test]
fn what_the_cache_has_wrong_is_put_right() {
    let place = Place::new();
    let snapshot = place.fetch().unwrap();
    let blob = place.cached("blobs").join(tag(place.weights()));
    for (what, damage) in [("cut", 10), ("empty", 0)] {
        fs::write(&blob, &place.weights()[..damage]).unwrap();
        place.fetch().unwrap();
        assert_eq!(
            fs::read(snapshot.join("model.safetensors")).unwrap(),
            place.weights(),
            "{what}"
        );
    }
    fs::remove_file(&blob).unwrap();
    let error = place.fetch_as(ID, hub::Files::All, place.offline()).unwrap_err();
    assert!(error.contains("has no weights"), "a link to nowhere: {error}");
    // A part that is whole, one that is too long, and one that was put aside by a process that
    // ended right then.
    let longer = [place.weights(), b"more"].concat();
    for (extension, content) in
        [("part", place.weights()), ("part", &longer), ("short", &place.weights()[..20])]
    {
        let _ = fs::remove_file(&blob);
        fs::write(blob.with_extension(extension), content).unwrap();
        place.fetch().unwrap();
        assert_eq!(fs::read(snapshot.join("model.safetensors")).unwrap(), place.weights());
    }
}

#[test]
fn the_cache_stands_in_only_where_the_network_is_to_blame() {
    let place = Place::new();
    place.server.fault("/api/", 99, Fault::Silence);
    let error = place.fetch().unwrap_err();
    assert!(
        error.contains("owner/tiny: the hub cannot be reached: ")
            && error.contains("HF_HUB_OFFLINE=1"),
        "{error}"
    );
    assert_eq!(place.server.requests().len(), 3, "tried again");
    place.server.heal();
    let snapshot = place.fetch().unwrap();
    let nobody = HubSettings { endpoint: "http://127.0.0.1:9".to_owned(), ..place.settings() };
    assert_eq!(place.fetch_as(ID, hub::Files::All, nobody.clone()).unwrap(), snapshot);
    assert!(
        place
            .fetch_as("owner/other", hub::Files::All, nobody)
            .unwrap_err()
            .contains("cannot be reached")
    );
    place.server.fault("/api/", 1, Fault::Status(404, Vec::new()));
    assert!(place.fetch().unwrap_err().contains("(404)"), "gone is gone");
    place.server.fault("/api/", 1, Fault::Status(502, Vec::new()));
    assert_eq!(place.fetch().unwrap(), snapshot);
}

#[test]
fn names_that_lead_out_of_the_cache_are_refused_before_anything_is_written() {
    for name in ["../../evil", "/tmp/w2s-evil", "a/../../evil", "..\\evil", "a//b"] {
        let place = Place::new();
        place.server.list(name, 4);
        let error = place.fetch().unwrap_err();
        assert!(
            error.contains("which could lie outside its folder\n\nhint: nothing was written"),
            "{name}: {error}"
        );
        assert_eq!(place.server.requests().len(), 1);
        assert!(tree(&place.home.path().join("hub")).is_empty());
    }
    let index =
        |shard: &str| serde_json::json!({ "weight_map": { "a": shard } }).to_string().into_bytes();
    for shard in ["../../evil.safetensors", "/tmp/evil.safetensors", "sub/x.safetensors", ".."] {
        let place = Place::new();
        let mut files = place.model.clone();
        files.remove("model.safetensors");
        files.insert("model.safetensors.index.json".to_owned(), index(shard));
        place.server.publish(MODEL, "main", files);
        let error = place.fetch().unwrap_err();
        assert!(
            error.contains(&format!(
                "model.safetensors.index.json names \"{shard}\", which is no file beside it"
            )),
            "{error}"
        );
        assert!(tree(place.home.path()).iter().all(|path| !path.contains("evil")));
    }
    for (header, value) in [
        ("etag", "\"../../../evil\""),
        ("x-repo-commit", "../../evil"),
        ("content-range", "bytes 0-0/many"),
    ] {
        let place = Place::new();
        place.server.fault("/resolve/", 99, Fault::Header(header, value.to_owned()));
        let error = place.fetch().unwrap_err();
        assert!(
            error.contains("no usable") || error.contains("but the hub answered for"),
            "{header}: {error}"
        );
        assert!(
            tree(place.home.path())
                .iter()
                .all(|path| !path.contains("evil") && !path.starts_with("hub/")),
            "{header}"
        );
    }
}
