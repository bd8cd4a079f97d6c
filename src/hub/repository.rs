//! One repository of the hub and its folder in the cache: whether that is whole, and how it becomes
//! so. Single files are fetched by `fetch.rs`; which ones are needed is told by `files.rs`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hf_hub::{Cache, Repo, RepoType};
use serde::Deserialize;
use tracing::info;

use super::client::{Client, Patience};
use super::failure::Failure;
use super::fetch::{self, Source};
use super::files::{self, Wanted, is_safe};
use crate::artifacts::atomic;
use crate::error::{Error, Result};
use crate::recipe::HubId;

/// The most bytes of the description of a repository: it lists every file.
const LARGEST_ANSWER: u64 = 64 << 20;

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

/// A repository at a revision.
pub(super) struct Repository<'a> {
    pub client: &'a Client,
    pub id: &'a HubId,
    pub kind: RepoType,
}

impl Repository<'_> {
    fn at(&self, revision: &str) -> Repo {
        Repo::with_revision(self.id.repository.clone(), self.kind, revision.to_owned())
    }

    /// Its folder in the cache.
    fn folder(&self) -> PathBuf {
        self.client.settings.cache.join(self.at(&self.id.revision).folder_name())
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.folder().join("refs").join(revision)
    }

    /// The snapshot in the cache if nothing of it is missing, or else why it will not do.
    pub fn cached(&self, wanted: Wanted) -> Result<PathBuf, String> {
        let absent = || format!("not in the cache {}", self.client.settings.cache.display());
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

    /// The commit is noted after every file that came, and [`Self::remember`] removes that note
    /// after the last one. A model needs no note: its weights come last.
    fn is_begun(&self, commit: &str) -> bool {
        self.reference(commit).exists()
    }

    pub fn download(&self, wanted: Wanted, attempts: u32) -> Result<PathBuf, Failure> {
        let description = self.client.patiently(self.id, attempts, || self.describe())?;
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
        let cache = Cache::new(self.client.settings.cache.clone()).repo(repo.clone());
        let snapshot = cache.pointer_path(commit);
        let source = Source {
            client: self.client,
            remote: &repo,
            cache: &cache,
            commit,
            snapshot: &snapshot,
            note: &self.reference(commit),
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
        let api = self.at(&self.id.revision).api_url();
        let url = format!("{}/api/{api}?blobs=true", self.client.settings.endpoint);
        let answer = self.client.follow(url, None, Patience::Word, |_| false)?;
        let mut body = answer.response.into_body();
        let body = body.with_config().limit(LARGEST_ANSWER).read_to_vec();
        let body = body.map_err(|error| match error {
            ureq::Error::Timeout(_) => {
                Failure::Unreachable(Patience::Word.ran_out(&self.client.settings))
            }
            other => Failure::Unreachable(other.to_string()),
        })?;
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
        // An empty file says nothing, and has no first byte to ask for.
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
            self.client.patiently(self.id, self.client.settings.attempts, || {
                source.fetch(name, listed(name))
            })
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
