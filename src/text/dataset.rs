//! Labelled texts in three splits: the built-in corpus, one local file, or a folder of local files.
//! Which files make a split is told by `splits.rs`, how a file is read by `records.rs`.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;

use super::data_report::DataReport;
use super::hold_out::hold_out;
use super::record::{Record, shorten, truth};
use super::records;
use super::reviews;
use super::splits::{self, SplitFiles};
use crate::error::{Error, Result};
use crate::prompt::Prompt;
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
    pub report: DataReport,
}

/// Reads what `data` asks for; its `source` is `builtin:reviews` or a path. The seed draws the
/// built-in texts, splits a single file, and takes validation rows out of the training files of a
/// folder that has none: equal texts never part. Texts that the user's own files share are counted
/// in the report.
pub fn load(data: &Data, seed: u64) -> Result<Dataset> {
    if data.source == BUILTIN {
        return Ok(builtin(data, seed));
    }
    let source = Path::new(&data.source);
    if source.is_dir() {
        folder(&splits::root(data)?, data, seed)
    } else {
        split_file(source, data, seed)
    }
}

/// A review that an earlier split has word for word is passed over.
fn builtin(data: &Data, seed: u64) -> Dataset {
    let mut seen = HashSet::new();
    let [train, validation, test] =
        [("train", data.train), ("validation", data.validation), ("test", data.test)].map(
            |(split, size)| {
                let reviews = (0..)
                    .map(|index| review(seed, split, index))
                    .filter(|example| !seen.contains(&example.text));
                let examples: Vec<Example> = reviews.take(size).collect();
                seen.extend(examples.iter().map(|example| example.text.clone()));
                examples
            },
        );
    Dataset { train, validation, test, report: DataReport::default() }
}

fn review(seed: u64, split: &str, index: usize) -> Example {
    let review = reviews::review(seed, split, index as u64);
    Example { id: format!("{split}-{index}"), text: review.text, label: review.label }
}

fn folder(root: &Path, data: &Data, seed: u64) -> Result<Dataset> {
    let [train_files, validation_files, test_files] =
        splits::of_data(&splits::list(root)?, data).map_err(|trouble| trouble.at(root))?;
    let mut report = DataReport::default();
    let mut read = |split: &str, files: &SplitFiles, rows: usize| {
        from_files(root, files, &data.columns, split, rows, &mut report)
    };
    let test = read("test", &test_files, data.test)?;
    let (train, validation) = if validation_files.files.is_empty() {
        if data.validation == 0 {
            let hint = "give the number of rows to take from the training split instead, or add a \
                        file";
            return Err(Error::data(
                root,
                None,
                format!(
                    "no file for the validation split, and `data.validation` is 0\n\nhint: {hint}"
                ),
            ));
        }
        let all = read("train", &train_files, 0)?;
        from_training(root, data, seed, &all, &mut report)?
    } else {
        let train = read("train", &train_files, data.train)?;
        let validation = read("validation", &validation_files, data.validation)?;
        tell_shared(&mut report, ("validation", &validation), &[("training", &train)]);
        (train, validation)
    };
    tell_shared(&mut report, ("test", &test), &[("training", &train), ("validation", &validation)]);
    Ok(Dataset { train, validation, test, report })
}

/// Validation rows out of the training rows, and the rest of these, each in their order.
fn from_training(
    root: &Path,
    data: &Data,
    seed: u64,
    all: &[Example],
    report: &mut DataReport,
) -> Result<(Vec<Example>, Vec<Example>)> {
    let key = "data.train + data.validation";
    let asked = data.validation + data.train.max(1);
    if all.len() < asked {
        return Err(too_few(root, key, asked, all.len()));
    }
    let order = Stream::new(seed, "data", "validation").permutation(all.len());
    let keys: Vec<&str> = all.iter().map(|example| example.text.as_str()).collect();
    let [validation, mut train] =
        hold_out(&order, &keys, &[data.validation]).try_into().unwrap_or_default();
    if train.len() < data.train.max(1) {
        return Err(too_few_groups(root, key, asked, &keys, "text"));
    }
    train.truncate(if data.train == 0 { train.len() } else { data.train });
    report.lines.push(format!(
        "validation: {} of the training rows, held out by the seed",
        validation.len()
    ));
    report.held_out("data.validation", data.validation, validation.len(), "rows of one text");
    let take = |split: &str, mut rows: Vec<usize>| -> Vec<Example> {
        rows.sort_unstable();
        rows.iter()
            .enumerate()
            .map(|(row, &from)| Example { id: format!("{split}-{row}"), ..all[from].clone() })
            .collect()
    };
    Ok((take("train", train), take("validation", validation)))
}

