//! Hub ids against a server on the loopback interface that plays the hub, well and badly.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::common::{failure, lines, output, stderr, stdout, success, tiny_model, w2s};
use crate::hub_server::{Fault, Files, Request, Server, folder, tag};
use tempfile::TempDir;
use w2s::hub::{self, Choose, Hub, HubSettings};
use w2s::recipe::HubId;

const ID: &str = "owner/tiny";
const MODEL: &str = "models/owner/tiny";
const DATA: &str = "datasets/owner/reviews";

/// Every data file of a data set.
const ALL: &Choose<'static> = &|names| Ok(names.iter().map(|name| (*name).to_owned()).collect());

/// A home for the cache, and a hub with the tiny model at `main`.
struct Place {
    home: TempDir,
    server: Server,
    model: Files,
    commit: String,
}

impl Place {
    fn new() -> Self {
        let (home, server) = (tempfile::tempdir().unwrap(), Server::start());
        let model = folder(&tiny_model(home.path()));
        let commit = server.publish(MODEL, "main", model.clone());
        Self { home, server, model, commit }
    }

    fn settings(&self) -> HubSettings {
        HubSettings {
            cache: self.home.path().join("hub"),
            endpoint: self.server.endpoint.clone(),
            token: None,
            offline: false,
            attempts: 3,
            first_wait: Duration::from_millis(1),
        }
    }

    fn hub(&self) -> Hub {
        Hub::new(self.settings()).unwrap()
    }

    fn fetch(&self) -> Result<PathBuf, String> {
        self.fetch_as(ID, hub::Files::All, self.settings())
    }

    fn fetch_as(
        &self,
        id: &str,
        files: hub::Files,
        settings: HubSettings,
    ) -> Result<PathBuf, String> {
        Hub::new(settings)
            .unwrap()
            .model(&HubId::parse(id).unwrap(), files)
            .map_err(|error| error.to_string())
    }

    fn offline(&self) -> HubSettings {
        HubSettings { offline: true, ..self.settings() }
    }

    fn weights(&self) -> &[u8] {
        &self.model["model.safetensors"]
    }

    /// A file of the model's folder in the cache.
    fn cached(&self, path: &str) -> PathBuf {
        self.home.path().join("hub/models--owner--tiny").join(path)
    }

    /// The tiny model with weights of this size, to be sent in pieces.
    fn publish_large(&self, size: usize) -> Vec<u8> {
        let bytes: Vec<u8> = (0..size).map(|index| (index * 31 % 251) as u8).collect();
        let mut files = self.model.clone();
        files.insert("model.safetensors".to_owned(), bytes.clone());
        self.server.publish(MODEL, "main", files);
        bytes
    }

    /// The program, in an environment where nothing else speaks of hubs.
    fn program(&self) -> Command {
        let mut command = w2s();
        for name in [
            "HF_TOKEN",
            "HF_TOKEN_PATH",
            "HF_HUB_CACHE",
            "HF_HUB_OFFLINE",
            "http_proxy",
            "HTTP_PROXY",
            "all_proxy",
            "ALL_PROXY",
        ] {
            command.env_remove(name);
        }
        command
            .env("HF_HOME", self.home.path())
            .env("HF_ENDPOINT", &self.server.endpoint)
            .current_dir(self.home.path());
        command
    }

    fn steer(&self, base: &str) -> Command {
        let mut command = self.program();
        command.args([
            "steer",
            "--method",
            "base",
            "--dtype",
            "float32",
            "--max-new-tokens",
            "5",
            "ok",
            "--base",
            base,
        ]);
        command
    }
}

/// Every file below a folder, links not followed.
fn tree(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => {
                found.extend(tree(&entry.path()).into_iter().map(|below| format!("{name}/{below}")))
            }
            false => found.push(name),
        }
    }
    found.sort();
    found
}

fn paths(requests: &[Request]) -> Vec<&str> {
    requests.iter().map(|request| request.path.as_str()).collect()
}

