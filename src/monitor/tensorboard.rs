//! Scalars for TensorBoard through tensorboard-rs, with that crate's habits made safe.
//!
//! It writes from a thread of its own, panics there when a write fails, and panics again in whoever
//! talks to it next. Here every call is guarded, `flush` waits until all events are in the file,
//! and a failed writer is never touched again. It also names a file by the second it was opened in,
//! so that two in one second would be one: `open` waits for a free second.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tensorboard_rs::summary_writer::SummaryWriter;

use super::records;
use crate::error::{Error, Result};

const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(2);

pub(super) struct TensorBoard {
    file: PathBuf,
    /// None once it failed.
    writer: Option<SummaryWriter>,
    /// Events handed to the writer; those found complete in the file, and their bytes.
    sent: u64,
    seen: u64,
    seen_bytes: u64,
}

impl TensorBoard {
    /// A new event file in `folder`. Events after `last_step` are dropped from the older ones, all
    /// of them if it is `None`.
    pub(super) fn open(folder: &Path, last_step: Option<u64>) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(Error::io(folder, "creating the folder"))?;
        // The crate would panic in its thread: find out first whether a file can be made here.
        tempfile::tempfile_in(folder).map_err(Error::io(folder, "writing TensorBoard events"))?;
        for file in records::event_files(folder)? {
            records::trim(&file, last_step)?;
        }
        let older = records::event_files(folder)?;
        wait_for_a_free_second(&older);
        let writer = catch_unwind(|| SummaryWriter::new(folder)).map_err(|_| failure(folder))?;
        // Its thread makes the file in its own time.
        let started = Instant::now();
        let file = loop {
            if let Some(file) =
                records::event_files(folder)?.into_iter().find(|file| !older.contains(file))
            {
                break file;
            }
            if started.elapsed() > PATIENCE {
                std::mem::forget(writer);
                return Err(failure(folder));
            }
            std::thread::sleep(PAUSE);
        };
        // A new writer sends the event with the format's version.
        let mut board = Self { file, writer: Some(writer), sent: 1, seen: 0, seen_bytes: 0 };
        board.flush()?;
        Ok(board)
    }

    pub(super) fn scalar(&mut self, name: &str, value: f64, step: u64) -> Result<()> {
        // The format holds f32.
        self.guarded(|writer| writer.add_scalar(name, value as f32, step as usize))?;
        self.sent += 1;
        Ok(())
    }

    /// Waits until every event is in the file, and for the disk.
    pub(super) fn flush(&mut self) -> Result<()> {
        let started = Instant::now();
        loop {
            // Again and again: talking to it is the only way to learn that its thread has died.
            self.guarded(SummaryWriter::flush)?;
            if self.count_new_records()? >= self.sent {
                break;
            }
            if started.elapsed() > PATIENCE {
                self.abandon();
                return Err(failure(&self.file));
            }
            std::thread::sleep(PAUSE);
        }
        File::open(&self.file)
            .and_then(|file| file.sync_data())
            .map_err(Error::io(&self.file, "writing TensorBoard events"))
    }

    fn guarded(&mut self, call: impl FnOnce(&mut SummaryWriter)) -> Result<()> {
        let Some(writer) = &mut self.writer else { return Err(failure(&self.file)) };
        if catch_unwind(AssertUnwindSafe(|| call(writer))).is_err() {
            self.abandon();
            return Err(failure(&self.file));
        }
        Ok(())
    }

    /// Dropping a failed writer panics; its thread is gone already, so leaking it costs a few
    /// bytes.
    fn abandon(&mut self) {
        if let Some(writer) = self.writer.take() {
            std::mem::forget(writer);
        }
    }

    fn count_new_records(&mut self) -> Result<u64> {
        let mut bytes = Vec::new();
        File::open(&self.file)
            .and_then(|mut file| {
                file.seek(SeekFrom::Start(self.seen_bytes))?;
                file.read_to_end(&mut bytes)
            })
            .map_err(Error::io(&self.file, "reading TensorBoard events"))?;
        let mut rest = bytes.as_slice();
        while let Some(length) = records::record_length(rest) {
            rest = &rest[length..];
            self.seen += 1;
            self.seen_bytes += length as u64;
        }
        Ok(self.seen)
    }
}

impl Drop for TensorBoard {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            // Waits for the thread; should that have failed unseen, the last `flush` has already
            // vouched for what matters.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(writer)));
        }
    }
}

fn failure(path: &Path) -> Error {
    let hint = "hint: is the disk full? The same command continues from the last checkpoint";
    Error::failed(format!("{}: TensorBoard events could not be written\n\n{hint}", path.display()))
}

fn wait_for_a_free_second(taken: &[PathBuf]) {
    loop {
        let second =
            SystemTime::now().duration_since(UNIX_EPOCH).map(|time| time.as_secs()).unwrap_or(0);
        let prefix = format!("events.out.tfevents.{second:010}.");
        if !taken.iter().any(|file| {
            file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
        }) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// In a process of its own (of the test below): files may not grow beyond a page, as on a full
    /// disk.
    #[test]
    fn with_a_full_disk() {
        let Ok(folder) = std::env::var("W2S_TEST_FULL_DISK") else { return };
        let mut board = TensorBoard::open(Path::new(&folder), None).unwrap();
        let limit = libc::rlimit { rlim_cur: 4096, rlim_max: 4096 };
        // SAFETY: plain calls with valid arguments; SIGXFSZ would end the process before the write
        // could fail.
        unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
        }
        let failed = (1..500)
            .try_for_each(|step| board.scalar("loss", 1.0, step).and_then(|()| board.flush()));
        let message = failed.unwrap_err().to_string();
        assert!(
            message.contains("TensorBoard events could not be written")
                && message.contains("hint: is the disk full?"),
            "{message}"
        );
        assert!(board.scalar("loss", 1.0, 500).is_err() && board.flush().is_err());
        drop(board);
        println!("survived");
    }

    #[test]
    fn a_full_disk_is_an_error_and_no_panic_escapes() {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "monitor::tensorboard::tests::with_a_full_disk",
                "--exact",
                "--nocapture",
                "--test-threads=1",
            ])
            .env("W2S_TEST_FULL_DISK", folder.path())
            .output()
            .unwrap();
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && stdout.contains("survived"), "{stdout}\n{stderr}");
    }

    #[test]
    fn two_writers_in_a_row_keep_their_own_files() {
        let folder = tempfile::tempdir().unwrap();
        for step in 1..=2 {
            let mut board = TensorBoard::open(folder.path(), Some(step)).unwrap();
            board.scalar("loss", 0.5, step).unwrap();
            board.flush().unwrap();
        }
        let files = records::event_files(folder.path()).unwrap();
        let sizes: Vec<u64> =
            files.iter().map(|file| std::fs::metadata(file).unwrap().len()).collect();
        assert_eq!(files.len(), 2);
        assert_eq!(sizes[0], sizes[1], "one version event and one scalar in each");
    }
}
