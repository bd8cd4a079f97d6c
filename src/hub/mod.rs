//! Repositories of a model hub as folders of the standard cache, whole or not at all.
//!
//! Through hf-hub, with what it leaves to others: which files the program needs, patience with a
//! busy hub, use of the cache where there is no network, and clear errors. What the files mean is
//! left to `models` and `text`.

mod failure;
mod fetch;
mod files;
mod settings;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hf_hub::api::sync::{Api, ApiBuilder};
use hf_hub::{Cache, Repo, RepoType};
use serde::Deserialize;
use tracing::{info, warn};
use ureq::Body;
use ureq::http::Response;

use self::failure::Failure;
use self::fetch::Source;
pub use self::files::Choose;
pub use self::files::MODEL_FILES;
use self::files::{Wanted, is_safe};
pub use self::settings::{HubSettings, in_cache};
use crate::artifacts::atomic;
use crate::error::{Error, Result};
use crate::recipe::HubId;

/// For the connection, and for the first line of an answer. A download may then take as long as it
/// takes.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// A hub that asks for more is not waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Of the description of a repository: it lists every file.
const LARGEST_ANSWER: u64 = 64 << 20;

/// Which files of a model are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    All,
    /// Config and tokenizer, which are small.
    WithoutWeights,
}

pub struct Hub {
    settings: HubSettings,
    api: Api,
    /// Follows no redirect and hands out every answer, which hf-hub's own does not.
    agent: ureq::Agent,
}

/// What the hub tells of a repository at a revision.
#[derive(Deserialize)]
struct Description {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
}

impl Hub {
    pub fn from_env() -> Result<Self> {
        Self::new(HubSettings::from_env()?)
    }

