//! One file of a repository into the cache, through hf-hub, which locks and resumes it and links it
//! into the snapshot.
//!
//! hf-hub names a file as whole whatever came, never looks for a blob that is there, and hides the
//! answers' headers; that is made up for here. How often and how patiently to try is the caller's.

use std::cell::Cell;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use hf_hub::CacheRepo;
use hf_hub::api::sync::ApiRepo;
use tracing::info;
use ureq::Body;
use ureq::http::Response;

use super::client::Client;
use super::failure::Failure;
use super::files::is_safe;
use crate::monitor::Progress;

const MOST_REDIRECTS: usize = 5;
const MEGABYTE: u64 = 1_000_000;

/// One commit of a repository on the hub, and its place in the cache.
pub(super) struct Source<'a> {
    pub client: &'a Client,
    pub remote: &'a ApiRepo,
    pub cache: &'a CacheRepo,
    pub commit: &'a str,
    pub snapshot: &'a Path,
}

/// What the hub says of a file before any of it comes.
struct Announced {
    etag: String,
    commit: String,
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
        let (part, aside) = (blob.with_extension("part"), blob.with_extension("short"));
        if self
            .prepare(name, &blob, &pointer, size)
            .map_err(|error| Failure::local(&blob, "preparing", error))?
        {
            return Ok(());
        }
        let start = size_of(&part).unwrap_or(0);
        let came = Cell::new(0);
        let watch = Watch {
            size,
            came: &came,
            part: &part,
            aside: &aside,
            bar: Bar::start(name, size, start),
        };
        let failure = match self.remote.download_with_progress(name, watch) {
            Ok(path) if size_of(&path) == Some(size) => return Ok(()),
            Ok(_) => None,
            Err(error) => Some(error),
        };
        let came = came.get();
        match failure {
            // It was not whole and yet got its name: the watch could not move it.
            None => {
                remove(&pointer)?;
                remove(&blob)?;
                Err(Failure::WrongSize { file: name.to_owned(), came, announced: size })
            }
            Some(_) if aside.exists() && came > size => {
                remove(&aside)?;
                Err(Failure::WrongSize { file: name.to_owned(), came, announced: size })
            }
            Some(_) if aside.exists() => {
                let reason = "the answer ended early".to_owned();
                Err(Failure::Cut {
                    file: name.to_owned(),
                    came,
                    size,
                    brought: came > start,
                    reason,
                })
            }
            Some(error) => Err(Failure::of_download(error, &part, name, (start, came, size))),
        }
    }

    /// Asks as hf-hub will, for the first byte, so that status, tag and size are known before it
    /// does.
    fn announced(&self, name: &str) -> Result<Announced, Failure> {
        let mut url = self.remote.url(name);
        let mut response = self.client.ask(&url)?;
        for _ in 0..MOST_REDIRECTS {
            // A repository that moved: the hub sends on within itself, and what is said of the file
            // comes at the end.
            let location = header(&response, "location")
                .filter(|to| response.status().is_redirection() && to.starts_with('/'));
            let Some(location) = location else { break };
            url = format!("{}{location}", origin(&url));
            response = self.client.ask(&url)?;
        }
        let odd = |what: &str| {
            Failure::refused(
                format!("the hub announces no usable {what} for {name}"),
                "check that HF_ENDPOINT names a hub",
            )
        };
        let etag = header(&response, "x-linked-etag")
            .or_else(|| header(&response, "etag"))
            .unwrap_or_default()
            .replace('"', "");
        let plain = etag.strip_prefix("W/").unwrap_or(&etag);
        // hf-hub makes a path of the tag.
        if !is_safe(plain) || plain.contains('/') {
            return Err(odd("tag"));
        }
        let total = || header(&response, "content-range")?.rsplit('/').next();
        let size = header(&response, "x-linked-size")
            .or_else(total)
            .and_then(|size| size.parse().ok())
            .ok_or_else(|| odd("size"))?;
        let commit = header(&response, "x-repo-commit").ok_or_else(|| odd("commit"))?.to_owned();
        if response.status().is_redirection() && header(&response, "location").is_none() {
            return Err(odd("address"));
        }
        Ok(Announced { commit, size, etag })
    }

    /// Makes ready for hf-hub, under its own lock: true if the file is there by now, or its blob
    /// was and only had to be linked.
    fn prepare(&self, name: &str, blob: &Path, pointer: &Path, size: u64) -> io::Result<bool> {
        fs::create_dir_all(blob.parent().unwrap_or(blob))?;
        let lock = File::create(blob.with_extension("lock"))?;
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            info!("another process is fetching {name}; waiting for it");
            lock.lock()?;
        }
        // What is wrong in the snapshot would stay: hf-hub replaces no link. In this order, for it
        // makes links after it gave up the lock: one that was not there a moment ago is right.
        if pointer.symlink_metadata().is_ok() && size_of(pointer) != Some(size) {
            fs::remove_file(pointer)?;
        }
        if size_of(blob) == Some(size) {
            link(pointer, blob)?;
            return Ok(true);
        }
        let (part, aside) = (blob.with_extension("part"), blob.with_extension("short"));
        if aside.exists() {
            fs::rename(&aside, &part)?;
        }
        match size_of(&part) {
            Some(length) if length > size => fs::remove_file(&part)?,
            // A whole part that got no name yet: hf-hub would ask for what follows its end, which
            // is an error.
            Some(length) if length == size && size > 0 => {
                File::options().write(true).open(&part)?.set_len(size - 1)?
            }
            _ => {}
        }
        Ok(false)
    }
}

/// The relative link that hf-hub would make, and may just have made.
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

pub(super) fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// `scheme://host` of an address.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    url[host..].find('/').map_or(url, |end| &url[..host + end])
}

/// Sees what comes, shows it, and keeps what is not whole from getting its name.
struct Watch<'a> {
    size: u64,
    came: &'a Cell<u64>,
    part: &'a Path,
    aside: &'a Path,
    bar: Option<Bar>,
}

impl hf_hub::api::Progress for Watch<'_> {
    fn init(&mut self, _size: usize, _filename: &str) {
        self.came.set(0);
    }

    fn update(&mut self, size: usize) {
        self.came.set(self.came.get() + size as u64);
        if let Some(bar) = &mut self.bar {
            bar.show(self.came.get());
        }
    }

    fn finish(&mut self) {
        if self.came.get() == self.size {
            if let Some(bar) = self.bar.take() {
                bar.progress.finish();
            }
            return;
        }
        // Right after this hf-hub renames the part, whatever its size; a part that is gone stops
        // it. Where this fails the size of the result is looked at once more.
        let _ = fs::rename(self.part, self.aside);
    }
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
    fn addresses_and_links() {
        assert_eq!(origin("http://127.0.0.1:80/a/b"), "http://127.0.0.1:80");
        assert_eq!(origin("https://hub"), "https://hub");
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
