//! Hub ids against a server on the loopback interface that plays the hub, well and badly.

mod adapters;
mod data_sets;
mod faults;
mod fetched;
mod pairs;
mod silent;
mod tokens;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use w2s::hub;
use w2s::hub::{Choose, Hub, HubSettings, Token};
use w2s::recipe::HubId;

use crate::common::{tiny_model, w2s};
use crate::hub_server::{Files, Request, Server, folder};

const ID: &str = "owner/tiny";

const MODEL: &str = "models/owner/tiny";

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
            etag_timeout: Duration::from_secs(30),
            download_timeout: Duration::from_secs(30),
        }
    }

    fn hub(&self) -> Hub {
        Hub::new(self.settings())
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
            "HF_HUB_ETAG_TIMEOUT",
            "HF_HUB_DOWNLOAD_TIMEOUT",
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

fn token(secret: &str) -> Token {
    Token { secret: secret.to_owned(), from: "HF_TOKEN".to_owned() }
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
