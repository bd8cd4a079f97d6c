//! The run directory at work: the manifest of what is done, and the runner that does each piece of
//! work once. Knows no stage.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;
use tracing::{debug, info, warn};

use super::changes::changes;
use crate::artifacts::{FileHashes, Manifest, Reach, RunDir, Shard, atomic, interrupt};
use crate::error::{Error, Result};
use crate::train::Checkpoint;

/// A piece of work as the manifest knows it: what it is called, what it comes from, how far it
/// goes, and what is its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub name: String,
    pub fingerprint: String,
    pub reach: Reach,
    /// Files and folders relative to the run directory.
    pub outputs: Vec<String>,
    /// What the fingerprint stands for: settings, and the fingerprints of inputs, by their names.
    pub origin: Value,
}

/// A run directory, locked until this is dropped.
pub struct Run {
    dir: RunDir,
    manifest: RefCell<Manifest>,
    hashes: Rc<FileHashes>,
}

impl Run {
    pub fn open(dir: RunDir, hashes: Rc<FileHashes>) -> Result<Self> {
        let manifest = RefCell::new(Manifest::load(dir.path())?);
        Ok(Self { dir, manifest, hashes })
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.join(relative)
    }

    /// The shards that left a manifest here.
    pub fn shards(&self) -> Result<Vec<(Shard, Manifest)>> {
        let shards = self.dir.shards()?.into_iter();
        shards.map(|shard| Ok((shard, self.shard_manifest(shard)?))).collect()
    }

    pub fn shard_manifest(&self, shard: Shard) -> Result<Manifest> {
        Manifest::load_from(self.dir.shard_manifest(shard), self.dir())
    }

    /// Forgets a shard that has nothing left.
    pub fn remove_shard(&self, shard: Shard) -> Result<()> {
        remove(&self.dir.shard_manifest(shard))
    }

    pub fn is_done(&self, job: &Job) -> bool {
        self.manifest.borrow().is_done(&job.name, &job.fingerprint, &job.reach, &self.hashes)
    }

    /// The files of a job that was done which are no longer as it left them.
    pub fn changed(&self, job: &Job) -> Vec<String> {
        self.manifest.borrow().changed(&job.name, &job.fingerprint, &self.hashes)
    }

    /// Whether what lies at the job's outputs is part of its work.
    pub fn continues(&self, job: &Job) -> bool {
        self.manifest.borrow().continues(&job.name, &job.fingerprint, &job.reach, &self.hashes)
    }

    pub fn begin(&self, job: &Job) -> Result<()> {
        self.manifest.borrow_mut().begin(&job.name, &job.fingerprint, &job.outputs, &job.origin)
    }

    /// Records a begun job as done.
    pub fn finish(&self, job: &Job, seconds: f64) -> Result<()> {
        self.manifest.borrow_mut().finish(&job.name, seconds, &job.reach, &self.hashes)
    }

    /// Forgets that jobs were done.
    pub fn forget(&self, which: impl Fn(&str) -> bool) -> Result<()> {
        self.manifest.borrow_mut().forget(which)
    }

    /// Does `work` unless the manifest says that the job is done. Partial results of the same job
    /// are there for it to continue; those of another one have been removed.
    pub fn perform(&self, job: &Job, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let Job { name, fingerprint, outputs, .. } = job;
        if self.is_done(job) {
            info!("{name}: done already");
            return Ok(());
        }
        interrupt::check()?;
        debug!("{name}: fingerprint {fingerprint}");
        let continues = self.continues(job);
        if !continues {
            let manifest = self.manifest.borrow();
            let changed = changes(manifest.origin(name), &job.origin);
            let changed = if changed.is_empty() { changed } else { format!(" ({changed})") };
            let touched = manifest.changed(name, fingerprint, &self.hashes);
            if !touched.is_empty() {
                let kept = self.keep_aside(&touched, outputs)?;
                warn!(
                    "{name}: no longer as it was left: {}{kept}; its work is done again",
                    touched.join(", ")
                );
            } else if manifest.was_done(name) {
                warn!(
                    "{name}: was done with other settings, inputs or files{changed}; what it left \
                     is replaced"
                );
            } else if manifest.was_begun(name) {
                warn!(
                    "{name}: was interrupted under other settings or inputs{changed}; it starts \
                     anew"
                );
            }
            drop(manifest);
            // Before the job is begun: a kill in between must not leave another job's files as this
            // one's partial work.
            outputs.iter().try_for_each(|output| remove(&self.path(output)))?;
            self.checkpoint(name).remove()?;
        }
        self.begin(job)?;
        info!("{name}: {}", if continues { "continuing" } else { "starting" });
        let started = Instant::now();
        work()?;
        self.finish(job, started.elapsed().as_secs_f64())?;
        self.checkpoint(name).remove()?;
        info!("{name}: done in {:.1} s", started.elapsed().as_secs_f64());
        Ok(())
    }

