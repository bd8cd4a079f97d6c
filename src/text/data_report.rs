//! What data was read from where, in sentences for the log and for `w2s check`. What is counted is
//! up to those who read.

use std::collections::BTreeMap;

/// Files named in one sentence before the middle ones are left out.
const MOST_FILES: usize = 6;

/// Columns that nobody reads, named before the others are left out.
const MOST_COLUMNS: usize = 8;

/// What was read of one data set, and what a user should know of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DataReport {
    /// Which files were read for which split, with their rows.
    pub lines: Vec<String>,
    /// What is odd about the splits.
    pub warnings: Vec<String>,
    /// Where a split lacks labels, and the same of texts: the first place and what is there.
    pub(super) no_label: BTreeMap<String, String>,
    pub(super) no_text: BTreeMap<String, String>,
    /// Whether prompts are posts, of which many rows have the same one.
    pub(super) posts: bool,
}

impl DataReport {
    /// `train: 9 rows of 2 files: `a.csv` (4), `b.csv` (5); not read: `score``, the columns that
    /// are there beside those that are read.
    pub(super) fn read(
        &mut self,
        split: &str,
        what: &str,
        files: &[(String, usize)],
        others: &[String],
    ) {
        let rows: usize = files.iter().map(|(_, rows)| rows).sum();
        let listed = match files {
            [(file, _)] => format!("`{file}`"),
            files => format!("{} files: {}", files.len(), counted(files)),
        };
        let more = if others.len() > MOST_COLUMNS { ", …" } else { "" };
        let others: Vec<&str> = others.iter().take(MOST_COLUMNS).map(String::as_str).collect();
        let others = match others.is_empty() {
            true => String::new(),
            false => format!("; not read: `{}`{more}", others.join("`, `")),
        };
        self.lines.push(format!("{split}: {rows} {what} of {listed}{others}"));
    }

    /// Files that are called almost like those of the split.
    pub(super) fn passed_over(&mut self, split: &str, names: &[String], table: &str) {
        if !names.is_empty() {
            let names = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            self.warnings.push(format!(
                "{split}: files called {names} are other splits and not read; \
                 `{table}.splits.{split}` chooses"
            ));
        }
    }

    /// Rows of `other` were taken from those of `split`.
    pub(super) fn same_place(&mut self, split: &str, other: &str) {
        for problems in [&mut self.no_label, &mut self.no_text] {
            if let Some(problem) = problems.get(split).cloned() {
                problems.insert(other.to_owned(), problem);
            }
        }
    }

    /// Held-out rows that are not as many as asked for, because groups of equal ones stay together.
    pub(super) fn held_out(&mut self, key: &str, asked: usize, found: usize, together: &str) {
        if found != asked {
            self.warnings.push(format!(
                "`{key}` asks for {asked}, and {found} are held out: {together} stay together"
            ));
        }
    }
}

fn counted(files: &[(String, usize)]) -> String {
    let one = |(file, rows): &(String, usize)| format!("`{file}` ({rows})");
    if files.len() <= MOST_FILES {
        return files.iter().map(one).collect::<Vec<_>>().join(", ");
    }
    let (head, tail) = (MOST_FILES / 2, files.len() - 1);
    let between: usize = files[head..tail].iter().map(|(_, rows)| rows).sum();
    let head_words = files[..head].iter().map(one).collect::<Vec<_>>().join(", ");
    format!("{head_words}, … {} more ({between}) …, {}", tail - head, one(&files[tail]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_files_are_told_in_a_bounded_line() {
        let files: Vec<(String, usize)> =
            (0..12).map(|shard| (format!("train-{shard}.csv"), 10 + shard)).collect();
        let mut report = DataReport::default();
        report.read("train", "rows", &files[..1], &["a".to_owned(), "b".to_owned()]);
        report.read("train", "rows", &files[..2], &[]);
        report.read("train", "rows", &files, &[]);
        assert_eq!(
            report.lines,
            [
                "train: 10 rows of `train-0.csv`; not read: `a`, `b`",
                "train: 21 rows of 2 files: `train-0.csv` (10), `train-1.csv` (11)",
                "train: 186 rows of 12 files: `train-0.csv` (10), `train-1.csv` (11), \
                 `train-2.csv` (12), … 8 more (132) …, `train-11.csv` (21)",
            ]
        );
    }
}
