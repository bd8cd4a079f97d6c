//! The name of one data file by its parts: where its split lies, and its family, which is the name
//! without the number of a shard, as the `datasets` library has it: `train_prefs` for
//! `data/train_prefs-00000-of-00001.parquet`. Which families make which split is settled in
//! `splits.rs`.

use super::file_kind::extension;

/// The names under which a split's files may go; the first is the split's own.
pub(super) const TRAIN: &[&str] = &["train"];
pub(super) const VALIDATION: &[&str] = &["validation", "valid", "val", "dev"];
pub(super) const TEST: &[&str] = &["test"];

/// Folders below the data folder that are looked into.
pub(super) const DEPTH: usize = 2;

/// A data file by its parts.
pub(super) struct Named<'a> {
    pub path: &'a str,
    /// Where its split lies.
    pub folder: &'a str,
    pub family: &'a str,
}

impl<'a> Named<'a> {
    /// `None` for what is hidden, too deep down, or no data.
    pub fn of(path: &'a str) -> Option<Self> {
        if path.matches('/').count() > DEPTH || path.split('/').any(|part| part.starts_with('.')) {
            return None;
        }
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let stem = &name[..name.len() - extension(name)?.len()];
        // As the hub's own conversion to Parquet lies: `default/train/0000.parquet`.
        if !folder.is_empty() && stem.bytes().all(|byte| byte.is_ascii_digit()) {
            let (folder, family) = folder.rsplit_once('/').unwrap_or(("", folder));
            return Some(Self { path, folder, family });
        }
        Some(Self { path, folder, family: family(stem) })
    }

    /// Whether a name chosen by the user means its family: the name itself, or that and a number.
    pub fn is_called(&self, name: &str) -> bool {
        self.family == name || without_number(self.family) == Some(name)
    }
}

/// `train` of `train-00000-of-00002` and of `train_3`, but all of `train_iteration_3`.
fn family(stem: &str) -> &str {
    let is_shard = |(at, mark): (usize, &str)| {
        let start = stem[..at].rfind('-')?;
        let numbers = [&stem[start + 1..at], &stem[at + mark.len()..]];
        let is_number = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
        (start > 0
            && numbers[0].bytes().all(|byte| byte.is_ascii_digit())
            && numbers.iter().all(|text| is_number(text)))
        .then_some(start)
    };
    if let Some(end) = stem.match_indices("-of-").find_map(is_shard) {
        return &stem[..end];
    }
    let is_split = |name: &&str| {
        [TRAIN, VALIDATION, TEST].iter().any(|split| split.contains(&name.to_lowercase().as_str()))
    };
    without_number(stem).filter(is_split).unwrap_or(stem)
}

/// `a_b` of `a_b_12`, `a_b-12` and `a_b.12`.
fn without_number(name: &str) -> Option<&str> {
    let head = name.trim_end_matches(|last: char| last.is_ascii_digit());
    (head.len() < name.len()).then(|| head.strip_suffix(['-', '_', '.'])).flatten()
}
