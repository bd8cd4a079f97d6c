//! Where the cache lies that all programs of the Hugging Face world share, and which folder in it
//! a model is.
//!
//! Only what is there: fetching is left to `hub`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::hub_id::HubId;

/// `HF_HOME` or what stands in for it, by these variables; empty ones count as not set. `None`
/// where there is no home at all.
pub fn hub_home(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = |name: &str| set(&variable, name);
    path("HF_HOME")
        .or_else(|| path("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")))
        .or_else(|| path("HOME").map(|home| home.join(".cache/huggingface")))
}

/// The folder of `models--owner--name` and `datasets--owner--name`.
pub fn hub_cache(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let home = || hub_home(&variable).map(|home| home.join("hub"));
    set(&variable, "HF_HUB_CACHE").or_else(home)
}

fn set(variable: impl Fn(&str) -> Option<OsString>, name: &str) -> Option<PathBuf> {
    variable(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn here() -> Option<PathBuf> {
    hub_cache(|name| std::env::var_os(name))
}

/// The folder of the cache that `path` was when the cache lay elsewhere.
pub fn in_cache(path: &Path) -> Option<PathBuf> {
    let is_repository =
        |part: &&OsStr| part.to_str().is_some_and(|part| part.starts_with("models--"));
    let below: PathBuf = path.iter().skip_while(|part| !is_repository(part)).collect();
    let folder = here()?.join(&below);
    (below.components().count() > 0 && folder.is_dir()).then_some(folder)
}

/// The folder in the cache that a model was last fetched to, whole or not.
pub(super) fn cached(id: &HubId) -> Option<PathBuf> {
    snapshot(&here()?, id)
}

fn snapshot(cache: &Path, id: &HubId) -> Option<PathBuf> {
    let folder = cache.join(format!("models--{}", id.repository.replace('/', "--")));
    let commit = std::fs::read_to_string(folder.join("refs").join(&id.revision));
    let commit = commit.map_or_else(|_| id.revision.clone(), |commit| commit.trim().to_owned());
    let is_name = commit.bytes().all(|byte| byte.is_ascii_alphanumeric()) && !commit.is_empty();
    let snapshot = folder.join("snapshots").join(&commit);
    (is_name && snapshot.is_dir()).then_some(snapshot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_the_snapshot_that_its_revision_means() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("models--owner--name");
        for commit in ["abc1234", "def5678"] {
            std::fs::create_dir_all(folder.join("snapshots").join(commit)).unwrap();
        }
        std::fs::create_dir_all(folder.join("refs")).unwrap();
        std::fs::write(folder.join("refs/main"), "abc1234\n").unwrap();
        let found = |id: &str| snapshot(cache.path(), &HubId::parse(id).unwrap());
        assert_eq!(found("owner/name"), Some(folder.join("snapshots/abc1234")));
        assert_eq!(found("owner/name@def5678"), Some(folder.join("snapshots/def5678")));
        for absent in ["owner/name@v1", "owner/other", "owner/name@abc"] {
            assert_eq!(found(absent), None, "{absent}");
        }
    }
}
