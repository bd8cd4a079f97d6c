//! What the name of a data file says of its kind. The contents overrule it where they cannot be
//! mistaken (`records.rs`).

/// The kinds, for messages.
pub const KINDS: &str =
    ".jsonl, .ndjson, .json, .csv and .tsv, also with .gz or .zst, and .parquet";

const PACKED: [&str; 2] = [".gz", ".zst"];
const ROWS: [(&str, FileKind); 5] = [
    (".jsonl", FileKind::JsonLines),
    (".ndjson", FileKind::JsonLines),
    (".json", FileKind::Json),
    (".csv", FileKind::Separated(b',')),
    (".tsv", FileKind::Separated(b'\t')),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    JsonLines,
    /// An array, an object that holds one, or lines.
    Json,
    /// The separator that the name speaks of.
    Separated(u8),
    Parquet,
    /// Lines of text; never found in a folder, where such files tell of the data.
    Text,
}

impl FileKind {
    pub fn of(name: &str) -> Option<Self> {
        let plain = &name[..name.len() - packing(name).len()];
        let rows = ROWS.into_iter().find(|(ending, _)| ends(plain, ending));
        rows.map(|(_, kind)| kind)
            .or_else(|| ends(name, ".parquet").then_some(Self::Parquet))
            .or_else(|| ends(plain, ".txt").then_some(Self::Text))
    }
}

/// The ending of a file that holds rows, with that of its packing, as the name has it.
pub fn extension(name: &str) -> Option<&str> {
    if ends(name, ".parquet") {
        return Some(&name[name.len() - ".parquet".len()..]);
    }
    let plain = name.len() - packing(name).len();
    let (ending, _) = ROWS.into_iter().find(|(ending, _)| ends(&name[..plain], ending))?;
    Some(&name[plain - ending.len()..])
}

fn packing(name: &str) -> &'static str {
    PACKED.into_iter().find(|ending| ends(name, ending)).unwrap_or_default()
}

fn ends(name: &str, ending: &str) -> bool {
    let at = name.len().checked_sub(ending.len());
    at.is_some_and(|at| name.as_bytes()[at..].eq_ignore_ascii_case(ending.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_those_of_kind_and_packing() {
        for (name, kind, ending) in [
            ("a.jsonl", Some(FileKind::JsonLines), Some(".jsonl")),
            ("a.b.JSON.GZ", Some(FileKind::Json), Some(".JSON.GZ")),
            ("a.csv.zst", Some(FileKind::Separated(b',')), Some(".csv.zst")),
            ("ä.tsv", Some(FileKind::Separated(b'\t')), Some(".tsv")),
            ("a.parquet", Some(FileKind::Parquet), Some(".parquet")),
            ("a.parquet.gz", None, None),
            ("a.txt.gz", Some(FileKind::Text), None),
            ("gz", None, None),
            ("日", None, None),
        ] {
            assert_eq!((FileKind::of(name), extension(name)), (kind, ending), "{name}");
        }
    }
}
