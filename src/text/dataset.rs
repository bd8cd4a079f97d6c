//! Texts in up to three splits: the built-in corpus, one local file, or a folder of local files.
//! Which files make a split is told by `splits.rs`, how a file is read by `records.rs`, what rows
//! are good for by `examples.rs`.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;

use super::data_report::DataReport;
use super::examples::{Dataset, Example, RowPrompt};
use super::hold_out::{by_hash, hold_out};
use super::messages::asked;
use super::posts::post;
use super::record::{Record, shorten, truth};
use super::records;
use super::reviews;
use super::splits::{self, SplitFiles};
use super::whole_prompts;
use crate::error::{Error, Result};
use crate::recipe::{Columns, Data, RowOrder};

pub const BUILTIN: &str = "builtin:reviews";

/// Reads what `data` asks for; its `source` is `builtin:reviews` or a path. The seed draws the
/// built-in texts; a single file is split, and validation rows are taken out of the training files
/// of a folder that has none, by the hashes of their prompts or texts: equal ones never part. Texts
/// that the user's own files share are counted in the report.
pub fn load(data: &Data, seed: u64) -> Result<Dataset> {
    if data.source == BUILTIN {
        return Ok(builtin(data, seed));
    }
    let source = Path::new(&data.source);
    let mut dataset = match source.is_dir() {
        true => folder(&splits::root(data)?, data)?,
        false => one_file(source, data)?,
    };
    if data.columns.prompt.is_some() {
        let Dataset { train, validation, test, report } = &mut dataset;
        for (split, rows) in [("train", train), ("validation", validation), ("test", test)] {
            if report.posts {
                whole_prompts::once(split, rows, report);
            }
            whole_prompts::shape(&data.prompt, split, rows, report);
        }
    }
    Ok(dataset)
}

/// Whether rows of what `data` reads are held out by hash.
///
/// # Errors
/// Where a folder cannot be read, or names leave a choice of files.
pub fn holds_out(data: &Data) -> Result<bool> {
    let source = Path::new(&data.source);
    if !source.is_dir() {
        return Ok(data.source != BUILTIN && data.train.is_some());
    }
    let root = splits::root(data)?;
    let [_, validation, _] =
        splits::of_data(&splits::list(&root)?, data).map_err(|trouble| trouble.at(&root))?;
    Ok(data.validation.is_some() && validation.files.is_empty())
}

