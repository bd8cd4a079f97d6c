//! Labelled texts in three splits: the built-in corpus, one local file, or a folder of local files.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::records::{self, Record};
use super::{reviews, splits};
use crate::error::{Error, Result};
use crate::recipe::{Columns, Data, PromptRule};
use crate::sampling::Stream;

pub const BUILTIN: &str = "builtin:reviews";

/// A text and its label, 1 for positive; `id` is `<split>-<row>`.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    pub id: String,
    pub text: String,
    pub label: u8,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    pub train: Vec<Example>,
    pub validation: Vec<Example>,
    pub test: Vec<Example>,
}

/// Reads what `data` asks for; its `source` is `builtin:reviews` or a path. The seed draws the built-in texts, splits a single file, and
/// takes validation rows out of the training files of a folder that has none.
pub fn load(data: &Data, seed: u64) -> Result<Dataset> {
    if data.source == BUILTIN {
        let [train, validation, test] = [("train", data.train), ("validation", data.validation), ("test", data.test)]
            .map(|(split, size)| (0..size).map(|index| builtin(seed, split, index)).collect());
        return Ok(Dataset { train, validation, test });
    }
    let source = Path::new(&data.source);
    if source.is_dir() { folder(&splits::root(data)?, data, seed) } else { split_file(source, data, seed) }
}

fn builtin(seed: u64, split: &str, index: usize) -> Example {
    let review = reviews::review(seed, split, index as u64);
    Example { id: format!("{split}-{index}"), text: review.text, label: review.label }
}

fn folder(root: &Path, data: &Data, seed: u64) -> Result<Dataset> {
    let split = |names: &[&str], rows: usize| {
        let files = splits::find(root, names)?;
        if files.is_empty() { Err(no_files(root, names[0])) } else { from_files(&files, &data.columns, names[0], rows) }
    };
    let test = split(splits::TEST, data.test)?;
    if !splits::find(root, splits::VALIDATION)?.is_empty() {
        return Ok(Dataset { train: split(splits::TRAIN, data.train)?, validation: split(splits::VALIDATION, data.validation)?, test });
    }
    if data.validation == 0 {
        let hint = "give the number of rows to take from the training split instead, or add a file";
        return Err(Error::data(root, None, format!("no file for the validation split, and `data.validation` is 0\n\nhint: {hint}")));
    }
    let all = split(splits::TRAIN, 0)?;
    let asked = data.validation + data.train.max(1);
    if all.len() < asked {
        return Err(too_few(root, "data.train + data.validation", asked, all.len()));
    }
    tracing::info!("{}: no validation file; {} rows of the training split are held out by the seed", root.display(), data.validation);
    let order = Stream::new(seed, "data", "validation").permutation(all.len());
    let (validation, rest) = order.split_at(data.validation);
    let train = if data.train == 0 { rest } else { &rest[..data.train] };
    let take = |split: &str, rows: &[usize]| -> Vec<Example> {
        let mut rows = rows.to_vec();
        rows.sort_unstable();
        rows.iter().enumerate().map(|(row, &from)| Example { id: format!("{split}-{row}"), ..all[from].clone() }).collect()
    };
    Ok(Dataset { train: take("train", train), validation: take("validation", validation), test })
}

fn no_files(root: &Path, split: &str) -> Error {
    let kinds = records::EXTENSIONS.join(", ");
    let looked = format!("looked for `{split}.…`, `{split}-…` and `{split}_…` here and up to two folders down");
    Error::data(root, None, format!("no file for the {split} split; {looked}\n\nhint: supported kinds: {kinds}"))
}

/// The first `size` rows of the files in their order (0 for all).
fn from_files(paths: &[PathBuf], columns: &Columns, split: &str, size: usize) -> Result<Vec<Example>> {
    let mut examples: Vec<Example> = Vec::new();
    for path in paths {
        if size > 0 && examples.len() == size {
            break;
        }
        let limit = if size == 0 { 0 } else { size - examples.len() };
        for record in records::read(path, limit)? {
            examples.push(example(path, columns, format!("{split}-{}", examples.len()), &record)?);
        }
    }
    if examples.len() < size {
        return Err(too_few(&paths[0], &format!("data.{split}"), size, examples.len()));
    }
    Ok(examples)
}

/// One file, shuffled by the seed: test first, then validation, then train (0 takes the rest).
fn split_file(path: &Path, data: &Data, seed: u64) -> Result<Dataset> {
    let records = records::read(path, 0)?;
    let order = Stream::new(seed, "data", "split").permutation(records.len());
    let asked = data.train + data.validation + data.test;
    if records.len() < asked {
        return Err(too_few(path, "data.train + data.validation + data.test", asked, records.len()));
    }
    let (test, rest) = order.split_at(data.test);
    let (validation, rest) = rest.split_at(data.validation);
    let train = if data.train == 0 { rest } else { &rest[..data.train] };
    let examples = |split: &str, rows: &[usize]| -> Result<Vec<Example>> {
        rows.iter().map(|&row| example(path, &data.columns, format!("{split}-{row}"), &records[row])).collect()
    };
    Ok(Dataset { train: examples("train", train)?, validation: examples("validation", validation)?, test: examples("test", test)? })
}