/// Requests for the bytes of the file, not only for what is to be known of it.
fn bodies<'a>(requests: &'a [Request], name: &str) -> Vec<&'a Request> {
    let is_body = |request: &&Request| {
        request.path.ends_with(name)
            && request.range.as_deref().is_some_and(|range| range != "bytes=0-0")
    };
    requests.iter().filter(is_body).filter(|request| request.sent > 0).collect()
}

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
    // hf-hub takes the token along where it asks the other host for the size, and only there.
    assert!(
        bodies(&elsewhere, "model.safetensors")
            .iter()
            .all(|request| request.authorization.is_none()),
        "{elsewhere:?}"
    );
    assert_eq!(elsewhere.len(), 2);

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
            HubSettings { token: Some("hf_secret".to_owned()), ..place.settings() },
        )
        .unwrap_err();
    assert!(
        error.contains("is gated (403)") && error.contains("hint: accept its terms at http"),
        "{error}"
    );
}

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

fn reviews() -> Files {
    let rows = |count: usize| -> Vec<u8> {
        (0..count)
            .map(|row| format!("{{\"text\":\"a b c d e f g {row}\",\"label\":{}}}\n", row % 2))
            .collect::<String>()
            .into_bytes()
    };
    let of = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
    Files::from([
        of("train.jsonl", &rows(6)),
        of("validation.jsonl", &rows(3)),
        of("test.jsonl", &rows(4)),
        of("README.md", b"# reviews"),
        of("dataset_infos.json", b"{}"),
        of("pictures/x.png", b"png"),
    ])
}

#[test]
fn a_data_set_comes_with_its_data_files_alone() {
    let place = Place::new();
    let mut files = reviews();
    for part in ["data/more-00000-of-00002.parquet", "data/more-00001-of-00002.parquet"] {
        files.insert(part.to_owned(), part.as_bytes().to_vec());
    }
    let commit = place.server.publish(DATA, "main", files.clone());
    let id = HubId::parse("owner/reviews").unwrap();
    let snapshot = place.hub().dataset(&id, ALL).unwrap();
    assert_eq!(
        snapshot,
        place.home.path().join("hub/datasets--owner--reviews/snapshots").join(commit)
    );
    let names = [
        "data/more-00000-of-00002.parquet",
        "data/more-00001-of-00002.parquet",
        "test.jsonl",
        "train.jsonl",
        "validation.jsonl",
    ];
    assert_eq!(tree(&snapshot), names);
    assert!(names.iter().all(|name| fs::read(snapshot.join(name)).unwrap() == files[*name]));
    let offline = Hub::new(place.offline()).unwrap();
    assert_eq!(offline.dataset(&id, ALL).unwrap(), snapshot);
    fs::remove_file(snapshot.join(names[1])).unwrap();
    assert!(
        offline
            .dataset(&id, ALL)
            .unwrap_err()
            .to_string()
            .contains("lacks data/more-00001-of-00002.parquet")
    );
}

#[test]
fn a_data_set_that_was_not_fetched_to_its_end_is_not_used_offline() {
    let place = Place::new();
    let commit = place.server.publish(DATA, "main", reviews());
    place.server.fault("validation.jsonl", 99, Fault::Drop(0));
    let id = HubId::parse(&format!("owner/reviews@{commit}")).unwrap();
    assert!(place.hub().dataset(&id, ALL).is_err());
    let error = Hub::new(place.offline()).unwrap().dataset(&id, ALL).unwrap_err().to_string();
    assert!(error.contains("was not fetched to its end"), "{error}");
    place.server.heal();
    let snapshot = place.hub().dataset(&id, ALL).unwrap();
    assert_eq!(Hub::new(place.offline()).unwrap().dataset(&id, ALL).unwrap(), snapshot);
    place.server.publish(DATA, "main", Files::from([("README.md".to_owned(), b"#".to_vec())]));
    let error =
        place.hub().dataset(&HubId::parse("owner/reviews").unwrap(), ALL).unwrap_err().to_string();
    assert!(
        error.contains("the repository has no data files")
            && error.contains("@refs/convert/parquet"),
        "{error}"
    );
}

