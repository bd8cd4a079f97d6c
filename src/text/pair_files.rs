//! Preference pairs that others made: one local file, or a folder of local files, with columns for prompt, chosen and rejected.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::dataset::too_few;
use super::records::{self, Record};
use super::splits::{self, TEST, TRAIN, VALIDATION};
use crate::error::{Error, Result};
use crate::recipe::{PairColumns, Preferences};
use crate::sampling::Stream;

/// A pair as its file has it; `id` is `<split>-<row>`, rows counted from 0 over the files that it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct PairRow {
    pub id: String,
    pub prompt: String,
    pub chosen: String,
    pub rejected: String,
    /// Whether the response ended by itself: `chosen_complete` and `rejected_complete` of a file that this program wrote, else true.
    pub chosen_complete: bool,
    pub rejected_complete: bool,
}

/// Every file that [`load`] reads, sorted.
pub fn files(source: &Path) -> Result<Vec<PathBuf>> {
    if !source.is_dir() {
        return Ok(vec![source.to_owned()]);
    }
    Ok([splits::find(source, TRAIN)?, held_out_files(source)?].concat())
}

/// Training and validation pairs of `source`. A folder's validation pairs are those of its validation files, or else of its test files;
/// where it has neither, and for a single file, the seed holds out `validation_pairs` rows. `train_pairs` 0 is all that are left.
///
/// # Errors
/// Where a file cannot be read, a column is missing or holds no text, or there are fewer pairs than asked for.
pub fn load(settings: &Preferences, source: &Path, seed: u64) -> Result<[Vec<PairRow>; 2]> {
    let (columns, validation) = (&settings.columns, settings.validation_pairs);
    let mut files = vec![source.to_owned()];
    if source.is_dir() {
        files = splits::find(source, TRAIN)?;
        if files.is_empty() {
            let what = "no file for the train split; looked for `train.…`, `train-…` and `train_…` here and up to two folders down";
            return Err(Error::data(source, None, format!("{what}\n\nhint: supported kinds: {}", records::EXTENSIONS.join(", "))));
        }
        let held_out = held_out_files(source)?;
        if !held_out.is_empty() {
            let train = read(&files, columns, "train")?;
            let validation = first(read(&held_out, columns, "validation")?, validation, &held_out[0], "preferences.validation_pairs")?;
            return Ok([first(train, settings.train_pairs, &files[0], "preferences.train_pairs")?, validation]);
        }
    }
    if validation == 0 {
        let hint = "hint: give the number of pairs to hold out instead, or add a file";
        let what = "no file for the validation split, and `preferences.validation_pairs` is 0";
        return Err(Error::data(source, None, format!("{what}\n\n{hint}")));
    }
    let all = read(&files, columns, "train")?;
    let asked = validation + settings.train_pairs.max(1);
    if all.len() < asked {
        return Err(too_few(source, "preferences.train_pairs + preferences.validation_pairs", asked, all.len()));
    }
    let order = Stream::new(seed, "preferences", "validation").permutation(all.len());
    let (held_out, rest) = order.split_at(validation);
    let train = if settings.train_pairs == 0 { rest } else { &rest[..settings.train_pairs] };
    let take = |split: &str, rows: &[usize]| -> Vec<PairRow> {
        let mut rows = rows.to_vec();
        rows.sort_unstable();
        rows.iter().map(|&row| PairRow { id: format!("{split}-{row}"), ..all[row].clone() }).collect()
    };
    Ok([take("train", train), take("validation", held_out)])
}

fn held_out_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let validation = splits::find(folder, VALIDATION)?;
    if validation.is_empty() { splits::find(folder, TEST) } else { Ok(validation) }
}

fn first(mut pairs: Vec<PairRow>, count: usize, file: &Path, key: &str) -> Result<Vec<PairRow>> {
    if pairs.len() < count {
        return Err(too_few(file, key, count, pairs.len()));
    }
    pairs.truncate(if count == 0 { pairs.len() } else { count });
    Ok(pairs)
}

fn read(files: &[PathBuf], columns: &PairColumns, split: &str) -> Result<Vec<PairRow>> {
    let mut pairs: Vec<PairRow> = Vec::new();
    for file in files {
        for record in records::read(file, 0)? {
            pairs.push(pair(file, columns, format!("{split}-{}", pairs.len()), &record)?);
        }
    }
    Ok(pairs)
}

