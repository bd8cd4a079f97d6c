//! The name of a repository on a model hub, `owner/name` or `owner/name@revision`, and when a word
//! of a recipe is one.
//!
//! Only words: nothing is fetched here, and whether there is such a repository only the hub knows.

use std::fmt;
use std::path::Path;

const LONGEST: usize = 96;
/// Endings of data files and their packings; `text/file_kind.rs` says which are read.
const DATA_FILES: [&str; 12] = [
    ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt", ".gz", ".zst", ".bz2", ".xz",
    ".zip",
];

/// A repository and a branch, tag or commit of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HubId {
    /// `owner/name`.
    pub repository: String,
    pub revision: String,
}

impl HubId {
    const MAIN: &str = "main";

    /// `None` if the hub could have no repository of that name, such as for a path with `..` or
    /// more than one slash.
    pub fn parse(text: &str) -> Option<Self> {
        let (repository, revision) = text.split_once('@').unwrap_or((text, Self::MAIN));
        let (owner, name) = repository.split_once('/')?;
        let well_formed =
            is_name(owner) && is_name(name) && !name.ends_with(".git") && is_revision(revision);
        well_formed
            .then(|| Self { repository: repository.to_owned(), revision: revision.to_owned() })
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if self.revision == Self::MAIN { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}

/// The hub model that `id` means: a path that exists, looked for from `folder`, is that path,
/// whatever it looks like.
pub fn hub_model(folder: &Path, id: &str) -> Option<HubId> {
    let path = folder.join(id);
    // A link to nowhere was meant as a path, too.
    if path.exists() || path.is_symlink() { None } else { HubId::parse(id) }
}

/// The hub data set that `source` means. A path wins here too, and so does what is called as only a
/// data file is: `data/train.jsonl` was never meant for the hub.
pub fn hub_dataset(folder: &Path, source: &str) -> Option<HubId> {
    let is_file_name = DATA_FILES.iter().any(|extension| source.ends_with(extension));
    if is_file_name { None } else { hub_model(folder, source) }
}

/// As the hub's own rule: it also keeps `..` out of paths made from it, and `--`, which stands for
/// the slash in the cache.
fn is_name(part: &str) -> bool {
    let word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    part.len() <= LONGEST
        && part.starts_with(word)
        && part.ends_with(word)
        && part.chars().all(|character| word(character) || matches!(character, '.' | '-'))
        && !part.contains("..")
        && !part.contains("--")
}

/// A branch, a tag, a commit, or a ref such as `refs/pr/1`.
fn is_revision(revision: &str) -> bool {
    let plain =
        |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-');
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && !part.contains("..")
            && part.chars().all(plain)
    };
    revision.len() <= LONGEST && revision.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_paths() {
        let parsed = |text: &str| HubId::parse(text).map(|id| (id.repository, id.revision));
        let some =
            |repository: &str, revision: &str| Some((repository.to_owned(), revision.to_owned()));
        assert_eq!(parsed("openai-community/gpt2"), some("openai-community/gpt2", "main"));
        assert_eq!(parsed("Qwen/Qwen2.5-0.5B@v1.0"), some("Qwen/Qwen2.5-0.5B", "v1.0"));
        assert_eq!(parsed("a/b@refs/convert/parquet"), some("a/b", "refs/convert/parquet"));
        for path in [
            "",
            "/",
            "gpt2",
            "a/",
            "/a",
            "/a/b",
            "./a",
            "../a",
            "a/..",
            "a/.b",
            "a/b/c",
            "a/b.",
            "a/b c",
            "a\\b/c",
            "~/gpt2",
            "a--b/c",
            "a..b/c",
            "a/b.git",
            "a/b@",
            "a/b@..",
            "a/b@x/../y",
            "a/b@/x",
            "a/b@x/",
            "a/b@x?y",
            "a/b@c@d",
            "a/b#c",
            "builtin:reviews",
            "é/b",
        ] {
            assert_eq!(parsed(path), None, "{path}");
        }
        assert_eq!(parsed(&format!("a/{}", "x".repeat(97))), None);
    }

    #[test]
    fn an_id_is_shown_as_it_was_written() {
        for text in ["a/b", "a/b@v1"] {
            assert_eq!(HubId::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_exists_is_no_id() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("models/base")).unwrap();
        assert_eq!(hub_model(folder.path(), "models/base"), None);
        assert_eq!(hub_model(folder.path(), "models/other"), HubId::parse("models/other"));
        for file in ["train.jsonl.gz", "train.jsonl.zst", "train.tsv", "train.ndjson", "train.txt"]
        {
            assert_eq!(hub_dataset(folder.path(), &format!("data/{file}")), None, "{file}");
        }
        assert_eq!(
            hub_dataset(folder.path(), "stanfordnlp/imdb"),
            HubId::parse("stanfordnlp/imdb")
        );
        assert_eq!(hub_dataset(folder.path(), "builtin:reviews"), None);
    }
}