#[test]
fn of_several_splits_only_the_chosen_one_is_fetched() {
    let place = Place::new();
    let splits = ["train_gen", "train_sft", "test_gen", "test_sft"];
    let names = splits.map(|split| format!("data/{split}-00000-of-00001.jsonl"));
    let rows = |split: &str| {
        (0..4)
            .map(|row| format!("{{\"text\":\"{row} {split} a b c\",\"label\":{}}}\n", row % 2))
            .collect::<String>()
    };
    let files = names
        .iter()
        .zip(splits)
        .map(|(name, split)| (name.clone(), rows(split).into_bytes()))
        .collect();
    place.server.publish(DATA, "main", files);
    let recipe = place.home.path().join("recipe.toml");
    let text = "[run]\nname = \"hub\"\ndtype = \"float32\"\n[data]\nsource = \
                \"owner/reviews\"\ntrain = 0\nvalidation = 1\ntest = 2\n\
                [models.base]\nid = \"owner/tiny\"\n[steer]\nbases = [\"base\"]\nprompts = \
                1\nmax_new_tokens = 4\n\
                [[steer.method]]\nkind = \"base\"\n[data.prompt]\nmin_words = 1\nmax_words = 2\n";
    fs::write(&recipe, text).unwrap();
    let out = place.home.path().join("run");
    let run = |splits: &[&str]| {
        let mut command = place.program();
        command.arg("run").arg(&recipe).arg("--out").arg(&out).arg("--fresh");
        command.args(
            splits.iter().flat_map(|split| ["--set".to_owned(), format!("data.splits.{split}")]),
        );
        command
    };
    let error = failure(&mut run(&[]), 1);
    let families = "`train_gen` (`data/train_gen-00000-of-00001.jsonl`), `train_sft` \
                    (`data/train_sft-00000-of-00001.jsonl`)";
    assert!(
        error.contains(&format!(
            "owner/reviews: the train split could be any of 2: {families}\n\nhint: "
        )),
        "{error}"
    );
    let fetched = || -> Vec<String> {
        let requests = place.server.requests();
        names.iter().filter(|name| !bodies(&requests, name).is_empty()).cloned().collect()
    };
    assert_eq!(fetched(), [""; 0], "before anything of it is fetched");
    let chosen = ["train=\"train_sft\"", "test=\"test_sft\""];
    let done = output(&mut run(&chosen));
    assert!(done.status.success(), "{}", stderr(&done));
    assert_eq!(fetched(), [names[1].clone(), names[3].clone()]);
    let read = "data: train: 4 rows of `data/train_sft-00000-of-00001.jsonl`\n";
    assert!(
        stderr(&done).contains(read) && stderr(&done).contains("held out by the seed"),
        "{}",
        stderr(&done)
    );
    // What the cache has is enough for the same choice, and for no other.
    success(run(&chosen).env("HF_HUB_OFFLINE", "1"));
    let error =
        failure(run(&["train=\"train_gen\"", "test=\"test_sft\""]).env("HF_HUB_OFFLINE", "1"), 1);
    assert!(
        error.contains(
            "`data.splits.train` is `train_gen`, but no data file is called so, and HF_HUB_OFFLINE"
        ),
        "{error}"
    );
    success(&mut run(&["train=\"train_gen\"", "test=\"test_sft\""]));
    assert_eq!(fetched(), [names[0].clone()]);
}