fn pair(file: &Path, columns: &PairColumns, id: String, record: &Record) -> Result<PairRow> {
    let text = |column: &str, key: &str| Ok::<_, Error>(record.text(file, column, &format!("preferences.columns.{key}"))?.to_owned());
    let complete = |column: &str| record.fields.get(column).and_then(Value::as_bool).unwrap_or(true);
    Ok(PairRow {
        id,
        prompt: text(&columns.prompt, "prompt")?,
        chosen: text(&columns.chosen, "chosen")?,
        rejected: text(&columns.rejected, "rejected")?,
        chosen_complete: complete("chosen_complete"),
        rejected_complete: complete("rejected_complete"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(train_pairs: usize, validation_pairs: usize) -> Preferences {
        let table = format!("train_pairs = {train_pairs}\nvalidation_pairs = {validation_pairs}\ncolumns = {{ prompt = \"question\" }}");
        toml::from_str(&table).unwrap()
    }

    fn write(folder: &Path, name: &str, rows: std::ops::Range<usize>) {
        let rows: String = rows.map(|row| format!("question {row},\"yes, {row}\",no\n")).collect();
        std::fs::write(folder.join(name), format!("question,chosen,rejected\n{rows}")).unwrap();
    }

    fn ids(pairs: &[PairRow]) -> Vec<&str> {
        pairs.iter().map(|pair| pair.id.as_str()).collect()
    }

    #[test]
    fn splits_come_from_files_or_from_the_seed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(root, "train-0.csv", 0..7);
        write(root, "train-1.csv", 7..10);
        let [train, validation] = load(&settings(0, 3), root, 1).unwrap();
        assert_eq!((train.len(), validation.len()), (7, 3));
        let mut prompts: Vec<&str> = train.iter().chain(&validation).map(|pair| pair.prompt.as_str()).collect();
        prompts.sort_unstable();
        prompts.dedup();
        assert_eq!(prompts.len(), 10);
        assert!(train.iter().all(|pair| pair.id == pair.prompt.replace("question ", "train-")), "ids tell rows: {train:?}");
        assert_eq!((train[0].chosen.split(", ").next(), train[0].rejected.as_str(), train[0].chosen_complete), (Some("yes"), "no", true));
        assert_eq!(load(&settings(0, 3), root, 1).unwrap()[1], validation);
        assert_ne!(load(&settings(0, 3), root, 2).unwrap()[1], validation);
        let fewer = load(&settings(4, 3), root, 1).unwrap();
        assert_eq!((fewer[0].len(), &fewer[1]), (4, &validation));
        assert_eq!(files(root).unwrap().len(), 2);
        assert!(error_of(root, 0, 0).contains("no file for the validation split, and `preferences.validation_pairs` is 0\n\nhint: "));
        assert!(
            error_of(root, 8, 3).contains("`preferences.train_pairs + preferences.validation_pairs` asks for 11 rows; the file has 10")
        );

        write(root, "test.csv", 20..24);
        let [train, test] = load(&settings(0, 0), root, 1).unwrap();
        assert_eq!((train.len(), ids(&test)), (10, vec!["validation-0", "validation-1", "validation-2", "validation-3"]));
        let [train, test] = load(&settings(2, 1), root, 1).unwrap();
        assert_eq!((ids(&train), test[0].prompt.as_str()), (vec!["train-0", "train-1"], "question 20"));
        assert!(error_of(root, 11, 0).contains("`preferences.train_pairs` asks for 11 rows"));
        write(root, "dev.csv", 30..31);
        assert_eq!(load(&settings(0, 0), root, 1).unwrap()[1][0].prompt, "question 30", "validation files before test files");
        assert_eq!(files(root).unwrap().len(), 3);
        assert!(error_of(&root.join("dev.csv"), 0, 1).contains("asks for 2 rows; the file has 1"));
        std::fs::remove_file(root.join("train-0.csv")).unwrap();
        std::fs::remove_file(root.join("train-1.csv")).unwrap();
        assert!(error_of(root, 0, 0).contains("no file for the train split; looked for `train.…`"));
    }

    fn error_of(source: &Path, train: usize, validation: usize) -> String {
        load(&settings(train, validation), source, 1).unwrap_err().to_string()
    }
}
