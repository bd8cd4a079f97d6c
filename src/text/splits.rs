//! Which files of a data folder make a split: those named after it, at the top or up to two folders down, as hub data sets lie.

use std::path::{Path, PathBuf};

use super::records;
use crate::error::{Error, Result};
use crate::recipe::Data;

/// The names under which a split's files may go; the first is the split's own.
pub(super) const TRAIN: &[&str] = &["train"];
pub(super) const VALIDATION: &[&str] = &["validation", "valid", "val", "dev"];
pub(super) const TEST: &[&str] = &["test"];

/// Folders below the data folder that are looked into.
const DEPTH: usize = 2;

/// Every file that `data` reads, sorted; none for a built-in corpus.
pub fn files(data: &Data) -> Result<Vec<PathBuf>> {
    if data.source.starts_with("builtin:") {
        return Ok(Vec::new());
    }
    let source = Path::new(&data.source);
    if !source.is_dir() {
        return Ok(vec![source.to_owned()]);
    }
    let root = root(data)?;
    let mut files = Vec::new();
    for names in [TRAIN, VALIDATION, TEST] {
        files.extend(find(&root, names)?);
    }
    Ok(files)
}

/// The data folder, or the one below it that `data.subset` names.
pub(super) fn root(data: &Data) -> Result<PathBuf> {
    let source = Path::new(&data.source);
    let Some(subset) = &data.subset else { return Ok(source.to_owned()) };
    let root = source.join(subset);
    if root.is_dir() {
        Ok(root)
    } else {
        Err(Error::data(source, None, format!("`data.subset` is `{subset}`, but there is no such folder")))
    }
}

/// The files of one split in the order of their names; empty where there are none.
pub(super) fn find(root: &Path, names: &[&str]) -> Result<Vec<PathBuf>> {
    for name in names {
        let mut folders = Vec::new();
        collect(root, name, DEPTH, &mut folders)?;
        // What lies at the top is meant, whatever lies below.
        if folders.first().is_some_and(|(folder, _)| folder != root) && folders.len() > 1 {
            let listed = folders.iter().map(|(folder, _)| format!("`{}`", folder.strip_prefix(root).unwrap_or(folder).display()));
            let listed = listed.collect::<Vec<_>>().join(", ");
            return Err(Error::data(
                root,
                None,
                format!(
                    "the {} split lies in several folders: {listed}\n\nhint: name one of them as the source, or as `data.subset`",
                    names[0]
                ),
            ));
        }
        let Some((folder, files)) = folders.into_iter().next() else { continue };
        if files.iter().any(|file| extension(file) != extension(&files[0])) {
            let listed = files.iter().map(|file| format!("`{}`", file_name(file))).collect::<Vec<_>>().join(", ");
            return Err(Error::data(
                &folder,
                None,
                format!("the {} split has files of several kinds: {listed}\n\nhint: keep one kind, or name a file as the source", names[0]),
            ));
        }
        return Ok(files);
    }
    Ok(Vec::new())
}

/// Folders that hold files of the split, outer ones first, and these files.
fn collect(folder: &Path, name: &str, depth: usize, found: &mut Vec<(PathBuf, Vec<PathBuf>)>) -> Result<()> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(Error::io(folder, "reading the folder"))?;
    entries.retain(|entry| !file_name(entry).starts_with('.'));
    entries.sort();
    let is_of_split = |file: &&PathBuf| {
        let rest = file_name(file).to_lowercase();
        rest.strip_prefix(name).is_some_and(|rest| rest.starts_with(['.', '-', '_'])) && extension(file).is_some() && file.is_file()
    };
    let files: Vec<PathBuf> = entries.iter().filter(is_of_split).cloned().collect();
    if !files.is_empty() {
        found.push((folder.to_owned(), files));
    }
    if depth > 0 {
        for below in entries.iter().filter(|entry| entry.is_dir()) {
            collect(below, name, depth - 1, found)?;
        }
    }
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn extension(path: &Path) -> Option<&'static str> {
    let name = file_name(path).to_lowercase();
    records::EXTENSIONS.into_iter().find(|extension| name.ends_with(extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        folder
    }

    fn found(folder: &tempfile::TempDir, names: &[&str]) -> Result<Vec<String>, String> {
        let files = find(folder.path(), names).map_err(|error| error.to_string())?;
        Ok(files.iter().map(|file| file.strip_prefix(folder.path()).unwrap().display().to_string()).collect())
    }

    #[test]
    fn shards_are_found_below_and_sorted() {
        let hub = folder(&[
            "README.md",
            "plain_text/train-00001-of-00002.parquet",
            "plain_text/train-00000-of-00002.parquet",
            "plain_text/training_notes.csv",
            "data/en/dev_0.jsonl.gz",
            ".cache/test.csv",
            "a/b/c/test.csv",
        ]);
        let shards = ["plain_text/train-00000-of-00002.parquet", "plain_text/train-00001-of-00002.parquet"];
        assert_eq!(found(&hub, TRAIN).unwrap(), shards);
        assert_eq!(found(&hub, VALIDATION).unwrap(), ["data/en/dev_0.jsonl.gz"]);
        assert_eq!(found(&hub, TEST).unwrap(), [""; 0]);
    }

    #[test]
    fn the_top_wins_and_several_folders_are_an_error() {
        let top = folder(&["train.jsonl", "old/train.jsonl", "val.json", "validation.csv"]);
        assert_eq!(found(&top, TRAIN).unwrap(), ["train.jsonl"]);
        assert_eq!(found(&top, VALIDATION).unwrap(), ["validation.csv"]);
        let configs = folder(&["en/train.csv", "fr/train.csv"]);
        let error = found(&configs, TRAIN).unwrap_err();
        assert!(error.contains("the train split lies in several folders: `en`, `fr`") && error.contains("`data.subset`"), "{error}");
        let kinds = folder(&["test.csv", "test.jsonl"]);
        assert!(found(&kinds, TEST).unwrap_err().contains("several kinds: `test.csv`, `test.jsonl`"));
    }
}