    pub fn new(settings: HubSettings) -> Result<Self> {
        // Its own retries can append a whole file to a part, so it gets none.
        let api = ApiBuilder::from_cache(Cache::new(settings.cache.clone()))
            .with_endpoint(settings.endpoint.clone())
            .with_token(settings.token.clone())
            .with_progress(false)
            .with_retries(0)
            .with_user_agent("w2s", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(|error| {
                Error::failed(format!(
                    "the hub cannot be asked: {error}\n\nhint: check the proxy variables"
                ))
            })?;
        let agent = ureq::Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(ANSWER_WITHIN))
            .timeout_recv_response(Some(ANSWER_WITHIN))
            .user_agent(concat!("w2s/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Ok(Self { settings, api, agent })
    }

    /// The folder of a model in the cache, fetched first where it is not there or not whole.
    pub fn model(&self, id: &HubId, files: Files) -> Result<PathBuf> {
        self.snapshot(id, RepoType::Model, Wanted::Model { weights: files == Files::All })
    }

    /// The folder of a data set in the cache with the data files that are chosen, fetched as
    /// [`Self::model`] does.
    pub fn dataset(&self, id: &HubId, choose: &Choose) -> Result<PathBuf> {
        self.snapshot(id, RepoType::Dataset, Wanted::Data(choose))
    }

    fn snapshot(&self, id: &HubId, kind: RepoType, wanted: Wanted) -> Result<PathBuf> {
        let repository = Repository { hub: self, id, kind };
        let cached = repository.cached(wanted);
        if self.settings.offline {
            let hint = "unset HF_HUB_OFFLINE, fetch it where there is a network, or give a local \
                        folder that exists"
                .to_owned();
            return cached.map_err(|why| Error::Hub {
                id: id.to_string(),
                problem: format!("{why}, and HF_HUB_OFFLINE allows no other place"),
                hint,
            });
        }
        // Where the cache can stand in, one refusal is enough.
        let attempts = if cached.is_ok() { 1 } else { self.settings.attempts };
        let failure = match repository.download(wanted, attempts) {
            Ok(snapshot) => return Ok(snapshot),
            Err(failure) => failure,
        };
        match repository.cached(wanted) {
            Ok(snapshot) if failure.may_pass() => {
                warn!("{id}: {failure}; using the copy in the cache, {}", snapshot.display());
                Ok(snapshot)
            }
            _ => Err(failure.into_error(id, &self.settings)),
        }
    }

    /// Repeats what may pass by itself, with growing waits, until nothing came `attempts` times in
    /// a row.
    fn patiently<T>(
        &self,
        id: &HubId,
        attempts: u32,
        mut attempt: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut failures = 0;
        loop {
            let failure = match attempt() {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            failures = if failure.brought_bytes() { 1 } else { failures + 1 };
            let grown = self.settings.first_wait.saturating_mul(1 << (failures - 1).min(16));
            let wait = failure.asked_wait().unwrap_or(grown.min(LONGEST_WAIT));
            if !failure.may_pass() || failures >= attempts || wait > LONGEST_WAIT {
                return Err(failure);
            }
            warn!("{id}: {failure}; trying again in {:.1} s", wait.as_secs_f64());
            std::thread::sleep(wait);
        }
    }

    /// The answer to a request for the first byte; an error unless it is a success or a redirect.
    fn ask(&self, url: &str) -> Result<Response<Body>, Failure> {
        let mut request = self.agent.get(url).header("Range", "bytes=0-0");
        if let Some(token) = &self.settings.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let response = request.call().map_err(|error| Failure::of_request(&error))?;
        if response.status().as_u16() >= 400 {
            Err(Failure::of_status(&response))
        } else {
            Ok(response)
        }
    }
}

/// A repository at a revision.
struct Repository<'a> {
    hub: &'a Hub,
    id: &'a HubId,
    kind: RepoType,
}

impl Repository<'_> {
    fn at(&self, revision: &str) -> Repo {
        Repo::with_revision(self.id.repository.clone(), self.kind, revision.to_owned())
    }

    /// Its folder in the cache.
    fn folder(&self) -> PathBuf {
        self.hub.settings.cache.join(self.at(&self.id.revision).folder_name())
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.folder().join("refs").join(revision)
    }

    /// The snapshot in the cache if nothing of it is missing, or else why it will not do.
    fn cached(&self, wanted: Wanted) -> Result<PathBuf, String> {
        let absent = || format!("not in the cache {}", self.hub.settings.cache.display());
        let commit = match std::fs::read_to_string(self.reference(&self.id.revision)) {
            Ok(commit) if is_commit(commit.trim()) => commit.trim().to_owned(),
            _ => self.id.revision.clone(),
        };
        let snapshot = self.folder().join("snapshots").join(&commit);
        if !is_commit(&commit) || !snapshot.is_dir() {
            return Err(absent());
        }
        match files::incomplete(&snapshot, wanted) {
            Some(lack) => Err(format!("the copy in the cache, {}, {lack}", snapshot.display())),
            None if matches!(wanted, Wanted::Data(_)) && self.is_begun(&commit) => Err(format!(
                "the copy in the cache, {}, was not fetched to its end",
                snapshot.display()
            )),
            None => Ok(snapshot),
        }
    }

    /// hf-hub notes the commit after every file, and [`Self::remember`] removes that note after the
    /// last one. A model needs no note: its weights come last.
    fn is_begun(&self, commit: &str) -> bool {
        self.reference(commit).exists()
    }

    fn download(&self, wanted: Wanted, attempts: u32) -> Result<PathBuf, Failure> {
        let description = self.hub.patiently(self.id, attempts, || self.describe())?;
        files::refuse_unsafe(description.siblings.iter().map(|file| file.rfilename.as_str()))?;
        let commit = description.sha.as_str();
        if !is_commit(commit) {
            return Err(Failure::refused(
                "the hub names no usable commit",
                "check that HF_ENDPOINT names a hub",
            ));
        }
        let sizes: BTreeMap<&str, Option<u64>> =
            description.siblings.iter().map(|file| (file.rfilename.as_str(), file.size)).collect();
        let names = sizes.keys().copied().collect();
        let first = files::wanted(&names, wanted)?;
        // The commit, not the branch: every file is of one state, even if the branch moves
        // meanwhile.
        let repo = self.at(commit);
        let cache = Cache::new(self.hub.settings.cache.clone()).repo(repo.clone());
        let snapshot = cache.pointer_path(commit);
        let source = Source {
            hub: self.hub,
            remote: &self.hub.api.repo(repo),
            cache: &cache,
            commit,
            snapshot: &snapshot,
        };
        self.fetch_all(&source, &first, &sizes)?;
        if let Some(index) = first.iter().find(|name| files::is_index(name)) {
            let shards = files::shards(&snapshot, index)?;
            if let Some(absent) = shards.iter().find(|shard| !sizes.contains_key(shard.as_str())) {
                let problem =
                    format!("its {index} names {absent}, which the repository does not have");
                return Err(Failure::refused(
                    problem,
                    "the repository is damaged: tell its owner, or name another revision",
                ));
            }
            self.fetch_all(
                &source,
                &shards.iter().map(String::as_str).collect::<Vec<_>>(),
                &sizes,
            )?;
        }
        self.remember(commit)?;
        Ok(snapshot)
    }

    fn describe(&self) -> Result<Description, Failure> {
        let request =
            self.hub.api.repo(self.at(&self.id.revision)).info_request().query("blobs", "true");
        let request =
            request.config().http_status_as_error(false).timeout_connect(Some(ANSWER_WITHIN));
        let mut response = request
            .timeout_recv_response(Some(ANSWER_WITHIN))
            .build()
            .call()
            .map_err(|error| Failure::of_request(&error))?;
        if !response.status().is_success() {
            return Err(Failure::of_status(&response));
        }
        let body = response.body_mut().with_config().limit(LARGEST_ANSWER).read_to_vec();
        let body = body.map_err(|error| Failure::Unreachable(error.to_string()))?;
        serde_json::from_slice(&body).map_err(|error| {
            Failure::refused(
                format!("the hub's answer describes no repository: {error}"),
                "check that HF_ENDPOINT names a hub",
            )
        })
    }

    fn fetch_all(
        &self,
        source: &Source,
        names: &[&str],
        sizes: &BTreeMap<&str, Option<u64>>,
    ) -> Result<(), Failure> {
        let listed = |name: &str| sizes.get(name).copied().flatten();
        // An empty file says nothing, and hf-hub asks for the first byte of every file.
        let due: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| listed(name) != Some(0) && !source.has(name, listed(name)))
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        let bytes: u64 = due.iter().filter_map(|name| listed(name)).sum();
        info!(
            "{}: fetching {} of {} files, {:.1} MB",
            self.id,
            due.len(),
            names.len(),
            bytes as f64 / 1e6
        );
        due.iter().try_for_each(|name| {
            self.hub
                .patiently(self.id, self.hub.settings.attempts, || source.fetch(name, listed(name)))
        })
    }

    /// Only now does the revision mean this commit: until all was there it meant what was whole
    /// before.
    fn remember(&self, commit: &str) -> Result<(), Failure> {
        if self.id.revision != commit {
            let reference = self.reference(&self.id.revision);
            let whole = |error: Error| {
                Failure::local(&reference, "writing", std::io::Error::other(error.to_string()))
            };
            atomic::write(&reference, commit.as_bytes()).map_err(whole)?;
        }
        fetch::remove(&self.reference(commit))
    }
}

/// Hexadecimal, as git writes it: also safe as the name of a folder.
fn is_commit(text: &str) -> bool {
    text.len() >= 7
        && text.len() <= 64
        && text.chars().all(|character| character.is_ascii_hexdigit())
        && is_safe(text)
}