pub(super) fn too_few(path: &Path, key: &str, asked: usize, found: usize) -> Error {
    Error::data(path, None, format!("`{key}` asks for {asked} rows; the file has {found}\n\nhint: lower it, or 0 for all there are"))
}

fn example(path: &Path, columns: &Columns, id: String, record: &Record) -> Result<Example> {
    let text = record.text(path, &columns.text, "data.columns.text")?;
    let value = record.column(path, &columns.label, "data.columns.label")?;
    let label = label(value).ok_or_else(|| {
        let what = records::shorten(&value.to_string());
        Error::data(path, Some(record.line), format!("`{}` is `{what}`; expected 0, 1, true, false, positive or negative", columns.label))
    })?;
    Ok(Example { id, text: text.to_owned(), label })
}

fn label(value: &Value) -> Option<u8> {
    match value {
        Value::Bool(positive) => Some(u8::from(*positive)),
        Value::Number(number) => number.as_u64().filter(|label| *label < 2).map(|label| label as u8),
        Value::String(name) => match name.trim().to_lowercase().as_str() {
            "1" | "positive" | "pos" | "true" => Some(1),
            "0" | "negative" | "neg" | "false" => Some(0),
            _ => None,
        },
        _ => None,
    }
}

/// The first n words of a text, n between the rule's bounds and drawn from (seed, id); `None` where the text has no more than the least
/// of them, for then nothing would be left to say.
pub fn first_words_prompt(example: &Example, rule: &PromptRule, seed: u64) -> Option<String> {
    let words: Vec<&str> = example.text.split_whitespace().collect();
    let range = rule.max_words - rule.min_words + 1;
    let drawn = rule.min_words + (Stream::new(seed, "prompt", &example.id).uniform(0, 0) * range as f64) as usize;
    let count = drawn.min(words.len().saturating_sub(1));
    (count >= rule.min_words).then(|| words[..count].join(" "))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use parquet::basic::Compression;

    use super::super::parquet::tests::write;
    use super::*;

    fn data(source: &Path, sizes: [usize; 3]) -> Data {
        let [train, validation, test] = sizes;
        let source = source.to_string_lossy().into_owned();
        Data { source, subset: None, columns: Columns::default(), prompt: PromptRule::default(), train, validation, test }
    }

    fn failure(name: &str, content: &[u8], sizes: [usize; 3]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let error = load(&data(&path, sizes), 1).unwrap_err().to_string();
        error.replace(&format!("{}/", folder.path().display()), "")
    }

    #[test]
    fn bad_files_are_named_with_their_line() {
        let good = br#"{"text":"a","label":1}"#;
        let with = |second: &[u8]| [&good[..], b"\n", second].concat();
        let all = [0, 0, 0];
        for (content, message) in [
            (with(b"\n{}\n"), "x.jsonl:2: an empty line"),
            (with(b"{\"text\":\"\xff\",\"label\":0}\n"), "x.jsonl:2: not UTF-8 at byte 10"),
            (with(b"{\"text\":\"b\",\"lab"), "x.jsonl:2: a half-written last line"),
            (with(b"{\"text\":\"b\" 7}\n"), "x.jsonl:2: not valid JSON"),
            (with(b"[1]\n"), "x.jsonl:2: a JSON object was expected, not `[1]`"),
            (with(b"{\"body\":\"b\",\"label\":0}\n"), "x.jsonl:2: no column `text`; found `body`, `label`"),
            (with(b"{\"text\":\"b\",\"label\":7}\n"), "x.jsonl:2: `label` is `7`; expected 0, 1"),
            (with(b"{\"text\":3,\"label\":1}\n"), "x.jsonl:2: `text` must be a string"),
            (Vec::new(), "x.jsonl: the file holds no rows"),
        ] {
            let error = failure("x.jsonl", &content, all);
            assert!(error.starts_with(message), "{error}\nexpected {message}");
        }
        assert!(
            failure("x.jsonl", good, [2, 1, 1])
                .starts_with("x.jsonl: `data.train + data.validation + data.test` asks for 4 rows; the file has 1")
        );
        assert!(failure("x.arrow", good, all).contains("supported: .jsonl, .jsonl.gz, .json, .csv, .parquet"));
        assert!(failure("x.csv", b"text,label\na,1\nb,0,extra\n", all).starts_with("x.csv:3: not valid CSV"));
        assert!(failure("x.json", b"[{\"text\":\"a\",\n\"label\":1},", all).starts_with("x.json:2: not a JSON array of objects"));
        let error = load(&data(Path::new("nowhere.jsonl"), all), 1).unwrap_err().to_string();
        assert!(error.starts_with("nowhere.jsonl: opening the data: No such file"), "{error}");
    }

    #[test]
    fn a_cut_gzip_file_is_told_from_a_short_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl.gz");
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        for i in 0..2000 {
            writeln!(encoder, r#"{{"text":"review number {i} {}","label":{}}}"#, i * 7919, i % 2).unwrap();
        }
        let bytes = encoder.finish().unwrap();
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(load(&data(&path, [0, 0, 0]), 1).unwrap().train.len(), 2000);
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let error = load(&data(&path, [0, 0, 0]), 1).unwrap_err().to_string();
        assert!(error.contains("the gzip data is damaged or cut short"), "{error}");
    }

    #[test]
    fn splits_are_disjoint_and_reproducible() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        let rows: String = (0..50).map(|i| format!("\"text, number {i}\",{}\n", ["neg", "positive"][i % 2])).collect();
        std::fs::write(&path, format!("text,label\n{rows}")).unwrap();
        let dataset = load(&data(&path, [0, 5, 10]), 3).unwrap();
        assert_eq!((dataset.train.len(), dataset.validation.len(), dataset.test.len()), (35, 5, 10));
        let mut texts: Vec<&str> =
            [&dataset.train, &dataset.validation, &dataset.test].into_iter().flatten().map(|example| example.text.as_str()).collect();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), 50);
        assert_eq!(dataset, load(&data(&path, [0, 5, 10]), 3).unwrap());
        assert_ne!(dataset, load(&data(&path, [0, 5, 10]), 4).unwrap());
    }

    #[test]
    fn a_folder_of_shards_is_read_in_order_and_lends_validation_rows() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("plain_text");
        std::fs::create_dir(&below).unwrap();
        let text = |number: i64| format!("text number {number}");
        for shard in 0..3_i64 {
            let texts: Vec<String> = (0..4).map(|row| text(shard * 4 + row)).collect();
            let rows: Vec<(&str, i64)> = texts.iter().map(|text| (text.as_str(), shard % 2)).collect();
            write(&below.join(format!("train-{shard:05}-of-00003.parquet")), &rows, Compression::SNAPPY);
        }
        write(&below.join("test-00000-of-00001.parquet"), &[("last", 1)], Compression::SNAPPY);
        let dataset = load(&data(folder.path(), [0, 3, 1]), 5).unwrap();
        assert_eq!((dataset.train.len(), dataset.validation.len(), dataset.test[0].text.as_str()), (9, 3, "last"));
        let mut numbers: Vec<&str> = dataset.train.iter().chain(&dataset.validation).map(|example| example.text.as_str()).collect();
        assert!(dataset.train.is_sorted_by_key(|example| example.text.rsplit(' ').next().unwrap().parse::<usize>().unwrap()));
        numbers.sort();
        numbers.dedup();
        assert_eq!(numbers.len(), 12);
        assert_ne!(dataset.validation, load(&data(folder.path(), [0, 3, 1]), 6).unwrap().validation);
        let fewer = load(&data(folder.path(), [5, 3, 1]), 5).unwrap();
        assert_eq!((fewer.train.len(), &fewer.validation), (5, &dataset.validation));
        assert!(fewer.train.iter().all(|example| dataset.train.iter().any(|other| other.text == example.text)));

        let error = |sizes: [usize; 3]| load(&data(folder.path(), sizes), 5).unwrap_err().to_string();
        assert!(error([0, 0, 1]).contains("no file for the validation split, and `data.validation` is 0"));
        assert!(error([10, 3, 1]).contains("`data.train + data.validation` asks for 13 rows; the file has 12"));
        assert!(error([0, 12, 1]).contains("asks for 13 rows"));
        std::fs::copy(below.join("test-00000-of-00001.parquet"), below.join("dev-0.parquet")).unwrap();
        let whole = load(&data(folder.path(), [0, 0, 0]), 5).unwrap();
        assert_eq!((whole.train.len(), whole.train[4].text.clone(), whole.validation[0].text.as_str()), (12, text(4), "last"));
        assert_eq!(load(&data(folder.path(), [6, 0, 0]), 5).unwrap().train, whole.train[..6]);
        assert!(error([0, 0, 2]).contains("`data.test` asks for 2 rows; the file has 1"));
        assert!(load(&data(&folder.path().join("plain_text"), [0, 0, 0]), 5).unwrap() == whole);
        let subset = |subset: &str| Data { subset: Some(subset.into()), ..data(folder.path(), [0, 0, 0]) };
        assert!(load(&subset("plain_text"), 5).unwrap() == whole);
        assert!(load(&subset("text"), 5).unwrap_err().to_string().contains("`data.subset` is `text`, but there is no such folder"));
        std::fs::remove_file(below.join("test-00000-of-00001.parquet")).unwrap();
        assert!(error([0, 0, 0]).contains("no file for the test split; looked for `test.…`"));
    }

    #[test]
    fn prompts_are_the_first_words() {
        let rule = PromptRule { min_words: 2, max_words: 4 };
        let example = |text: &str, id: usize| Example { id: format!("test-{id}"), text: text.into(), label: 0 };
        let mut lengths = std::collections::BTreeSet::new();
        for id in 0..50 {
            let prompt = first_words_prompt(&example("one  two\tthree four five", id), &rule, 1).unwrap();
            assert!("one two three four".starts_with(&prompt), "{prompt}");
            lengths.insert(prompt.split(' ').count());
        }
        assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(first_words_prompt(&example("one two", 0), &rule, 1), None);
    }
}
