//! Hashes of files, remembered by size, times and inode, so that gigabytes of weights are read once
//! and not at every start.
//!
//! A file is known by what the file system says of it and never by its name, so that a moved folder
//! is known again. As in git, a file that changed just before it was hashed is not remembered: it
//! could change once more within the same tick of the file system's clock.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tracing::debug;

use super::{atomic, hash_file};
use crate::error::{Error, Result};

/// Bytes from which on a file's hash outlives the process; a smaller one is hashed faster than
/// remembered.
const LARGE: u64 = 1 << 20;
/// Seconds for which a change may look like the one before it: the coarsest clock of a file system
/// (FAT's).
const TICK: i64 = 2;

#[derive(Debug)]
pub struct FileHashes {
    path: PathBuf,
    known: RefCell<BTreeMap<Inode, Known>>,
}

/// Device and number, as JSON has keys.
type Inode = String;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Known {
    #[serde(flatten)]
    stamp: Stamp,
    sha256: String,
}

/// What changes with a file's content. Times are seconds and nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    modified: [i64; 2],
    changed: [i64; 2],
}

impl FileHashes {
    /// Those remembered at `path`. They save time and nothing else, so a file that is missing or
    /// cannot be read holds none.
    pub fn load(path: PathBuf) -> Self {
        let known = RefCell::new(read(&path));
        Self { path, known }
    }

    /// SHA-256 of a file's bytes: as remembered, if nothing that the file system says of it has
    /// changed since.
    pub fn of(&self, path: &Path) -> Result<String> {
        let (inode, stamp) = look(path)?;
        if let Some(known) = self.known.borrow().get(&inode).filter(|known| known.stamp == stamp) {
            return Ok(known.sha256.clone());
        }
        let now =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() as i64);
        let sha256 = hash_file(path)?;
        if look(path)? == (inode.clone(), stamp.clone()) && stamp.is_settled(now) {
            let is_large = stamp.bytes >= LARGE;
            self.known.borrow_mut().insert(inode, Known { stamp, sha256: sha256.clone() });
            if is_large && let Err(error) = self.store() {
                debug!("hashes are not remembered: {error}");
            }
        }
        Ok(sha256)
    }

    /// Together with what other processes have learned meanwhile: shards share the file.
    fn store(&self) -> Result<()> {
        let mut all = read(&self.path);
        all.extend(
            self.known
                .borrow()
                .iter()
                .filter(|(_, known)| known.stamp.bytes >= LARGE)
                .map(|(inode, known)| (inode.clone(), known.clone())),
        );
        let text =
            serde_json::to_vec_pretty(&all).map_err(|error| Error::failed(error.to_string()))?;
        atomic::write(&self.path, &text)
    }
}

impl Stamp {
    /// Whether a later change cannot have these times too.
    fn is_settled(&self, now: i64) -> bool {
        [self.modified, self.changed].iter().all(|[seconds, _]| now.saturating_sub(*seconds) > TICK)
    }
}

fn read(path: &Path) -> BTreeMap<Inode, Known> {
    fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn look(path: &Path) -> Result<(Inode, Stamp)> {
    let found = fs::metadata(path).map_err(Error::io(path, "reading"))?;
    let stamp = Stamp {
        bytes: found.len(),
        modified: [found.mtime(), found.mtime_nsec()],
        changed: [found.ctime(), found.ctime_nsec()],
    };
    Ok((format!("{}:{}", found.dev(), found.ino()), stamp))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::Duration;

    use super::*;

    /// Writes a large file of one byte over and over and gives it a time of change long past. What
    /// the kernel notes as the change of the file's entry cannot be set back, so that these tests
    /// wait for it where they must.
    fn write(path: &Path, byte: u8) {
        fs::write(path, vec![byte; LARGE as usize]).unwrap();
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000))
            .unwrap();
    }

    fn settle() {
        std::thread::sleep(Duration::from_secs(TICK as u64 + 2));
    }

    #[test]
    fn a_file_is_read_once_and_known_again_wherever_it_lies() {
        let folder = tempfile::tempdir().unwrap();
        let memory = folder.path().join("state/hashes.json");
        let [old, new] = ["model", "renamed"].map(|name| folder.path().join(name));
        fs::create_dir(&old).unwrap();
        write(&old.join("weights"), b'a');
        fs::write(old.join("small"), "small").unwrap();
        settle();
        let hashes = FileHashes::load(memory.clone());
        let hash = hashes.of(&old.join("weights")).unwrap();
        assert_eq!(hash, hash_file(&old.join("weights")).unwrap());
        hashes.of(&old.join("small")).unwrap();
        fs::rename(&old, &new).unwrap();
        let text = fs::read_to_string(&memory).unwrap();
        assert!(
            text.contains(&hash) && !text.contains("model") && text.matches("sha256").count() == 1,
            "{text}"
        );
        // What is remembered is what is said: the file is not read again.
        fs::write(&memory, text.replace(&hash, "remembered")).unwrap();
        assert_eq!(
            FileHashes::load(memory.clone()).of(&new.join("weights")).unwrap(),
            "remembered"
        );

        // Same size, same time of modification, same inode: only the kernel's own note of the
        // change tells.
        write(&new.join("weights"), b'b');
        let other = FileHashes::load(memory.clone()).of(&new.join("weights")).unwrap();
        assert!(other == hash_file(&new.join("weights")).unwrap() && other != hash);
        fs::write(&memory, "{\"1:2\": {\"bytes\": ").unwrap();
        assert_eq!(
            FileHashes::load(memory).of(&new.join("weights")).unwrap(),
            other,
            "a broken memory is an empty one"
        );
    }

    #[test]
    fn what_changed_a_moment_ago_is_not_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let (memory, path) = (folder.path().join("hashes.json"), folder.path().join("weights"));
        write(&path, b'a');
        let hashes = FileHashes::load(memory.clone());
        hashes.of(&path).unwrap();
        assert!(!memory.exists() && hashes.known.borrow().is_empty());

        let now = 1_000;
        let settled = |modified, changed| {
            Stamp { bytes: 0, modified: [modified, 0], changed: [changed, 0] }.is_settled(now)
        };
        assert!(settled(990, 997));
        assert!(!settled(990, 998) && !settled(998, 990), "either time may be the last one");
        assert!(!settled(2_000, 990), "a clock ahead of ours says nothing");
    }

    #[test]
    fn every_part_of_the_stamp_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        write(&path, b'a');
        let (inode, stamp) = look(&path).unwrap();
        let others = [
            (inode.clone(), Stamp { bytes: stamp.bytes + 1, ..stamp.clone() }),
            (inode.clone(), Stamp { modified: [stamp.modified[0], 1], ..stamp.clone() }),
            (
                inode.clone(),
                Stamp { changed: [stamp.changed[0], stamp.changed[1] + 1], ..stamp.clone() },
            ),
            (format!("{inode}0"), stamp.clone()),
        ];
        let remembered = |inode: String, stamp: Stamp| {
            let known = BTreeMap::from([(inode, Known { stamp, sha256: "remembered".into() })]);
            FileHashes { path: folder.path().join("memory"), known: RefCell::new(known) }
                .of(&path)
                .unwrap()
                == "remembered"
        };
        assert!(remembered(inode, stamp));
        for (inode, stamp) in others {
            assert!(!remembered(inode.clone(), stamp.clone()), "{inode} {stamp:?}");
        }
    }
}
