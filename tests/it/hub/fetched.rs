//! What is fetched of a repository, and where it lies.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use w2s::hub;
use w2s::hub::HubSettings;

use super::{ID, MODEL, Place, bodies, paths, token, tree};
use crate::common::{failure, output, stderr, stdout, success};
use crate::hub_server::{Fault, tag};

#[test]
fn an_id_works_where_a_folder_does_and_is_fetched_once() {
    let place = Place::new();
    let local = success(&mut place.steer("model"));
    assert!(place.server.requests().is_empty(), "a folder that exists is no hub id");
    assert_eq!(success(&mut place.steer(ID)), local);
    assert_eq!(bodies(&place.server.requests(), "model.safetensors").len(), 1);

    assert_eq!(success(&mut place.steer(ID)), local);
    assert_eq!(
        paths(&place.server.requests()),
        ["/api/models/owner/tiny/revision/main?blobs=true"],
        "one cheap question"
    );

    assert_eq!(success(place.steer(ID).env("HF_HUB_OFFLINE", "1")), local);
    assert!(place.server.requests().is_empty(), "offline means no question at all");

    place.server.fault("/api/", 9, Fault::Silence);
    let without = output(&mut place.steer(ID));
    assert!(
        stdout(&without) == local && stderr(&without).contains("using the copy in the cache"),
        "{}",
        stderr(&without)
    );

    // Another cache is another place, also for the token.
    let other = tempfile::tempdir().unwrap();
    let error =
        failure(place.steer(ID).env("HF_HUB_CACHE", other.path()).env("HF_HUB_OFFLINE", "true"), 1);
    assert!(
        error.contains("owner/tiny: not in the cache")
            && error.contains("hint: unset HF_HUB_OFFLINE"),
        "{error}"
    );
}

#[test]
fn the_cache_has_the_standard_layout_and_only_what_is_read() {
    let place = Place::new();
    let mut files = place.model.clone();
    for name in [
        "README.md",
        "tf_model.h5",
        "pytorch_model.bin",
        "onnx/model.onnx",
        "model.gguf",
        ".gitattributes",
    ] {
        files.insert(name.to_owned(), b"of no use".to_vec());
    }
    let commit = place.server.publish(MODEL, "main", files);
    let snapshot = place.fetch().unwrap();
    assert_eq!(snapshot, place.cached(&format!("snapshots/{commit}")));
    assert_eq!(tree(&snapshot), place.model.keys().cloned().collect::<Vec<_>>());
    for (name, bytes) in &place.model {
        assert_eq!(
            fs::read_link(snapshot.join(name)).unwrap(),
            Path::new("../../blobs").join(tag(bytes))
        );
        assert_eq!(&fs::read(snapshot.join(name)).unwrap(), bytes);
    }
    assert_eq!(tree(&place.cached("refs")), ["main"]);
    assert_eq!(fs::read_to_string(place.cached("refs/main")).unwrap(), commit);
}

#[test]
fn without_weights_means_without_weights() {
    let place = Place::new();
    let snapshot = place.fetch_as(ID, hub::Files::WithoutWeights, place.settings()).unwrap();
    assert!(
        snapshot.join("tokenizer.json").is_file() && !snapshot.join("model.safetensors").exists()
    );
    assert!(!paths(&place.server.requests()).iter().any(|path| path.contains("safetensors")));
    let error = place.fetch_as(ID, hub::Files::All, place.offline()).unwrap_err();
    assert!(error.contains("has no weights that can be read"), "{error}");
    place.fetch().unwrap();
    let requests = place.server.requests();
    assert!(
        !paths(&requests).iter().any(|path| path.contains("tokenizer"))
            && !bodies(&requests, "model.safetensors").is_empty()
    );
}

#[test]
fn shards_are_fetched_by_their_index_and_missed_when_one_is_gone() {
    let place = Place::new();
    let mut files = place.model.clone();
    let weights = files.remove("model.safetensors").unwrap();
    let map = BTreeMap::from([
        ("a", "model-00001-of-00002.safetensors"),
        ("b", "model-00002-of-00002.safetensors"),
        ("c", "model-00001-of-00002.safetensors"),
    ]);
    let index = |map: &BTreeMap<&str, &str>| {
        serde_json::json!({ "metadata": {}, "weight_map": map }).to_string().into_bytes()
    };
    files.insert("model.safetensors.index.json".to_owned(), index(&map));
    for shard in map.values() {
        files.insert((*shard).to_owned(), [weights.as_slice(), shard.as_bytes()].concat());
    }
    files.insert("model-00003-of-00003.safetensors".to_owned(), b"of another index".to_vec());
    place.server.publish(MODEL, "main", files.clone());
    let snapshot = place.fetch().unwrap();
    let shards: Vec<String> =
        tree(&snapshot).into_iter().filter(|name| name.ends_with(".safetensors")).collect();
    assert_eq!(shards, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]);
    place.fetch_as(ID, hub::Files::All, place.offline()).unwrap();
    fs::remove_file(snapshot.join(&shards[1])).unwrap();
    let error = place.fetch_as(ID, hub::Files::All, place.offline()).unwrap_err();
    assert!(error.contains("lacks model-00002-of-00002.safetensors"), "{error}");
    place.server.requests();
    place.fetch().unwrap();
    assert!(
        bodies(&place.server.requests(), ".safetensors").is_empty(),
        "the blob was still there, only its link was not"
    );

    files.insert(
        "model.safetensors.index.json".to_owned(),
        index(&BTreeMap::from([("a", "model-00009-of-00009.safetensors")])),
    );
    place.server.publish(MODEL, "main", files);
    let error = place.fetch().unwrap_err();
    assert!(
        error
            .contains("names model-00009-of-00009.safetensors, which the repository does not have"),
        "{error}"
    );
}