    /// Moves files that somebody has changed out of the way of those that are made anew, and says
    /// where they are; of a folder, all is made anew.
    fn keep_aside(&self, touched: &[String], outputs: &[String]) -> Result<String> {
        let is_kept = |file: &&String| outputs.contains(file) && self.path(file).is_file();
        let mut kept = String::new();
        for file in touched.iter().filter(is_kept) {
            let (from, aside) = (self.path(file), format!("{file}.changed"));
            std::fs::rename(&from, self.path(&aside)).map_err(Error::io(&from, "renaming"))?;
            kept.push_str(&format!(", which is kept as {aside}"));
        }
        Ok(kept)
    }

    /// Where a training keeps its checkpoint while it runs.
    pub fn checkpoint(&self, job: &str) -> Checkpoint {
        Checkpoint::at(self.path(&format!("state/{}.safetensors", job.replace('/', "-"))))
    }

    /// What lies here of jobs that are none of `known`, one path for each output; what judges say
    /// comes last.
    pub fn left_by_others(&self, known: &BTreeSet<String>) -> Vec<String> {
        let manifest = self.manifest.borrow();
        let others = manifest
            .owned()
            .filter(|(name, _)| !known.contains(*name))
            .flat_map(|(_, owned)| owned);
        let mut left: Vec<String> =
            others.filter(|output| self.path(output).exists()).cloned().collect();
        left.sort_by_key(|path| (path.starts_with("evaluate/"), path.clone()));
        left
    }

    /// Whether a job of this name was done here, with whatever settings.
    pub fn was_done(&self, name: &str) -> bool {
        self.manifest.borrow().was_done(name)
    }
}

/// Empties `dir` of all that was ever begun in it, by this plan, whose own outputs are `outputs`,
/// or by others.
pub fn clear(dir: &RunDir, outputs: Vec<String>) -> Result<()> {
    let mut owned = outputs;
    let manifests = dir
        .shards()?
        .into_iter()
        .map(|shard| Manifest::load_from(dir.shard_manifest(shard), dir.path()));
    for manifest in manifests.chain([Manifest::load(dir.path())]) {
        match manifest {
            Ok(manifest) => owned.extend(manifest.owned().flat_map(|(_, owned)| owned).cloned()),
            Err(error) => warn!("what it records beyond this recipe's results stays: {error}"),
        }
    }
    let removed: BTreeSet<&str> = owned
        .iter()
        .filter(|path| dir.join(path).exists())
        .filter_map(|path| path.split('/').next())
        .collect();
    if !removed.is_empty() {
        let names = removed.into_iter().collect::<Vec<_>>().join(", ");
        info!("--fresh removes what runs wrote into {}: {names}", dir.path().display());
    }
    dir.clear(&owned)
}

/// Writes a small report as pretty JSON.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text =
        serde_json::to_string_pretty(value).map_err(|error| Error::failed(error.to_string()))?;
    atomic::write(path, format!("{text}\n").as_bytes())
}

/// Removes a file or a folder, if it is there.
pub fn remove(path: &Path) -> Result<()> {
    let removed =
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(path, "removing")(error))
        }
        _ => Ok(()),
    }
}
