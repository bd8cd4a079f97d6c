//! An append-only JSONL file that a killed run continues from.
//!
//! A line counts once its line break is on disk. The half line that a kill can leave is cut off
//! when the journal is opened again.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::atomic;
use crate::error::{Error, Result};

#[derive(Debug)]
pub struct Journal<T> {
    path: PathBuf,
    file: File,
    /// Bytes of complete lines.
    length: u64,
    item: PhantomData<fn(&T)>,
}

impl<T: Serialize + DeserializeOwned> Journal<T> {
    /// Opens or creates `path` (with its folder) and returns the entries it holds. A complete line
    /// that is no `T` is an [`Error::Data`] with its number: such a file was not written by this
    /// program, or not by this version of it.
    pub fn open(path: impl AsRef<Path>) -> Result<(Self, Vec<T>)> {
        let path = path.as_ref();
        let folder =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(Error::io(folder, "creating the folder"))?;
        let is_new = !path.exists();
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(Error::io(path, "opening the journal"))?;
        if is_new {
            atomic::sync_folder(folder)?;
        }
        let mut entries = Vec::new();
        let length = read(path, &file, |entry, _| entries.push(entry))?;
        if length < file.metadata().map_err(Error::io(path, "reading"))?.len() {
            file.set_len(length)
                .and_then(|()| file.sync_all())
                .map_err(Error::io(path, "cutting off a half-written line"))?;
        }
        Ok((Self { path: path.to_owned(), file, length, item: PhantomData }, entries))
    }

    /// Adds one line, on disk when this returns. After a failure the file holds what it held
    /// before.
    pub fn append(&mut self, entry: &T) -> Result<()> {
        self.append_all(std::slice::from_ref(entry))
    }

    /// [`Self::append`] for many, all or none.
    pub fn append_all(&mut self, entries: &[T]) -> Result<()> {
        let mut lines = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut lines, entry)
                .map_err(|error| Error::data(&self.path, None, error.to_string()))?;
            lines.push(b'\n');
        }
        if let Err(error) = self.file.write_all(&lines).and_then(|()| self.file.sync_data()) {
            // Best effort: the write's own error is the one to report, and `open` repairs what is
            // left.
            let _ = self.file.set_len(self.length);
            return Err(Error::io(&self.path, "writing")(error));
        }
        self.length += lines.len() as u64;
        Ok(())
    }
}

/// The complete lines of the journal at `path`, each with its entry; none where there is no file.
/// Changes nothing, so that another process may be writing it.
pub fn complete_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<(T, Vec<u8>)>> {
    let mut lines = Vec::new();
    match File::open(path) {
        Ok(file) => read(path, &file, |entry, line| lines.push((entry, line.to_owned())))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(Error::io(path, "opening")(error)),
    };
    Ok(lines)
}

/// Replaces the journal at `path` by `lines`, which [`complete_lines`] gave: bytes, because a
/// number that is read and written again may lose its last bit.
pub fn replace<'a>(path: &Path, lines: impl IntoIterator<Item = &'a Vec<u8>>) -> Result<()> {
    atomic::write_with(path, |file| lines.into_iter().try_for_each(|line| file.write_all(line)))
}

/// Hands out all complete lines and returns how many bytes they are.
fn read<T: DeserializeOwned>(
    path: &Path,
    file: &File,
    mut found: impl FnMut(T, &[u8]),
) -> Result<u64> {
    let mut reader = BufReader::new(file);
    let (mut count, mut length, mut line) = (0, 0, Vec::new());
    loop {
        line.clear();
        length += reader.read_until(b'\n', &mut line).map_err(Error::io(path, "reading"))? as u64;
        if line.last() != Some(&b'\n') {
            return Ok(length - line.len() as u64);
        }
        count += 1;
        let entry = serde_json::from_slice(&line).map_err(|error| {
            let hint = "hint: remove this line to have its work done again, and that alone";
            Error::data(
                path,
                Some(count),
                format!("not an entry of this journal: {error}\n\n{hint}"),
            )
        })?;
        found(entry, &line);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    type Entry = (u32, String);

    fn entry(id: u32) -> Entry {
        (id, format!("text\nof {id}"))
    }

    #[test]
    fn continues_after_a_kill_at_any_byte_of_the_last_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("steer/gpt2/seed-1.jsonl");
        let (mut journal, entries) = Journal::<Entry>::open(&path).unwrap();
        assert!(entries.is_empty());
        journal.append(&entry(1)).unwrap();
        let one = fs::metadata(&path).unwrap().len();
        journal.append(&entry(2)).unwrap();
        drop(journal);
        let whole = fs::read(&path).unwrap();
        for cut in one as usize..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let (mut journal, entries) = Journal::<Entry>::open(&path).unwrap();
            assert_eq!(entries, [entry(1)], "cut at byte {cut}");
            journal.append(&entry(2)).unwrap();
            assert_eq!(fs::read(&path).unwrap(), whole, "cut at byte {cut}");
        }
        assert_eq!(Journal::<Entry>::open(&path).unwrap().1, [entry(1), entry(2)]);
    }

    #[test]
    fn lines_go_from_one_journal_to_another_as_they_stand() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("shard.jsonl"), folder.path().join("whole.jsonl"));
        assert!(complete_lines::<Entry>(&from).unwrap().is_empty());
        let text = "[1, \"one\"]\n[2,\"\\u0074wo\"]\n[3,\"half";
        fs::write(&from, text).unwrap();
        let lines = complete_lines::<Entry>(&from).unwrap();
        assert_eq!(
            lines.iter().map(|(entry, _)| entry.clone()).collect::<Vec<_>>(),
            [(1, "one".to_owned()), (2, "two".to_owned())]
        );
        assert_eq!(fs::read_to_string(&from).unwrap(), text, "another process may be writing it");
        replace(&to, lines.iter().rev().map(|(_, line)| line)).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "[2,\"\\u0074wo\"]\n[1, \"one\"]\n");
    }

    #[test]
    fn a_broken_line_in_the_middle_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let text = "[1,\"a\"]\n{\"id\": 2}\n[3,\"c\"]\n";
        fs::write(&path, text).unwrap();
        let message = Journal::<Entry>::open(&path).unwrap_err().to_string();
        assert!(message.contains("journal.jsonl:2: not an entry"), "{message}");
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            text,
            "a file that is not understood is left alone"
        );
    }

    #[test]
    fn a_full_disk_is_reported() {
        let file = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let mut journal =
            Journal::<Entry> { path: "/dev/full".into(), file, length: 0, item: PhantomData };
        let message = journal.append(&entry(1)).unwrap_err().to_string();
        assert!(
            message.contains("/dev/full: writing: No space left")
                && message.contains("hint: free some space"),
            "{message}"
        );
        assert_eq!(journal.length, 0);
    }
}
