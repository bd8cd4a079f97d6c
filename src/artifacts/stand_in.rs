//! Files that only stand in for others: links to nowhere, and the pointers that git leaves in place
//! of large files. Whoever opens a file that a person named, or that lies in a model's folder, asks
//! here first; whether a file may be missing is their business.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};

const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Refuses a path at which something else lies than the file that it is called after.
///
/// # Errors
/// [`Error::Data`] of a link to nowhere, or of a git-lfs pointer. What cannot be read at all is
/// left to the one who opens it.
pub fn refuse(path: &Path) -> Result<()> {
    if let Ok(target) = fs::read_link(path)
        && !path.exists()
    {
        let hint = match hub_id(path).or_else(|| hub_id(&target)) {
            Some((id, kind)) => format!(
                "the hub cache lacks the file: name the {kind} by its id, `{id}`, and what is \
                 missing is fetched; or `hf download {id}`{}",
                if kind == "data set" { " with `--repo-type dataset`" } else { "" }
            ),
            None => "put the file where the link leads, or in place of the link".to_owned(),
        };
        return Err(Error::data(
            path,
            None,
            format!("is a link to `{}`, which is not there\n\nhint: {hint}", target.display()),
        ));
    }
    let mut head = [0; POINTER.len()];
    let is_pointer = File::open(path).and_then(|mut file| file.read_exact(&mut head)).is_ok()
        && head == *POINTER;
    if is_pointer {
        let hint = "hint: `git lfs pull` in its repository fetches the file itself";
        return Err(Error::data(
            path,
            None,
            format!("is a git-lfs pointer, not the file that it stands for\n\n{hint}"),
        ));
    }
    Ok(())
}

/// The repository in whose folder of a hub cache a path lies, and what it holds.
fn hub_id(path: &Path) -> Option<(String, &'static str)> {
    let name = |part: &std::ffi::OsStr, kind: &str| {
        part.to_str()?.strip_prefix(kind).map(|id| id.replacen("--", "/", 1))
    };
    path.iter().find_map(|part| {
        let model = name(part, "models--").map(|id| (id, "model"));
        model.or_else(|| Some((name(part, "datasets--")?, "data set")))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_to_nowhere_and_pointers_are_told_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "{}").unwrap();
        symlink("file", at("link")).unwrap();
        for fine in ["file", "link", "none", ""] {
            assert!(refuse(&at(fine)).is_ok(), "{fine}");
        }
        let told = |name: &str| refuse(&at(name)).unwrap_err().to_string();
        symlink("gone", at("lost")).unwrap();
        assert!(
            told("lost").contains("lost: is a link to `gone`, which is not there\n\nhint: put"),
            "{}",
            told("lost")
        );
        let snapshot = at("models--owner--tiny/snapshots/c0ffee");
        fs::create_dir_all(&snapshot).unwrap();
        symlink("../../blobs/abc", snapshot.join("config.json")).unwrap();
        let error = refuse(&snapshot.join("config.json")).unwrap_err().to_string();
        assert!(
            error.contains("../../blobs/abc")
                && error.contains("name the model by its id, `owner/tiny`, and what is missing")
                && error.ends_with("or `hf download owner/tiny`"),
            "{error}"
        );
        symlink("/c/datasets--o--d/blobs/abc", at("data.jsonl")).unwrap();
        assert!(told("data.jsonl").contains("`hf download o/d` with `--repo-type dataset`"));
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 548118077\n";
        fs::write(at("model.safetensors"), pointer).unwrap();
        assert!(
            told("model.safetensors").contains(
                "model.safetensors: is a git-lfs pointer, not the file that it stands \
                 for\n\nhint: `git lfs pull`"
            ),
            "{}",
            told("model.safetensors")
        );
    }
}
