//! Files that appear whole or not at all: temporary file in the same folder, fsync, rename, fsync
//! of the folder.
//!
//! A killed process can leave a temporary file behind but never a half file under the real name;
//! [`super::RunDir`] sweeps the former.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::error::{Error, Result};

const TEMPORARY_PREFIX: &str = ".w2s-partial-";

/// Replaces `path` by `bytes`. Missing parent folders are made.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |file| file.write_all(bytes))
}

/// Replaces `path` by what `fill` streams. If it fails, the old file stands and nothing new is left
/// behind.
pub fn write_with(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<()> {
    let parent =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(Error::io(parent, "creating the folder"))?;
    // tempfile's own default is 0600; a result should be as readable as the umask allows.
    let temporary = tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(parent)
        .map_err(Error::io(path, "writing"))?;
    let (file, temporary) = temporary.into_parts();
    let mut file = BufWriter::new(file);
    fill(&mut file)
        .and_then(|()| file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all())
        .map_err(Error::io(path, "writing"))?;
    temporary.persist(path).map_err(|failure| Error::io(path, "writing")(failure.error))?;
    sync_folder(parent)
}

/// Makes the names in `folder` durable.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(Error::io(folder, "syncing the folder"))
}

/// Whether `path` is a temporary file of this module.
pub(super) fn is_temporary(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(TEMPORARY_PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn replaces_a_file_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/deep/summary.json");
        write(&path, b"first").unwrap();
        write(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(names(path.parent().unwrap()), ["summary.json"]);
        assert_ne!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600,
            "results must not be private"
        );
    }

    #[test]
    fn a_full_disk_keeps_the_old_file_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        write(&path, b"old").unwrap();
        let error = write_with(&path, |file| {
            file.write_all(b"half of the new")?;
            File::options().write(true).open("/dev/full")?.write_all(b"rest")
        })
        .unwrap_err();
        let Error::Io { source, .. } = &error else { panic!("{error}") };
        assert_eq!(source.kind(), io::ErrorKind::StorageFull, "{error}");
        let message = error.to_string();
        assert!(
            message.contains("model.safetensors: writing: ")
                && message.contains("hint: free some space"),
            "{message}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["model.safetensors"]);
    }

    #[test]
    fn an_impossible_folder_is_an_io_error() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("file"), b"").unwrap();
        let error = write(&folder.path().join("file/below/x"), b"").unwrap_err();
        assert!(
            matches!(&error, Error::Io { path, .. } if path.ends_with("file/below")),
            "{error}"
        );
    }
}
