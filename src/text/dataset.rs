//! Labelled texts in three splits: the built-in corpus, one local file, or a folder of local files.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::records::{self, Record};
use super::reviews;
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

/// Reads what `data` asks for; its `source` is `builtin:reviews` or a path. The seed draws the built-in texts, and splits a single file.
pub fn load(data: &Data, seed: u64) -> Result<Dataset> {
    let sizes = [("train", data.train), ("validation", data.validation), ("test", data.test)];
    if data.source == BUILTIN {
        let [train, validation, test] = sizes.map(|(split, size)| builtin(seed, split, size));
        return Ok(Dataset { train, validation, test });
    }
    let source = Path::new(&data.source);
    if !source.is_dir() {
        return split_file(source, data, seed);
    }
    let mut splits = Vec::new();
    for (split, size) in sizes {
        splits.push(match find_split(source, split) {
            Some(path) => from_file(&path, &data.columns, split, size)?,
            None => {
                let wanted = records::EXTENSIONS.map(|extension| format!("{split}{extension}")).join(", ");
                return Err(Error::data(source, None, format!("no file for the {split} split; looked for {wanted}")));
            }
        });
    }
    let [train, validation, test]: [Vec<Example>; 3] = splits.try_into().map_err(|_| Error::failed("three splits"))?;
    Ok(Dataset { train, validation, test })
}

fn builtin(seed: u64, split: &str, size: usize) -> Vec<Example> {
    let example = |index: usize| {
        let review = reviews::review(seed, split, index as u64);
        Example { id: format!("{split}-{index}"), text: review.text, label: review.label }
    };
    (0..size).map(example).collect()
}

fn find_split(folder: &Path, split: &str) -> Option<PathBuf> {
    records::EXTENSIONS.iter().map(|extension| folder.join(format!("{split}{extension}"))).find(|path| path.is_file())
}

fn from_file(path: &Path, columns: &Columns, split: &str, size: usize) -> Result<Vec<Example>> {
    let records = records::read(path, size)?;
    if records.len() < size {
        return Err(too_few(path, &format!("data.{split}"), size, records.len()));
    }
    let example = |(row, record): (usize, Record)| example(path, columns, format!("{split}-{row}"), &record);
    records.into_iter().enumerate().map(example).collect()
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

fn too_few(path: &Path, key: &str, asked: usize, found: usize) -> Error {
    Error::data(path, None, format!("`{key}` asks for {asked} rows; the file has {found}\n\nhint: lower it, or 0 for all there are"))
}

fn example(path: &Path, columns: &Columns, id: String, record: &Record) -> Result<Example> {
    let field = |column: &str, key: &str| {
        record.fields.get(column).ok_or_else(|| {
            let found = record.fields.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            Error::data(path, Some(record.line), format!("no column `{column}`; found {found}\n\nhint: set `data.columns.{key}`"))
        })
    };
    let text = field(&columns.text, "text")?;
    let Some(text) = text.as_str() else {
        return Err(Error::data(
            path,
            Some(record.line),
            format!("`{}` must be a string, not `{}`", columns.text, records::shorten(&text.to_string())),
        ));
    };
    let value = field(&columns.label, "label")?;
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

    use super::*;

    fn data(source: &Path, sizes: [usize; 3]) -> Data {
        let [train, validation, test] = sizes;
        let source = source.to_string_lossy().into_owned();
        Data { source, columns: Columns::default(), prompt: PromptRule::default(), train, validation, test }
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
        assert!(failure("x.parquet", good, all).contains("supported: .jsonl, .jsonl.gz, .json, .csv"));
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
