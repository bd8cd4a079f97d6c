//! One file of a repository into the cache: asked for by name, locked against other processes,
//! continued where an earlier try ended, and linked into the snapshot when it is whole.
//!
//! Places and addresses are as hf-hub has them. How often and how patiently to try is the caller's.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::{CacheRepo, Repo};
use tracing::info;

use super::client::{Answer, Client, Patience};
use super::failure::Failure;
use super::files::is_safe;
use crate::artifacts::{atomic, interrupt};
use crate::http::pause;
use crate::monitor::Progress;

const MEGABYTE: u64 = 1_000_000;
const PIECE: usize = 256 << 10;
/// How often a file that another process is fetching is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// One commit of a repository on the hub, and its place in the cache.
pub(super) struct Source<'a> {
    pub client: &'a Client,
    pub remote: &'a Repo,
    pub cache: &'a CacheRepo,
    pub commit: &'a str,
    pub snapshot: &'a Path,
    /// Where it is noted that fetching has begun.
    pub note: &'a Path,
}

/// What the hub says of a file before any of it comes.
struct Announced {
    etag: String,
    commit: String,
    size: u64,
}

/// A file on its way: what was announced, and where what came of it is kept.
struct Part<'a> {
    name: &'a str,
    path: PathBuf,
    size: u64,
}

impl Source<'_> {
    /// Whether the snapshot has the file, with the size that the hub lists.
    pub fn has(&self, name: &str, listed: Option<u64>) -> bool {
        let found = size_of(&self.snapshot.join(name));
        found.is_some_and(|found| listed.is_none_or(|listed| listed == found))
    }

    /// One try. It leaves the file whole in the snapshot, or a part that the next one continues.
    pub fn fetch(&self, name: &str, listed: Option<u64>) -> Result<(), Failure> {
        let Announced { etag, commit, size } = self.announced(name)?;
        if commit != self.commit {
            let problem = format!(
                "{name} was asked for at commit {}, but the hub answered for {commit}",
                self.commit
            );
            return Err(Failure::refused(problem, "start the same command again later"));
        }
        if let Some(announced) = listed.filter(|listed| *listed != size) {
            return Err(Failure::WrongSize { file: name.to_owned(), came: size, announced });
        }
        let blob = self.cache.blob_path(&etag);
        let pointer = self.snapshot.join(name);
        let preparing = |error| Failure::local(&blob, "preparing", error);
        let _lock = self.lock(name, &blob)?;
        // What is wrong in the snapshot would stay, for no link is replaced.
        if pointer.symlink_metadata().is_ok() && size_of(&pointer) != Some(size) {
            remove(&pointer)?;
        }
        if size_of(&blob) != Some(size) {
            let part = Part { name, path: blob.with_extension("part"), size };
            self.complete(&part)?;
            fs::rename(&part.path, &blob).map_err(preparing)?;
            atomic::write(self.note, self.commit.as_bytes()).map_err(|error| {
                Failure::local(self.note, "writing", io::Error::other(error.to_string()))
            })?;
        }
        link(&pointer, &blob).map_err(preparing)
    }

    fn url(&self, name: &str) -> String {
        let (endpoint, repo) = (&self.client.settings.endpoint, self.remote);
        format!("{endpoint}/{}/resolve/{}/{name}", repo.url(), repo.url_revision())
    }

    /// Asks for the first byte, so that tag, commit and size are known before the others come. They
    /// are the hub's word: it gives them where it sends on to the bytes.
    fn announced(&self, name: &str) -> Result<Announced, Failure> {
        let first = Some("bytes=0-0");
        let has_word = |answer: &Answer| {
            answer.header("x-repo-commit").is_some()
                && (answer.header("x-linked-etag").or(answer.header("etag"))).is_some()
        };
        let answer = self.client.follow(self.url(name), first, Patience::Word, has_word)?;
        let odd = |what: &str| {
            Failure::refused(
                format!("the hub announces no usable {what} for {name}"),
                "check that HF_ENDPOINT names a hub",
            )
        };
        let etag = answer.header("x-linked-etag").or(answer.header("etag"));
        let etag = etag.unwrap_or_default().replace('"', "");
        let plain = etag.strip_prefix("W/").unwrap_or(&etag);
        // The tag becomes a path.
        if !is_safe(plain) || plain.contains('/') {
            return Err(odd("tag"));
        }
        let commit = answer.header("x-repo-commit").ok_or_else(|| odd("commit"))?.to_owned();
        let size = match (answer.header("x-linked-size"), answer.location()) {
            (Some(size), _) => size.parse().ok(),
            (None, None) => whole_size(&answer),
            (None, Some(to)) => {
                whole_size(&self.client.follow(to, first, Patience::Word, |_| false)?)
            }
        };
        Ok(Announced { commit, size: size.ok_or_else(|| odd("size"))?, etag })
    }

    /// Waits for other processes that fetch the file; the lock ends with its file.
    fn lock(&self, name: &str, blob: &Path) -> Result<File, Failure> {
        let preparing = |error| Failure::local(blob, "preparing", error);
        fs::create_dir_all(blob.parent().unwrap_or(blob)).map_err(preparing)?;
        let lock = File::create(blob.with_extension("lock")).map_err(preparing)?;
        let mut is_told = false;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::Error(error)) => return Err(preparing(error)),
                Err(TryLockError::WouldBlock) => {
                    if !is_told {
                        info!("another process is fetching {name}; waiting for it");
                    }
                    is_told = true;
                    pause(LOOK_EVERY).map_err(|_| Failure::Interrupted)?;
                }
            }
        }
    }

    /// Brings what the part lacks.
    fn complete(&self, part: &Part) -> Result<(), Failure> {
        let start = match size_of(&part.path) {
            Some(length) if length > part.size => {
                remove(&part.path)?;
                0
            }
            length => length.unwrap_or(0),
        };
        if start == part.size && start > 0 {
            return Ok(());
        }
        let range = format!("bytes={start}-");
        let url = self.url(part.name);
        let answer = self.client.follow(url, Some(&range), Patience::Bytes, |_| false)?;
        let writing = |error| Failure::local(&part.path, "writing", error);
        let file = File::options().append(true).create(true).open(&part.path).map_err(writing)?;
        let begin = first_byte(&answer);
        if begin > start {
            return Err(Failure::refused(
                format!("byte {start} of {} was asked for, but {begin} came", part.name),
                "check that HF_ENDPOINT names a hub, and the proxy variables",
            ));
        }
        file.set_len(begin).map_err(writing)?;
        self.receive(answer, part, &file, begin)?;
        file.sync_all().map_err(writing)
    }

    /// Writes the body behind the `start` bytes of `file`.
    fn receive(
        &self,
        answer: Answer,
        part: &Part,
        mut file: &File,
        start: u64,
    ) -> Result<(), Failure> {
        let size = part.size;
        let mut bar = Bar::start(part.name, size, start);
        let mut body = answer.response.into_body().into_reader();
        let mut piece = vec![0; PIECE];
        let mut came = start;
        let cut = |came: u64, reason: String| Failure::Cut {
            file: part.name.to_owned(),
            came,
            size,
            brought: came > start,
            reason,
        };
        loop {
            if interrupt::requested() {
                return Err(Failure::Interrupted);
            }
            let read = match body.read(&mut piece) {
                Ok(read) => read,
                Err(error) if is_timeout(&error) => {
                    return Err(cut(came, Patience::Bytes.ran_out(&self.client.settings)));
                }
                Err(error) => return Err(cut(came, error.to_string())),
            };
            came += read as u64;
            if came > size {
                let more = io::copy(&mut body.take(MEGABYTE), &mut io::sink()).unwrap_or(0);
                remove(&part.path)?;
                let file = part.name.to_owned();
                return Err(Failure::WrongSize { file, came: came + more, announced: size });
            }
            if read == 0 {
                break;
            }
            file.write_all(&piece[..read])
                .map_err(|error| Failure::local(&part.path, "writing", error))?;
            if let Some(bar) = &mut bar {
                bar.show(came);
            }
        }
        if came < size {
            return Err(cut(came, "the answer ended early".to_owned()));
        }
        if let Some(bar) = bar {
            bar.progress.finish();
        }
        Ok(())
    }
}

