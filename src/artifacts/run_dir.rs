//! A run directory that one process owns, or that the shards of one run share.
//!
//! Locks are the kernel's (`flock`) and go with the process however it ends; what lock files say is
//! for messages only. A run holds `.lock` alone; a shard holds `.lock` together with other shards
//! and its own lock file alone, in that order: who has `.lock` alone may remove the files of
//! shards. No lock is ever upgraded: `flock` lets go of the old lock first, and another process can
//! step in between. Network file systems stand `flock` in for by record locks on the server, for
//! which the files are open for reading and writing.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Component, Path, PathBuf};

use super::{Shard, atomic};
use crate::error::{Error, Result};

/// What every run writes at the top of its directory, beside what its tasks own.
const WRITTEN: [&str; 8] = [
    "recipe.toml",
    "plan.json",
    "tensorboard",
    "metrics.jsonl",
    "samples",
    "state",
    "requests",
    "manifest.json",
];

/// Where shards keep their lock files and manifests.
pub const SHARDS: &str = "state/shards";

#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _locks: Vec<File>,
}

impl RunDir {
    /// Makes the directory if there is none, locks it and removes what a killed run had half
    /// written. [`Error::Busy`] if another run (or another `RunDir` of this process) holds it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        fs::create_dir_all(path).map_err(Error::io(path, "creating the run directory"))?;
        let lock = match take(&path.join(".lock"), File::try_lock)? {
            Taken::Mine(file) => file,
            // Only shards let others share their lock.
            Taken::Others(file) if file.try_lock_shared().is_ok() => {
                return Err(Error::Busy {
                    dir: path.to_owned(),
                    holder: "a shard of this run".to_owned(),
                });
            }
            Taken::Others(file) => {
                return Err(Error::Busy {
                    dir: path.to_owned(),
                    holder: format!("another run ({})", signature(file)),
                });
            }
        };
        sign(&lock, &path.join(".lock"))?;
        sweep(path)?;
        Ok(Self { path: path.to_owned(), _locks: vec![lock] })
    }

    /// Makes the directory if there is none and takes one shard of it. Half-written files stay:
    /// they may be another shard's that is at work. [`Error::Busy`] if a run, or the same shard, is
    /// at work here.
    pub fn open_shard(path: impl AsRef<Path>, shard: Shard) -> Result<Self> {
        let path = path.as_ref();
        fs::create_dir_all(path).map_err(Error::io(path, "creating the run directory"))?;
        let busy = |who: String, file| Error::Busy {
            dir: path.to_owned(),
            holder: format!("{who} ({})", signature(file)),
        };
        let shared = match take(&path.join(".lock"), File::try_lock_shared)? {
            Taken::Mine(file) => file,
            Taken::Others(file) => return Err(busy("another run".to_owned(), file)),
        };
        let folder = path.join(SHARDS);
        let own = folder.join(format!("{}.lock", shard.tag()));
        fs::create_dir_all(&folder).map_err(Error::io(&folder, "creating the folder"))?;
        match take(&own, File::try_lock)? {
            Taken::Mine(file) => {
                sign(&file, &own)?;
                Ok(Self { path: path.to_owned(), _locks: vec![shared, file] })
            }
            Taken::Others(file) => Err(busy(format!("another process of shard {shard}"), file)),
        }
    }

    /// The shards that left a manifest here, in order.
    pub fn shards(&self) -> Result<Vec<Shard>> {
        let folder = self.join(SHARDS);
        let mut shards = Vec::new();
        if folder.is_dir() {
            for entry in fs::read_dir(&folder).map_err(Error::io(&folder, "reading the folder"))? {
                let name = entry.map_err(Error::io(&folder, "reading the folder"))?.file_name();
                shards
                    .extend(name.to_string_lossy().strip_suffix(".json").and_then(Shard::from_tag));
            }
        }
        shards.sort();
        Ok(shards)
    }

    pub fn shard_manifest(&self, shard: Shard) -> PathBuf {
        self.join(SHARDS).join(format!("{}.json", shard.tag()))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what runs write here, of which `owned` is what their tasks do (relative to the
    /// directory), and the folders that this leaves empty; anything else in the directory is not
    /// ours and stays.
    ///
    /// # Errors
    /// [`Error::Failed`] where something lies here that no run has begun.
    pub fn clear(&self, owned: &[String]) -> Result<()> {
        let entries: Vec<_> = fs::read_dir(&self.path)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.file_name())).collect())
            .map_err(Error::io(&self.path, "reading the folder"))?;
        let is_begun = self.path.join("manifest.json").is_file() || self.path.join(SHARDS).is_dir();
        if entries.iter().any(|name| name != ".lock") && !is_begun {
            return Err(Error::failed(format!(
                "{}: is no run directory (it holds no `manifest.json`), and --fresh empties \
                 nothing else\n\nhint: name another --out",
                self.path.display()
            )));
        }
        // The manifest last: what is left of a removal that is killed is still known as a run's.
        for name in owned.iter().map(String::as_str).chain(WRITTEN) {
            self.remove(Path::new(name))?;
        }
        Ok(())
    }

    /// Removes a file or a folder of the run, if it is there, and the folders above it that this
    /// leaves empty.
    fn remove(&self, relative: &Path) -> Result<()> {
        // Who edits a manifest removes nothing outside of the directory with it.
        if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(Error::failed(format!(
                "`{}` does not lie in the run directory",
                relative.display()
            )));
        }
        let path = self.join(relative);
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error)
                if error.kind() != ErrorKind::NotFound
                    && error.kind() != ErrorKind::NotADirectory =>
            {
                return Err(Error::io(path, "removing")(error));
            }
            _ => {}
        }
        for folder in relative.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()) {
            // One that holds something else is not empty, which is an error here and nothing more.
            if fs::remove_dir(self.join(folder)).is_err() {
                break;
            }
        }
        Ok(())
    }

    pub fn join(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.path.join(relative)
    }
}