/// A review that an earlier split has word for word is passed over.
fn builtin(data: &Data, seed: u64) -> Dataset {
    let mut seen = HashSet::new();
    let [train, validation, test] =
        [("train", data.train), ("validation", data.validation), ("test", data.test)].map(
            |(split, size)| {
                let size = size.unwrap_or_default();
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
    Example {
        id: format!("{split}-{index}"),
        text: review.text,
        label: Some(review.label),
        prompt: RowPrompt::FirstWords,
    }
}

fn folder(root: &Path, data: &Data) -> Result<Dataset> {
    let [train_files, validation_files, test_files] =
        splits::of_data(&splits::list(root)?, data).map_err(|trouble| trouble.at(root))?;
    let mut report = DataReport::default();
    let mut read = |split: &str, files: &SplitFiles, rows: Option<usize>| match rows {
        None => Ok(Vec::new()),
        Some(rows) => from_files(root, files, data, split, rows, &mut report),
    };
    let test = read("test", &test_files, data.test)?;
    let (train, validation) = match data.validation {
        Some(0) if validation_files.files.is_empty() => {
            let hint = "give the number of rows to take from the training split instead, or add a \
                        file";
            let what = "no file for the validation split, and `data.validation` is 0";
            return Err(Error::data(root, None, format!("{what}\n\nhint: {hint}")));
        }
        Some(held_out) if validation_files.files.is_empty() => {
            let all = read("train", &train_files, Some(0))?;
            from_training(root, [data.train.unwrap_or_default(), held_out], &all, &mut report)?
        }
        rows => {
            let train = read("train", &train_files, data.train)?;
            let validation = read("validation", &validation_files, rows)?;
            tell_shared(&mut report, ("validation", &validation), &[("training", &train)]);
            (train, validation)
        }
    };
    tell_shared(&mut report, ("test", &test), &[("training", &train), ("validation", &validation)]);
    Ok(Dataset { train, validation, test, report })
}

/// The training rows (0 for the rest) and the validation rows that are asked for, out of `all`,
/// each in their order.
fn from_training(
    root: &Path,
    [train, held_out]: [usize; 2],
    all: &[Example],
    report: &mut DataReport,
) -> Result<(Vec<Example>, Vec<Example>)> {
    let key = "data.train + data.validation";
    let asked = held_out + train.max(1);
    if all.len() < asked {
        return Err(too_few(root, key, asked, all.len()));
    }
    let keys: Vec<Cow<str>> = all.iter().map(Example::key).collect();
    let keys: Vec<&str> = keys.iter().map(Cow::as_ref).collect();
    let order = by_hash(&keys);
    let [validation, mut rest] =
        hold_out(&order, &keys, &[held_out]).try_into().unwrap_or_default();
    if rest.len() < train.max(1) {
        return Err(too_few_groups(root, key, asked, &keys, "text"));
    }
    rest.truncate(if train == 0 { rest.len() } else { train });
    report
        .lines
        .push(format!("validation: {} of the training rows, held out by hash", validation.len()));
    report.held_out("data.validation", held_out, validation.len(), "rows of one text");
    // Their places are named by the training files.
    report.same_place("train", "validation");
    let take = |split: &str, mut rows: Vec<usize>| -> Vec<Example> {
        rows.sort_unstable();
        rows.iter()
            .enumerate()
            .map(|(row, &from)| Example { id: format!("{split}-{row}"), ..all[from].clone() })
            .collect()
    };
    Ok((take("train", rest), take("validation", validation)))
}

/// The user's own files may share texts; what is measured on them says less then.
fn tell_shared(
    report: &mut DataReport,
    (split, examples): (&str, &[Example]),
    others: &[(&str, &[Example])],
) {
    for (other, known) in others {
        let known: HashSet<Cow<str>> = known.iter().map(Example::key).collect();
        let shared = examples.iter().filter(|example| known.contains(&example.key())).count();
        if shared > 0 {
            report.warnings.push(format!(
                "{shared} of {} {split} texts are {other} texts too",
                examples.len()
            ));
        }
    }
}

/// The first `size` rows of the files in the order that `data` has (0 for all).
fn from_files(
    root: &Path,
    SplitFiles { files, passed_over }: &SplitFiles,
    data: &Data,
    split: &str,
    size: usize,
    report: &mut DataReport,
) -> Result<Vec<Example>> {
    let columns = &data.columns;
    let as_they_stand = data.order == RowOrder::File;
    let most = if as_they_stand { size } else { 0 };
    let mut examples: Vec<Example> = Vec::new();
    let (mut read, mut others) = (Vec::new(), Vec::new());
    for file in files {
        if most > 0 && examples.len() == most {
            break;
        }
        let (path, before) = (root.join(file), examples.len());
        let limit = if most == 0 { 0 } else { most - before };
        for record in records::read(&path, limit)? {
            let id = format!("{split}-{}", examples.len());
            if examples.is_empty() {
                others = record.others(&columns.names());
            }
            examples.push(example(&path, columns, (split, id), &record, report)?);
        }
        read.push((file.clone(), examples.len() - before));
    }
    if examples.len() < size {
        return Err(too_few(&root.join(&files[0]), &format!("data.{split}"), size, examples.len()));
    }
    report.read(split, "rows", &read, &others);
    report.passed_over(split, passed_over, "data");
    Ok(if as_they_stand { examples } else { first_by_hash(examples, size) })
}

/// Rows in the order of the hashes of what they say, as many as `size` (0 for all).
fn first_by_hash(examples: Vec<Example>, size: usize) -> Vec<Example> {
    let keys: Vec<Cow<str>> = examples.iter().map(Example::key).collect();
    let mut order = by_hash(&keys.iter().map(Cow::as_ref).collect::<Vec<_>>());
    order.truncate(if size == 0 { order.len() } else { size });
    order.into_iter().map(|row| examples[row].clone()).collect()
}

/// One file: all of it is test where nothing else is asked for. Else the rows with the lowest
/// hashes are test, the next validation, and then train (0 takes the rest).
fn one_file(path: &Path, data: &Data) -> Result<Dataset> {
    let mut report = DataReport::default();
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(train) = data.train else {
        let (root, file) = (path.parent().unwrap_or(Path::new("")), vec![name]);
        let (files, rows) = (SplitFiles { files: file, passed_over: Vec::new() }, data.test);
        let test = match rows {
            Some(rows) => from_files(root, &files, data, "test", rows, &mut report)?,
            None => Vec::new(),
        };
        return Ok(Dataset { train: Vec::new(), validation: Vec::new(), test, report });
    };
    let [held_out, tested] = [data.validation, data.test].map(Option::unwrap_or_default);
    let all = records::read(path, 0)?;
    let key = "data.train + data.validation + data.test";
    let asked = train + held_out + tested;
    if all.len() < asked {
        return Err(too_few(path, key, asked, all.len()));
    }
    let all = all.iter().map(|row| {
        // A row's split is not settled yet.
        example(path, &data.columns, ("train", String::new()), row, &mut report)
    });
    let all = all.collect::<Result<Vec<_>>>()?;
    let keys: Vec<Cow<str>> = all.iter().map(Example::key).collect();
    let keys: Vec<&str> = keys.iter().map(Cow::as_ref).collect();
    let [test, validation, mut rest] =
        hold_out(&by_hash(&keys), &keys, &[tested, held_out]).try_into().unwrap_or_default();
    let short = rest.len() < train || (rest.is_empty() && asked < all.len());
    if short || (validation.is_empty() && held_out > 0) {
        return Err(too_few_groups(path, key, asked, &keys, "text"));
    }
    rest.truncate(if train == 0 { rest.len() } else { train });
    report.lines.push(format!(
        "{} rows of `{name}`, split by hash: train {}, validation {}, test {}",
        all.len(),
        rest.len(),
        validation.len(),
        test.len()
    ));
    report.held_out("data.test", tested, test.len(), "rows of one text");
    report.held_out("data.validation", held_out, validation.len(), "rows of one text");
    report.same_place("train", "validation");
    report.same_place("train", "test");
    let take = |split: &str, rows: &[usize]| -> Vec<Example> {
        rows.iter()
            .map(|&row| Example { id: format!("{split}-{row}"), ..all[row].clone() })
            .collect()
    };
    Ok(Dataset {
        train: take("train", &rest),
        validation: take("validation", &validation),
        test: take("test", &test),
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

/// A row of a split. What it lacks of text and label is noted, for whoever reads these.
fn example(
    path: &Path,
    columns: &Columns,
    (split, id): (&str, String),
    record: &Record,
    report: &mut DataReport,
) -> Result<Example> {
    let prompt = match &columns.prompt {
        None => RowPrompt::FirstWords,
        Some(column) => {
            let asked = asked(path, record, column, "data.columns.prompt")?;
            report.posts |= record.fields.get(column).and_then(post).is_some();
            asked.map_or(RowPrompt::LeftOut, RowPrompt::Whole)
        }
    };
    let text = match record.text(path, &columns.text, "data.columns.text") {
        Ok(text) => text.to_owned(),
        Err(error) if prompt == RowPrompt::FirstWords => return Err(error),
        Err(error) => {
            report.no_text.entry(split.to_owned()).or_insert_with(|| error.to_string());
            String::new()
        }
    };
    let label = match label_of(path, columns, record) {
        Ok(label) => Some(label),
        Err(error) => {
            report.no_label.entry(split.to_owned()).or_insert_with(|| error.to_string());
            None
        }
    };
    Ok(Example { id, text, label, prompt })
}

fn label_of(path: &Path, columns: &Columns, record: &Record) -> Result<u8> {
    let value = record.column(path, &columns.label, "data.columns.label")?;
    label(value).ok_or_else(|| {
        let what = shorten(&value.to_string());
        Error::data(
            path,
            Some(record.line),
            format!(
                "`{}` is `{what}`; expected 0, 1, true, false, positive or negative",
                columns.label
            ),
        )
    })
}

fn label(value: &Value) -> Option<u8> {
    let name = value.as_str().map(|name| name.trim().to_lowercase());
    match name.as_deref() {
        Some("positive" | "pos") => Some(1),
        Some("negative" | "neg") => Some(0),
        _ => truth(value).map(u8::from),
    }
}

#[cfg(test)]
mod order_tests;
#[cfg(test)]
mod tests;