/// ureq's own errors come inside of others where a body is read.
fn is_timeout(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(ureq::Error::Timeout(_))) || error.kind() == io::ErrorKind::TimedOut
}

/// Where in the file the answer begins: a server that knows no ranges sends all of it.
fn first_byte(answer: &Answer) -> u64 {
    let range = answer.header("content-range").and_then(|range| range.strip_prefix("bytes "));
    range.and_then(|range| range.split_once('-')?.0.parse().ok()).unwrap_or(0)
}

/// The size of a file of which an answer brings the first byte, or all.
fn whole_size(answer: &Answer) -> Option<u64> {
    match answer.header("content-range") {
        Some(range) => range.rsplit('/').next()?.parse().ok(),
        None => answer.header("content-length")?.parse().ok(),
    }
}

/// The relative link that the hub's own tools make, and another process may just have made.
fn link(pointer: &Path, blob: &Path) -> io::Result<()> {
    let (Some(folder), Some(snapshots)) =
        (pointer.parent(), pointer.ancestors().find(|path| path.ends_with("snapshots")))
    else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    fs::create_dir_all(folder)?;
    let root = snapshots.parent().unwrap_or(snapshots);
    let (Ok(down), Ok(target)) = (folder.strip_prefix(root), blob.strip_prefix(root)) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let up: PathBuf = down.components().map(|_| "..").collect();
    match std::os::unix::fs::symlink(up.join(target), pointer) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::local(path, "removing", error))
        }
        _ => Ok(()),
    }
}

fn size_of(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|metadata| metadata.len())
}

/// Megabytes of a file that is worth a bar.
struct Bar {
    progress: Progress,
    shown: u64,
}

impl Bar {
    fn start(name: &str, size: u64, done: u64) -> Option<Self> {
        let shown = done / MEGABYTE;
        let what = || format!("{name} (MB)");
        (size - done.min(size) > MEGABYTE)
            .then(|| Self { progress: Progress::start(&what(), size / MEGABYTE, shown), shown })
    }

    fn show(&mut self, came: u64) {
        let now = came / MEGABYTE;
        if now > self.shown {
            self.progress.advance(now - self.shown);
            self.shown = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_relative() {
        let folder = tempfile::tempdir().unwrap();
        let (blob, pointer) = (
            folder.path().join("blobs/W/abc"),
            folder.path().join("snapshots/c0ffee/data/train.parquet"),
        );
        fs::create_dir_all(blob.parent().unwrap()).unwrap();
        fs::write(&blob, "x").unwrap();
        link(&pointer, &blob).unwrap();
        assert_eq!(fs::read_link(&pointer).unwrap(), Path::new("../../../blobs/W/abc"));
        assert_eq!(fs::read(&pointer).unwrap(), b"x");
    }
}