/// The user's own files may share texts; what is measured on them says less then.
fn tell_shared(
    report: &mut DataReport,
    (split, examples): (&str, &[Example]),
    others: &[(&str, &[Example])],
) {
    for (other, known) in others {
        let known: HashSet<&str> = known.iter().map(|example| example.text.as_str()).collect();
        let shared =
            examples.iter().filter(|example| known.contains(example.text.as_str())).count();
        if shared > 0 {
            report.warnings.push(format!(
                "{shared} of {} {split} texts are {other} texts too",
                examples.len()
            ));
        }
    }
}

/// The first `size` rows of the files in their order (0 for all).
fn from_files(
    root: &Path,
    SplitFiles { files, passed_over }: &SplitFiles,
    columns: &Columns,
    split: &str,
    size: usize,
    report: &mut DataReport,
) -> Result<Vec<Example>> {
    let mut examples: Vec<Example> = Vec::new();
    let mut read = Vec::new();
    for file in files {
        if size > 0 && examples.len() == size {
            break;
        }
        let (path, before) = (root.join(file), examples.len());
        let limit = if size == 0 { 0 } else { size - before };
        for record in records::read(&path, limit)? {
            examples.push(example(&path, columns, format!("{split}-{}", examples.len()), &record)?);
        }
        read.push((file.clone(), examples.len() - before));
    }
    if examples.len() < size {
        return Err(too_few(&root.join(&files[0]), &format!("data.{split}"), size, examples.len()));
    }
    report.read(split, "rows", &read);
    report.passed_over(split, passed_over, "data");
    Ok(examples)
}

/// One file, shuffled by the seed: test first, then validation, then train (0 takes the rest).
fn split_file(path: &Path, data: &Data, seed: u64) -> Result<Dataset> {
    let records = records::read(path, 0)?;
    let order = Stream::new(seed, "data", "split").permutation(records.len());
    let key = "data.train + data.validation + data.test";
    let asked = data.train + data.validation + data.test;
    if records.len() < asked {
        return Err(too_few(path, key, asked, records.len()));
    }
    let texts = records
        .iter()
        .map(|record| record.text(path, &data.columns.text, "data.columns.text"))
        .collect::<Result<Vec<_>>>()?;
    let [test, validation, mut train] =
        hold_out(&order, &texts, &[data.test, data.validation]).try_into().unwrap_or_default();
    let short = train.len() < data.train || (train.is_empty() && asked < records.len());
    if short || (validation.is_empty() && data.validation > 0) {
        return Err(too_few_groups(path, key, asked, &texts, "text"));
    }
    train.truncate(if data.train == 0 { train.len() } else { data.train });
    let mut report = DataReport::default();
    let [trained, validated, tested] = [train.len(), validation.len(), test.len()];
    report.lines.push(format!(
        "{} rows of `{}`, split by the seed: train {trained}, validation {validated}, test \
         {tested}",
        records.len(),
        path.file_name().unwrap_or_default().to_string_lossy()
    ));
    report.held_out("data.test", data.test, tested, "rows of one text");
    report.held_out("data.validation", data.validation, validated, "rows of one text");
    let examples = |split: &str, rows: &[usize]| -> Result<Vec<Example>> {
        rows.iter()
            .map(|&row| example(path, &data.columns, format!("{split}-{row}"), &records[row]))
            .collect()
    };
    Ok(Dataset {
        train: examples("train", &train)?,
        validation: examples("validation", &validation)?,
        test: examples("test", &test)?,
        report,
    })
}

pub(super) fn too_few(path: &Path, key: &str, asked: usize, found: usize) -> Error {
    Error::data(
        path,
        None,
        format!(
            "`{key}` asks for {asked} rows; the file has {found}\n\nhint: lower it, or 0 for all \
             there are"
        ),
    )
}

