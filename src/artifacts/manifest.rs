//! `manifest.json`: which tasks of a run are done, from what settings, and the size and hash of
//! what they left. Each shard of a run has a manifest of its own.
//!
//! A task goes `begin` → `finish`. Names and fingerprints are the pipeline's to choose, and so is
//! how far a task goes: one that did less than is asked for now is continued, one that did more is
//! done.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{FileHashes, atomic};
use crate::error::{Error, Result};

#[derive(Debug)]
pub struct Manifest {
    path: PathBuf,
    /// That outputs are relative to.
    folder: PathBuf,
    tasks: BTreeMap<String, Task>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Task {
    fingerprint: String,
    /// Files and folders that are its own from its beginning on, relative to the run directory,
    /// with `/`.
    #[serde(default)]
    owns: Vec<String>,
    /// What the fingerprint stands for, as far as it can be told.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    origin: Value,
    #[serde(flatten)]
    state: TaskState,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum TaskState {
    Begun,
    /// To be done anew, whatever lies there.
    Forgotten,
    Done {
        seconds: f64,
        outputs: Vec<Output>,
        #[serde(default, skip_serializing_if = "Reach::is_empty")]
        reach: Reach,
    },
}

/// How far a task went, or is to go, by the names of what it can do more or less of.
pub type Reach = BTreeMap<String, usize>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Output {
    /// Relative to the run directory, with `/`.
    path: String,
    bytes: u64,
    sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    tasks: BTreeMap<String, Task>,
}

impl Manifest {
    /// Reads `<folder>/manifest.json`; an absent one is empty.
    pub fn load(folder: &Path) -> Result<Self> {
        Self::load_from(folder.join("manifest.json"), folder)
    }

    /// Reads `path`, whose outputs lie in `folder`; an absent one is empty.
    pub fn load_from(path: PathBuf, folder: &Path) -> Result<Self> {
        let tasks =
            match fs::read(&path) {
                Ok(bytes) => {
                    let document: Document = serde_json::from_slice(&bytes).map_err(|error| {
                    let hint = "hint: restore the file, or remove it to have all that it records \
                                done again";
                    Error::data(&path, Some(error.line()), format!("not a manifest: \
                                                                    {error}\n\n{hint}"))
                })?;
                    document.tasks
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
                Err(error) => return Err(Error::io(path, "reading")(error)),
            };
        Ok(Self { path, folder: folder.to_owned(), tasks })
    }

    /// Whether `task` was finished with this fingerprint, at least as far as is asked, and every
    /// file it left is still as it was left.
    pub fn is_done(
        &self,
        task: &str,
        fingerprint: &str,
        asked: &Reach,
        hashes: &FileHashes,
    ) -> bool {
        self.finished(task, fingerprint).is_some_and(|(outputs, reach)| {
            covers(reach, asked) && self.are_intact(outputs, hashes)
        })
    }

    /// The files of `task`, finished with this fingerprint, that are no longer as it left them.
    pub fn changed(&self, task: &str, fingerprint: &str, hashes: &FileHashes) -> Vec<String> {
        let outputs = self.finished(task, fingerprint).map_or(&[][..], |(outputs, _)| outputs);
        let changed =
            outputs.iter().filter(|it| !self.are_intact(std::slice::from_ref(it), hashes));
        changed.map(|output| output.path.clone()).collect()
    }

    fn finished(&self, task: &str, fingerprint: &str) -> Option<(&[Output], &Reach)> {
        match self.tasks.get(task)? {
            Task {
                fingerprint: recorded, state: TaskState::Done { outputs, reach, .. }, ..
            } if recorded == fingerprint => Some((outputs, reach)),
            _ => None,
        }
    }

    /// Reads files that are not remembered; sizes are compared first, so a truncated file is found
    /// without hashing its neighbours.
    fn are_intact(&self, outputs: &[Output], hashes: &FileHashes) -> bool {
        let path = |output: &Output| self.folder.join(&output.path);
        outputs.iter().all(|output| {
            fs::metadata(path(output))
                .is_ok_and(|found| found.is_file() && found.len() == output.bytes)
        }) && outputs
            .iter()
            .all(|output| hashes.of(&path(output)).is_ok_and(|found| found == output.sha256))
    }

    /// Whether `task` was finished, with whatever settings.
    pub fn was_done(&self, task: &str) -> bool {
        self.tasks.get(task).is_some_and(|task| matches!(task.state, TaskState::Done { .. }))
    }

    /// Whether `task` was begun and not finished, with whatever settings.
    pub fn was_begun(&self, task: &str) -> bool {
        self.tasks.get(task).is_some_and(|task| task.state == TaskState::Begun)
    }

    /// True: an attempt with this very fingerprint left partial work, which may be continued: it
    /// was interrupted, or went less far than is asked. False: whatever lies at the task's outputs
    /// belongs to something else (or was tampered with) and must be wiped before the task is begun.
    pub fn continues(
        &self,
        task: &str,
        fingerprint: &str,
        asked: &Reach,
        hashes: &FileHashes,
    ) -> bool {
        self.is_under_way(task, fingerprint)
            || self.finished(task, fingerprint).is_some_and(|(outputs, reach)| {
                !covers(reach, asked) && self.are_intact(outputs, hashes)
            })
    }

    /// Whether an attempt with this very fingerprint was begun and not finished.
    pub fn is_under_way(&self, task: &str, fingerprint: &str) -> bool {
        self.tasks
            .get(task)
            .is_some_and(|task| task.fingerprint == fingerprint && task.state == TaskState::Begun)
    }

    /// The fingerprint of what lies at the outputs of `task`: of an attempt under way, or of one
    /// that was finished and whose files are as it left them.
    pub fn holds(&self, task: &str, hashes: &FileHashes) -> Option<&str> {
        let Task { fingerprint, state, .. } = self.tasks.get(task)?;
        let is_own = match state {
            TaskState::Begun => true,
            TaskState::Forgotten => false,
            TaskState::Done { outputs, .. } => self.are_intact(outputs, hashes),
        };
        is_own.then_some(fingerprint)
    }

    /// Records `task` as begun: what lies at `owns`, paths relative to the run directory, is its
    /// own from now on. `origin` is what its fingerprint stands for, for people.
    pub fn begin(
        &mut self,
        task: &str,
        fingerprint: &str,
        owns: &[String],
        origin: &Value,
    ) -> Result<()> {
        if self.is_under_way(task, fingerprint) {
            return Ok(());
        }
        self.record(
            task,
            Task {
                fingerprint: fingerprint.to_owned(),
                owns: owns.to_vec(),
                origin: origin.clone(),
                state: TaskState::Begun,
            },
        )
    }

    /// Records a begun `task` as done as far as `reach`, with all files that it owns.
    pub fn finish(
        &mut self,
        task: &str,
        seconds: f64,
        reach: &Reach,
        hashes: &FileHashes,
    ) -> Result<()> {
        let Some(Task { fingerprint, owns, origin, .. }) = self.tasks.get(task).cloned() else {
            return Err(Error::failed(format!("task `{task}` was finished but never begun")));
        };
        let mut files = Vec::new();
        for owned in &owns {
            list(&self.folder, Path::new(owned), &mut files)?;
        }
        files.sort();
        files.dedup();
        let outputs =
            files.iter().map(|file| self.describe(file, hashes)).collect::<Result<_>>()?;
        self.record(
            task,
            Task {
                fingerprint,
                owns,
                origin,
                state: TaskState::Done { seconds, outputs, reach: reach.clone() },
            },
        )
    }

    /// Forgets that the tasks that `which` names were done or begun, so that they are done anew.
    pub fn forget(&mut self, which: impl Fn(&str) -> bool) -> Result<()> {
        let mut tasks = self.tasks.clone();
        for (_, task) in tasks.iter_mut().filter(|(name, _)| which(name)) {
            task.state = TaskState::Forgotten;
        }
        self.store(tasks)
    }

    /// Every task that was ever begun here, and what it owns.
    pub fn owned(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.tasks.iter().map(|(name, task)| (name.as_str(), &task.owns[..]))
    }

    /// The fingerprint of the last attempt, finished or not.
    pub fn fingerprint_of(&self, task: &str) -> Option<String> {
        self.tasks.get(task).map(|task| task.fingerprint.clone())
    }

    /// What the fingerprint of the last attempt stands for; null where that is not known.
    pub fn origin(&self, task: &str) -> &Value {
        self.tasks.get(task).map_or(&Value::Null, |task| &task.origin)
    }

    /// What a finished task was made from and is no longer there, or was made anew since; as far as
    /// its origin says.
    pub fn outdated_inputs(&self, task: &str) -> Vec<&str> {
        let inputs = self.origin(task)["inputs"].as_object();
        let is_outdated = |(name, made): &(&String, &Value)| {
            let now = self.tasks.get(*name);
            now.is_some_and(|now| {
                let is_done = matches!(now.state, TaskState::Done { .. });
                !is_done || made.as_str().is_some_and(|made| made != now.fingerprint)
            })
        };
        inputs.into_iter().flatten().filter(is_outdated).map(|(name, _)| name.as_str()).collect()
    }

    fn describe(&self, file: &Path, hashes: &FileHashes) -> Result<Output> {
        let path = self.folder.join(file);
        let bytes = fs::metadata(&path).map_err(Error::io(&path, "reading"))?.len();
        let name = file
            .to_str()
            .ok_or_else(|| Error::data(&path, None, "the name of an output must be UTF-8"))?;
        Ok(Output { path: name.to_owned(), bytes, sha256: hashes.of(&path)? })
    }

    fn record(&mut self, name: &str, task: Task) -> Result<()> {
        let mut tasks = self.tasks.clone();
        tasks.insert(name.to_owned(), task);
        self.store(tasks)
    }

    /// The file is written before the state in memory changes, so that both tell the same story
    /// after a failure.
    fn store(&mut self, tasks: BTreeMap<String, Task>) -> Result<()> {
        let document = Document { tasks };
        let mut text = serde_json::to_vec_pretty(&document)
            .map_err(|error| Error::data(&self.path, None, error.to_string()))?;
        text.push(b'\n');
        atomic::write(&self.path, &text)?;
        self.tasks = document.tasks;
        Ok(())
    }
}

fn covers(reach: &Reach, asked: &Reach) -> bool {
    asked.iter().all(|(what, asked)| reach.get(what).copied().unwrap_or_default() >= *asked)
}

/// Adds `relative`, or all files below it, to `files`.
fn list(root: &Path, relative: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let path = root.join(relative);
    if !relative.is_relative() {
        return Err(Error::failed(format!(
            "output `{}` must be relative to the run directory",
            relative.display()
        )));
    }
    if !fs::metadata(&path).map_err(Error::io(&path, "reading an output"))?.is_dir() {
        files.push(relative.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(&path).map_err(Error::io(&path, "reading an output"))? {
        let entry = entry.map_err(Error::io(&path, "reading an output"))?;
        if !atomic::is_temporary(&entry.path()) {
            list(root, &relative.join(entry.file_name()), files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