#[test]
fn a_recipe_takes_ids_and_check_fetches_no_weights_and_no_data() {
    let place = Place::new();
    place.server.publish(DATA, "main", reviews());
    let recipe = place.home.path().join("recipe.toml");
    let text = "[run]\nname = \"hub\"\ndtype = \"float32\"\n[data]\nsource = \
                \"owner/reviews\"\ntrain = 2\nvalidation = 1\ntest = 2\n\
                [models.base]\nid = \"owner/tiny\"\n[steer]\nbases = [\"base\"]\nprompts = \
                1\nmax_new_tokens = 4\n\
                [[steer.method]]\nkind = \"base\"\n[data.prompt]\nmin_words = 1\nmax_words = 2\n";
    fs::write(&recipe, text).unwrap();
    let plan = success(place.program().arg("check").arg(&recipe));
    assert!(plan.contains("data owner/reviews (a hub data set; a run fetches it first)"), "{plan}");
    assert!(plan.contains(", from owner/tiny\n") && plan.contains("context 32"), "{plan}");
    let requests = place.server.requests();
    assert!(
        !paths(&requests)
            .iter()
            .any(|path| path.contains("safetensors") || path.contains("datasets")),
        "{requests:?}"
    );

    // A model that cannot be used is told by its config alone, before its weights are fetched,
    // beside what is wrong with others.
    let mut quantised = place.model.clone();
    let mut config: serde_json::Value = serde_json::from_slice(&quantised["config.json"]).unwrap();
    config["quantization_config"] = serde_json::json!({ "quant_method": "gptq", "bits": 4 });
    quantised.insert("config.json".to_owned(), config.to_string().into_bytes());
    place.server.publish("models/owner/quantised", "main", quantised);
    for command in ["check", "run"] {
        let mut command = place
            .program()
            .arg(command)
            .arg(&recipe)
            .args(["--set", "models.base.id=owner/quantised"])
            .output()
            .unwrap();
        let error = String::from_utf8(std::mem::take(&mut command.stderr)).unwrap();
        assert!(
            error.contains("`models.base.id`: ")
                && error.contains("the weights are quantised by GPTQ to 4 bits"),
            "{error}"
        );
        assert!(
            command.status.code() == Some(2)
                && !paths(&place.server.requests()).iter().any(|path| path.contains("safetensors"))
        );
    }

    // What is wrong with the recipe is told before anything is asked.
    let error =
        failure(place.program().arg("run").arg(&recipe).args(["--set", "steer.prompts=99"]), 2);
    assert!(
        error.contains("`steer.prompts` = 99") && place.server.requests().is_empty(),
        "{error}"
    );

    let out = place.home.path().join("run");
    success(place.program().arg("run").arg(&recipe).arg("--out").arg(&out));
    assert_eq!(lines(&out.join("steer/base/base/seed-1.jsonl")).len(), 1);
    let written = fs::read_to_string(out.join("recipe.toml")).unwrap();
    assert!(
        written.contains("id = \"owner/tiny\"") && written.contains("source = \"owner/reviews\""),
        "{written}"
    );
    let plan = fs::read_to_string(out.join("plan.json")).unwrap();
    assert!(plan.contains(&format!("models--owner--tiny/snapshots/{}", place.commit)), "{plan}");
    // The same run again, without a network: nothing is left to do.
    let again = output(
        place.program().arg("run").arg(&recipe).arg("--out").arg(&out).env("HF_HUB_OFFLINE", "1"),
    );
    assert!(
        again.status.success() && stderr(&again).contains("done already"),
        "{}",
        stderr(&again)
    );
    // Nor with the cache elsewhere, where other programs have put more beside the files that we
    // read.
    let other = tempfile::tempdir().unwrap();
    fs::rename(place.home.path().join("hub"), other.path().join("hub")).unwrap();
    let snapshot = other.path().join("hub/models--owner--tiny/snapshots").join(&place.commit);
    fs::write(snapshot.join("README.md"), "# tiny").unwrap();
    let mut run = place.program();
    let moved = output(
        run.arg("run")
            .arg(&recipe)
            .arg("--out")
            .arg(&out)
            .env("HF_HOME", other.path())
            .env("HF_HUB_OFFLINE", "1"),
    );
    assert!(moved.status.success() && !stderr(&moved).contains("starting"), "{}", stderr(&moved));
}
