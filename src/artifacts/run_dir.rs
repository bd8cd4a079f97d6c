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
const WRITTEN: [&str; 7] = [
    "recipe.toml",
    "plan.json",
    "tensorboard",
    "metrics.jsonl",
    "samples",
    "state",
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
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn two_owners_in_one_process_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs/one");
        let first = RunDir::open(&path).unwrap();
        assert_eq!(first.join("models/base"), path.join("models/base"));
        let error = RunDir::open(&path).unwrap_err();
        let me = format!("another run (process {} on ", std::process::id());
        assert!(matches!(&error, Error::Busy { holder, .. } if holder.starts_with(&me)), "{error}");
        drop(first);
        RunDir::open(&path).unwrap();
    }

    #[test]
    fn shards_share_a_directory_that_a_run_has_alone() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = [1, 2].map(|number| Shard::new(number, 2).unwrap());
        let open = |shard| RunDir::open_shard(folder.path(), shard);
        let half_written = folder.path().join(".w2s-partial-of-another-shard");
        let holding = open(first).unwrap();
        fs::write(&half_written, "").unwrap();
        let beside = open(second).unwrap();
        assert!(half_written.exists());
        let same = open(first).unwrap_err().to_string();
        assert!(
            same.contains(&format!(
                "another process of shard 1/2 (process {} on ",
                std::process::id()
            )),
            "{same}"
        );
        drop(holding);
        let run = RunDir::open(folder.path()).unwrap_err().to_string();
        assert!(run.contains(": a shard of this run is using this directory"), "{run}");
        assert_eq!(
            fs::read_to_string(folder.path().join(".lock")).unwrap(),
            "",
            "shards sign their own lock files"
        );
        drop(beside);
        let run = RunDir::open(folder.path()).unwrap();
        assert!(!half_written.exists());
        let refused = open(second).unwrap_err().to_string();
        assert!(refused.contains("another run (process "), "{refused}");
        fs::write(run.shard_manifest(second), "{}").unwrap();
        assert_eq!(run.shards().unwrap(), [second]);
    }

    /// The other process of the test below: takes the directory, says so, and waits to be killed.
    #[test]
    fn holder() {
        let Ok(path) = std::env::var("W2S_TEST_HOLD_RUN_DIR") else { return };
        let owned = RunDir::open(&path).unwrap();
        fs::write(owned.join("held"), "").unwrap();
        std::thread::sleep(std::time::Duration::from_secs(60));
    }

    #[test]
    fn a_killed_process_frees_its_directory() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["artifacts::run_dir::tests::holder", "--exact", "--test-threads=1"])
            .env("W2S_TEST_HOLD_RUN_DIR", folder.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let started = std::time::Instant::now();
        while !folder.path().join("held").exists() {
            assert!(
                started.elapsed().as_secs() < 30 && child.try_wait().unwrap().is_none(),
                "the holder never came up"
            );
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let busy = RunDir::open(folder.path()).unwrap_err();
        child.kill().unwrap();
        child.wait().unwrap();
        let message = busy.to_string();
        assert!(message.contains(&format!("another run (process {} on ", child.id())), "{message}");
        RunDir::open(folder.path()).unwrap();
    }

    #[test]
    fn half_written_files_are_swept_and_others_kept() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("models/base");
        fs::create_dir_all(&below).unwrap();
        // What a kill inside `atomic::write` leaves.
        let mut left = None;
        let result = atomic::write_with(&below.join("model.safetensors"), |_| {
            let partial = fs::read_dir(&below).unwrap().next().unwrap().unwrap().path();
            fs::copy(&partial, partial.with_extension("killed")).unwrap();
            left = Some(partial.with_extension("killed"));
            Err(std::io::Error::other("killed"))
        });
        let left = left.unwrap();
        assert!(result.is_err() && left.exists());
        fs::write(below.join("config.json"), "{}").unwrap();
        RunDir::open(folder.path()).unwrap();
        assert!(!left.exists());
        assert!(below.join("config.json").exists());
    }

    #[test]
    fn only_what_runs_write_is_ever_removed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("precious.txt"), "mine").unwrap();
        let run = RunDir::open(folder.path()).unwrap();
        let owned =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let error = run.clear(&owned(&["models/base"])).unwrap_err().to_string();
        assert!(
            error.contains("is no run directory") && error.contains("hint: name another --out"),
            "{error}"
        );
        for folder in ["models/base/deep", "ppo/small/L-5", "steer/base/cbs"] {
            fs::create_dir_all(run.join(folder)).unwrap();
        }
        fs::write(run.join("steer/base/cbs/seed-1.jsonl"), "").unwrap();
        fs::write(run.join("steer/notes.txt"), "mine").unwrap();
        fs::write(run.join("manifest.json"), "{}").unwrap();
        for outside in ["../precious", "/precious", "models/../../precious"] {
            assert!(
                run.clear(&owned(&[outside]))
                    .unwrap_err()
                    .to_string()
                    .contains("does not lie in the run directory")
            );
        }
        run.clear(&owned(&[
            "models/base",
            "ppo/small/L-5",
            "steer/base/cbs/seed-1.jsonl",
            "sft",
            "dpo/never/begun",
        ]))
        .unwrap();
        assert!(run.join("steer/notes.txt").exists() && !run.join("steer/base").exists());
        fs::remove_dir_all(run.join("steer")).unwrap();
        let mut left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".lock", "precious.txt"]);
        drop(run);
        // Shards may have worked here before any run did.
        RunDir::open_shard(folder.path(), Shard::new(1, 2).unwrap()).unwrap();
        RunDir::open(folder.path()).unwrap().clear(&[]).unwrap();
        assert!(
            folder.path().join("precious.txt").exists() && !folder.path().join("state").exists()
        );
    }

    #[test]
    fn an_unwritable_place_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        for path in [folder.path().join("file/run"), PathBuf::from("/proc/w2s-run")] {
            let error = RunDir::open(&path).unwrap_err();
            assert!(matches!(&error, Error::Io { path: named, .. } if *named == path), "{error}");
            assert!(error.to_string().contains(": creating the run directory: "), "{error}");
        }
    }
}
