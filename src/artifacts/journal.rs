//! An append-only JSONL file that a killed run continues from.
//!
//! A line counts once its line break is on disk. The half line that a kill can leave is cut off when the journal is opened again.

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
    /// Opens or creates `path` (with its folder) and returns the entries it holds. A complete line that is no `T` is an
    /// [`Error::Data`] with its number: such a file was not written by this program, or not by this version of it.
    pub fn open(path: impl AsRef<Path>) -> Result<(Self, Vec<T>)> {
        let path = path.as_ref();
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(Error::io(folder, "creating the folder"))?;
        let is_new = !path.exists();
        let file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(Error::io(path, "opening"))?;
        if is_new {
            atomic::sync_folder(folder)?;
        }
        let (entries, length) = read(path, &file)?;
        if length < file.metadata().map_err(Error::io(path, "reading"))?.len() {
            file.set_len(length).and_then(|()| file.sync_all()).map_err(Error::io(path, "cutting off a half-written line"))?;
        }
        Ok((Self { path: path.to_owned(), file, length, item: PhantomData }, entries))
    }

    /// Adds one line, on disk when this returns. After a failure the file holds what it held before.
    pub fn append(&mut self, entry: &T) -> Result<()> {
        let mut line = serde_json::to_vec(entry).map_err(|error| Error::data(&self.path, None, error.to_string()))?;
        line.push(b'\n');
        if let Err(error) = self.file.write_all(&line).and_then(|()| self.file.sync_data()) {
            // Best effort: the write's own error is the one to report, and `open` repairs what is left.
            let _ = self.file.set_len(self.length);
            return Err(Error::io(&self.path, "writing")(error));
        }
        self.length += line.len() as u64;
        Ok(())
    }
}

/// The entries of all complete lines, and their bytes.
fn read<T: DeserializeOwned>(path: &Path, file: &File) -> Result<(Vec<T>, u64)> {
    let mut reader = BufReader::new(file);
    let (mut entries, mut length, mut line) = (Vec::new(), 0, Vec::new());
    loop {
        line.clear();
        let count = reader.read_until(b'\n', &mut line).map_err(Error::io(path, "reading"))?;
        if line.last() != Some(&b'\n') {
            return Ok((entries, length));
        }
        let entry = serde_json::from_slice(&line).map_err(|error| {
            let hint = "hint: move this file away to have its work done again";
            Error::data(path, Some(entries.len() + 1), format!("not an entry of this journal: {error}\n\n{hint}"))
        })?;
        entries.push(entry);
        length += count as u64;
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
    fn a_broken_line_in_the_middle_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let text = "[1,\"a\"]\n{\"id\": 2}\n[3,\"c\"]\n";
        fs::write(&path, text).unwrap();
        let message = Journal::<Entry>::open(&path).unwrap_err().to_string();
        assert!(message.contains("journal.jsonl:2: not an entry"), "{message}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "a file that is not understood is left alone");
    }

    #[test]
    fn a_full_disk_is_reported() {
        let file = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let mut journal = Journal::<Entry> { path: "/dev/full".into(), file, length: 0, item: PhantomData };
        let message = journal.append(&entry(1)).unwrap_err().to_string();
        assert!(message.contains("/dev/full: writing: No space left") && message.contains("hint: free some space"), "{message}");
        assert_eq!(journal.length, 0);
    }
}
