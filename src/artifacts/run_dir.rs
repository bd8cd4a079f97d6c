//! A run directory that one process owns.
//!
//! The lock is the kernel's (`flock`) and goes with the process however it ends; the process id in the lock file is for the message only.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::atomic;
use crate::error::{Error, Result};

/// All that runs write at the top of their directory.
const WRITTEN: [&str; 16] = [
    "recipe.toml",
    "plan.json",
    "models",
    "gold",
    "sft",
    "dpo",
    "direct",
    "preferences",
    "steer",
    "evaluate",
    "report.html",
    "tensorboard",
    "metrics.jsonl",
    "state",
    "samples",
    "manifest.json",
];

#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _lock: File,
}

impl RunDir {
    /// Makes the directory if there is none, locks it and removes what a killed run had half written.
    /// [`Error::Busy`] if another run (or another `RunDir` of this process) holds it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        fs::create_dir_all(path).map_err(Error::io(path, "creating the run directory"))?;
        let lock = lock(path)?;
        sweep(path)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what runs write here; anything else in the directory is not ours and stays.
    ///
    /// # Errors
    /// [`Error::Failed`] where something lies here that no run has begun.
    pub fn clear(&self) -> Result<()> {
        let entries: Vec<_> = fs::read_dir(&self.path)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.file_name())).collect())
            .map_err(Error::io(&self.path, "reading the folder"))?;
        if entries.iter().any(|name| name != ".lock") && !self.path.join("manifest.json").is_file() {
            return Err(Error::failed(format!(
                "{}: is no run directory (it holds no `manifest.json`), and --fresh empties nothing else\n\nhint: name another --out",
                self.path.display()
            )));
        }
        // The manifest last: what is left of a removal that is killed is still known as a run's.
        for name in WRITTEN.iter().filter(|name| entries.iter().any(|entry| entry == *name)) {
            let path = self.path.join(name);
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(Error::io(&path, "removing"))?;
        }
        Ok(())
    }

    pub fn join(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.path.join(relative)
    }
}

fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(".lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(Error::io(&path, "opening the lock file"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let read = file.read_to_string(&mut pid);
            let pid = pid.trim();
            let pid = if read.is_err() || pid.is_empty() { "unknown".to_owned() } else { pid.to_owned() };
            return Err(Error::Busy { dir: folder.to_owned(), pid });
        }
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
            tracing::warn!("{}: this file system has no locks; start no second run in this directory", folder.display());
        }
        Err(TryLockError::Error(error)) => return Err(Error::io(&path, "locking")(error)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(Error::io(&path, "writing the lock file"))?;
    Ok(file)
}

/// Removes left-over temporary files; only the owner of the lock may.
fn sweep(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "reading the folder"))? {
        let entry = entry.map_err(Error::io(folder, "reading the folder"))?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(Error::io(entry.path(), "reading"))?);
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
        assert!(matches!(&error, Error::Busy { pid, .. } if *pid == std::process::id().to_string()), "{error}");
        drop(first);
        RunDir::open(&path).unwrap();
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
            assert!(started.elapsed().as_secs() < 30 && child.try_wait().unwrap().is_none(), "the holder never came up");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let busy = RunDir::open(folder.path()).unwrap_err();
        child.kill().unwrap();
        child.wait().unwrap();
        let message = busy.to_string();
        assert!(message.contains(&format!("another run (process {})", child.id())), "{message}");
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
        let error = run.clear().unwrap_err().to_string();
        assert!(error.contains("is no run directory") && error.contains("hint: name another --out"), "{error}");
        fs::create_dir_all(run.join("models/base")).unwrap();
        fs::write(run.join("manifest.json"), "{}").unwrap();
        run.clear().unwrap();
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".lock", "precious.txt"]);
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