/// A lock file whose lock this process got, or others have.
enum Taken {
    Mine(File),
    Others(File),
}

fn take(path: &Path, lock: fn(&File) -> Result<(), TryLockError>) -> Result<Taken> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(Error::io(path, "opening the lock file"))?;
    match lock(&file) {
        Ok(()) => Ok(Taken::Mine(file)),
        Err(TryLockError::WouldBlock) => Ok(Taken::Others(file)),
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
            tracing::warn!(
                "{}: this file system has no locks; start nothing twice in this directory",
                path.display()
            );
            Ok(Taken::Mine(file))
        }
        Err(TryLockError::Error(error)) => Err(Error::io(path, "locking")(error)),
    }
}

/// Writes this process into a lock file that it alone holds. With the host, because a run directory
/// may be shared between machines.
fn sign(mut file: &File, path: &Path) -> Result<()> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let signature = format!("process {} on {}", std::process::id(), host.trim());
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{signature}"))
        .map_err(Error::io(path, "writing the lock file"))
}

/// Who holds a lock file, as far as it says.
fn signature(mut file: File) -> String {
    let mut text = String::new();
    let read = file.read_to_string(&mut text);
    let text = text.trim();
    if read.is_err() || text.is_empty() { "process unknown".to_owned() } else { text.to_owned() }
}

/// Removes left-over temporary files; only the owner of the lock may.
fn sweep(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "reading the folder"))? {
        let entry = entry.map_err(Error::io(folder, "reading the folder"))?;
        let (path, kind) =
            (entry.path(), entry.file_type().map_err(Error::io(entry.path(), "reading"))?);
        if kind.is_dir() {
            sweep(&path)?;
        } else if kind.is_file() && atomic::is_temporary(&path) {
            fs::remove_file(&path).map_err(Error::io(&path, "removing a half-written file"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