#[test]
fn torchs_own_files_are_the_second_choice() {
    let place = Place::new();
    let mut files = place.model.clone();
    let weights = files.remove("model.safetensors").unwrap();
    files.insert("pytorch_model.bin".to_owned(), weights);
    place.server.publish(MODEL, "main", files.clone());
    assert!(place.fetch().unwrap().join("pytorch_model.bin").is_file());
    files.remove("pytorch_model.bin");
    place.server.publish(MODEL, "main", files);
    assert!(place.fetch().unwrap_err().contains("the repository has no weights that can be read"));
}

#[test]
fn a_revision_is_a_branch_a_tag_or_a_commit_and_shares_what_is_equal() {
    let place = Place::new();
    let main = place.fetch().unwrap();
    let mut files = place.model.clone();
    files.insert("generation_config.json".to_owned(), b"{}".to_vec());
    let commit = place.server.publish(MODEL, "refs/pr/1", files);
    place.server.requests();
    let other = place.fetch_as("owner/tiny@refs/pr/1", hub::Files::All, place.settings()).unwrap();
    assert!(other != main && other.ends_with(&commit));
    assert_eq!(fs::read_to_string(other.join("generation_config.json")).unwrap(), "{}");
    let requests = place.server.requests();
    assert!(
        bodies(&requests, "model.safetensors").is_empty()
            && bodies(&requests, "generation_config.json").len() == 1
    );
    assert_eq!(fs::read_to_string(place.cached("refs/refs/pr/1")).unwrap(), commit);
    for id in [format!("{ID}@{commit}"), "owner/tiny@refs/pr/1".to_owned()] {
        assert_eq!(place.fetch_as(&id, hub::Files::All, place.offline()).unwrap(), other);
        assert_eq!(place.fetch_as(&id, hub::Files::All, place.settings()).unwrap(), other);
    }
    assert_eq!(place.fetch().unwrap(), main, "main is what it was");
}

#[test]
fn a_branch_that_moved_is_followed_and_the_old_state_stays_until_the_new_one_is_whole() {
    let place = Place::new();
    let old = place.fetch().unwrap();
    let bytes = place.publish_large(1000);
    place.server.fault("model.safetensors", 99, Fault::Drop(0));
    assert_eq!(
        place.fetch().unwrap(),
        old,
        "the connection fails, and the cache has a whole state of this branch"
    );
    place.server.heal();
    let new = place.fetch().unwrap();
    assert!(new != old && fs::read(new.join("model.safetensors")).unwrap() == bytes);
}

#[test]
fn a_token_opens_what_is_locked_and_its_bytes_come_without_it() {
    let place = Place::new();
    place.server.lock_with_token(MODEL, "hf_secret");
    let error = failure(&mut place.steer(ID), 1);
    assert!(
        error.contains("owner/tiny: the hub refuses access (401)")
            && error.contains("hint: set HF_TOKEN"),
        "{error}"
    );
    let error = failure(place.steer(ID).env("HF_TOKEN", "hf_wrong"), 1);
    assert!(
        error.contains("hint: the token in use may not read it") && !error.contains("hf_wrong"),
        "{error}"
    );
    assert!(tree(&place.home.path().join("hub")).is_empty());
    place.server.requests();
    success(place.steer(ID).env("HF_TOKEN", "hf_secret"));
    let (elsewhere, hub): (Vec<_>, Vec<_>) =
        place.server.requests().into_iter().partition(|request| request.path.starts_with("/cdn/"));
    assert!(hub.iter().all(|request| request.authorization.as_deref() == Some("Bearer hf_secret")));
    assert!(elsewhere.iter().all(|request| request.authorization.is_none()), "{elsewhere:?}");
    assert_eq!(elsewhere.len(), 1, "nothing but the bytes: {elsewhere:?}");

    // The file that logging in leaves does the same.
    fs::write(place.home.path().join("token"), "hf_secret\n").unwrap();
    success(&mut place.steer(ID));

    place.server.fault(
        "/api/",
        1,
        Fault::Status(403, vec![("x-error-code", "GatedRepo".to_owned())]),
    );
    let error = place
        .fetch_as(
            ID,
            hub::Files::All,
            HubSettings { token: Some(token("hf_secret")), ..place.settings() },
        )
        .unwrap_err();
    assert!(
        error.contains("is gated (403)") && error.contains("hint: accept its terms at http"),
        "{error}"
    );
}

#[test]
fn two_at_once_fetch_one_copy() {
    let place = Place::new();
    let bytes = place.publish_large(400_000);
    std::thread::scope(|scope| {
        let both = [scope.spawn(|| place.fetch().unwrap()), scope.spawn(|| place.fetch().unwrap())];
        for thread in both {
            assert_eq!(fs::read(thread.join().unwrap().join("model.safetensors")).unwrap(), bytes);
        }
    });
}