/// Where rows of one `what`, which `keys` tells of each, stay together, and that leaves some split
/// without any.
pub(super) fn too_few_groups(
    path: &Path,
    key: &str,
    asked: usize,
    keys: &[&str],
    what: &str,
) -> Error {
    let (rows, groups) = (keys.len(), keys.iter().collect::<HashSet<_>>().len());
    let have = if groups == 1 {
        format!("all have the same {what}")
    } else {
        format!("they have only {groups} {what}s")
    };
    let problem = format!(
        "`{key}` asks for {asked} of {rows} rows, but rows of one {what} stay together, and {have}"
    );
    Error::data(
        path,
        None,
        format!("{problem}\n\nhint: ask for fewer, or give what is held out in a file of its own"),
    )
}

fn example(path: &Path, columns: &Columns, id: String, record: &Record) -> Result<Example> {
    let text = record.text(path, &columns.text, "data.columns.text")?;
    let value = record.column(path, &columns.label, "data.columns.label")?;
    let label = label(value).ok_or_else(|| {
        let what = shorten(&value.to_string());
        Error::data(
            path,
            Some(record.line),
            format!(
                "`{}` is `{what}`; expected 0, 1, true, false, positive or negative",
                columns.label
            ),
        )
    })?;
    Ok(Example { id, text: text.to_owned(), label })
}

fn label(value: &Value) -> Option<u8> {
    let name = value.as_str().map(|name| name.trim().to_lowercase());
    match name.as_deref() {
        Some("positive" | "pos") => Some(1),
        Some("negative" | "neg") => Some(0),
        _ => truth(value).map(u8::from),
    }
}

/// Which rows of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    Train,
    Validation,
    Test,
}

impl std::fmt::Display for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Train => "training",
            Self::Validation => "validation",
            Self::Test => "test",
        })
    }
}

/// The prompts that texts begin with, in the order of the texts; ids are those of the texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prompts {
    pub prompts: Vec<Prompt>,
    /// Those that were passed over on the way to the last of `prompts`, for a text of an earlier
    /// split makes the same prompt.
    pub seen: Vec<Prompt>,
}

impl Dataset {
    /// The prompts of the first `count` texts of `split` that are long enough for one, fewer where
    /// there are no more. Of validation and test only those that no text of an earlier split
    /// (train, validation, test) makes, too: two texts may begin with the same words.
    pub fn prompts(&self, split: Split, rule: &PromptRule, seed: u64, count: usize) -> Prompts {
        let of = |examples: &[Example]| -> Vec<Prompt> {
            examples
                .iter()
                .filter_map(|example| {
                    Some(Prompt::new(&example.id, first_words_prompt(example, rule, seed)?))
                })
                .collect()
        };
        let (examples, earlier): (_, &[&[Example]]) = match split {
            Split::Train => (&self.train, &[]),
            Split::Validation => (&self.validation, &[&self.train]),
            Split::Test => (&self.test, &[&self.train, &self.validation]),
        };
        let known: HashSet<String> =
            earlier.iter().flat_map(|examples| of(examples)).map(|prompt| prompt.text).collect();
        let mut found = Prompts::default();
        for prompt in of(examples) {
            if found.prompts.len() == count {
                break;
            }
            let list =
                if known.contains(&prompt.text) { &mut found.seen } else { &mut found.prompts };
            list.push(prompt);
        }
        found
    }
}

/// The first n words of a text, n between the rule's bounds and drawn from (seed, id); `None` where
/// the text has no more than the least of them, for then nothing would be left to say.
pub fn first_words_prompt(example: &Example, rule: &PromptRule, seed: u64) -> Option<String> {
    let range = rule.max_words - rule.min_words + 1;
    let drawn = rule.min_words
        + (Stream::new(seed, "prompt", &example.id).uniform(0, 0) * range as f64) as usize;
    let words: Vec<&str> = example.text.split_whitespace().take(drawn + 1).collect();
    let count = drawn.min(words.len().saturating_sub(1));
    (count >= rule.min_words).then(|| words[..count].join(" "))
}

#[cfg(test)]
mod tests;
