//! The monitor of one stage: TensorBoard (`tensorboard/<stage>/`), `metrics.jsonl` and
//! `samples/<stage>.txt` of a run directory.
//!
//! All three forget what a killed attempt recorded after the step that the stage resumes from, so
//! nothing is there twice. A TensorBoard that was open meanwhile shows the dropped points until it
//! is reloaded.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::Monitor;
use super::tensorboard::TensorBoard;
use crate::artifacts::atomic;
use crate::error::{Error, Result};

pub struct RunMonitor {
    stage: String,
    metrics: PathBuf,
    samples: PathBuf,
    board: TensorBoard,
}

impl RunMonitor {
    /// `resume_step` is the last step whose metrics stand (that of the checkpoint); `None` starts
    /// the stage over. A stage may be a path such as `pretrain/base`. One monitor for each stage at
    /// a time.
    pub fn open(run_dir: &Path, stage: &str, resume_step: Option<u64>) -> Result<Self> {
        let metrics = run_dir.join("metrics.jsonl");
        let samples = run_dir.join("samples").join(format!("{stage}.txt"));
        trim_lines(&metrics, |line| stays(line, stage, resume_step))?;
        let mut last = None;
        trim_lines(&samples, |line| {
            last = section_step(line).or(last);
            last.zip(resume_step).is_some_and(|(step, resume)| step <= resume)
        })?;
        let board = TensorBoard::open(&run_dir.join("tensorboard").join(stage), resume_step)?;
        Ok(Self { stage: stage.to_owned(), metrics, samples, board })
    }
}

impl Monitor for RunMonitor {
    /// One line `{"stage", "step", "time" (Unix seconds), "<name>": value…}`; a value that is not
    /// finite is `null` there (JSON has no word for it) and itself in TensorBoard.
    fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let mut line = Map::new();
        line.insert("stage".to_owned(), self.stage.clone().into());
        line.insert("step".to_owned(), step.into());
        line.insert("time".to_owned(), unix_seconds().into());
        for (name, value) in values {
            line.insert((*name).to_owned(), (*value).into());
        }
        // First: a full disk is an ordinary error here, but a panic inside TensorBoard's writer.
        append(&self.metrics, &format!("{}\n", Value::Object(line)))?;
        values.iter().try_for_each(|(name, value)| self.board.scalar(name, *value, step))
    }

    fn text(&mut self, step: u64, tag: &str, text: &str) -> Result<()> {
        // Indented, so that no line of it can look like a heading.
        let body: String = text.lines().map(|line| format!("    {line}\n")).collect();
        append(&self.samples, &format!("=== step {step}: {tag}\n{body}\n"))
    }

    fn flush(&mut self) -> Result<()> {
        for path in [&self.metrics, &self.samples] {
            match fs::File::open(path).and_then(|file| file.sync_data()) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(path, "writing")(error));
                }
                _ => {}
            }
        }
        self.board.flush()
    }
}

fn unix_seconds() -> f64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    time.as_millis() as f64 / 1000.0
}

/// Opened for each write: another stage's monitor may have replaced the file meanwhile, and a
/// metric line is rare.
fn append(path: &Path, text: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Error::io(parent, "creating the folder"))?;
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(Error::io(path, "writing"))
}

/// Keeps the complete lines that `keep` says yes to.
fn trim_lines(path: &Path, mut keep: impl FnMut(&str) -> bool) -> Result<()> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io(path, "reading")(error)),
    };
    let mut kept = Vec::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
        if keep(&String::from_utf8_lossy(line)) {
            kept.extend_from_slice(line);
        }
    }
    if kept.len() == bytes.len() { Ok(()) } else { atomic::write(path, &kept) }
}

/// Lines of other stages stay, and so do those up to the resumed step. What cannot be read was half
/// written.
fn stays(line: &str, stage: &str, resume_step: Option<u64>) -> bool {
    let Ok(line) = serde_json::from_str::<Map<String, Value>>(line) else { return false };
    if line.get("stage").and_then(Value::as_str) != Some(stage) {
        return true;
    }
    line.get("step")
        .and_then(Value::as_u64)
        .zip(resume_step)
        .is_some_and(|(step, resume)| step <= resume)
}

fn section_step(line: &str) -> Option<u64> {
    line.strip_prefix("=== step ")?.split_once(':')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(run: &Path) -> Vec<(String, u64, Value)> {
        let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        text.lines()
            .map(|line| {
                let line: Value = serde_json::from_str(line).unwrap();
                assert!(line["time"].as_f64().unwrap() > 1.6e9);
                (
                    line["stage"].as_str().unwrap().to_owned(),
                    line["step"].as_u64().unwrap(),
                    line["loss"].clone(),
                )
            })
            .collect()
    }

    #[test]
    fn a_resumed_stage_has_no_line_twice() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path();
        let mut other = RunMonitor::open(run, "pretrain/base", None).unwrap();
        other.scalars(9, &[("loss", 1.0)]).unwrap();
        let mut monitor = RunMonitor::open(run, "sft", None).unwrap();
        for step in 1..=4 {
            monitor.scalars(step, &[("loss", step as f64 / 4.0), ("grad_norm", f64::NAN)]).unwrap();
            monitor.text(step, "sample", &format!("text {step}\n=== step 1: a trick")).unwrap();
        }
        monitor.flush().unwrap();
        drop(monitor);
        // The kill came in the middle of a line.
        append(&run.join("metrics.jsonl"), "{\"stage\": \"sft\", \"st").unwrap();
        let mut monitor = RunMonitor::open(run, "sft", Some(2)).unwrap();
        // A monitor that was open during the rewrite still writes to the right file.
        other.scalars(10, &[("loss", 0.5)]).unwrap();
        monitor.scalars(3, &[("loss", 0.7)]).unwrap();
        monitor.flush().unwrap();
        let expected = [
            ("pretrain/base", 9, 1.0),
            ("sft", 1, 0.25),
            ("sft", 2, 0.5),
            ("pretrain/base", 10, 0.5),
            ("sft", 3, 0.7),
        ];
        assert_eq!(
            lines(run),
            expected.map(|(stage, step, loss)| (stage.to_owned(), step, Value::from(loss)))
        );
        let samples = fs::read_to_string(run.join("samples/sft.txt")).unwrap();
        assert!(
            samples.contains("=== step 2: sample\n    text 2\n    === step 1: a trick\n"),
            "{samples}"
        );
        assert!(!samples.contains("text 3"), "{samples}");
        drop(monitor);
        // Started over: only the other stage is left.
        RunMonitor::open(run, "sft", None).unwrap();
        assert!(lines(run).iter().all(|(stage, ..)| stage == "pretrain/base"));
        assert_eq!(fs::read_to_string(run.join("samples/sft.txt")).unwrap(), "");
        assert_eq!(
            super::super::records::event_files(&run.join("tensorboard/sft")).unwrap().len(),
            1
        );
    }

    #[test]
    fn values_that_are_not_finite_are_null() {
        let folder = tempfile::tempdir().unwrap();
        let mut monitor = RunMonitor::open(folder.path(), "dpo", None).unwrap();
        monitor.scalars(1, &[("loss", f64::INFINITY)]).unwrap();
        assert_eq!(lines(folder.path()), [("dpo".to_owned(), 1, Value::Null)]);
    }

    #[test]
    fn an_unwritable_run_directory_is_an_error_not_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tensorboard"), "in the way").unwrap();
        let error = RunMonitor::open(folder.path(), "sft", None).err().unwrap();
        assert!(matches!(error, Error::Io { .. }), "{error}");
    }
}
