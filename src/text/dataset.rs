//! Labelled texts in three splits: the built-in corpus, one local file, or a folder of local files.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;

use super::data_report::DataReport;
use super::hold_out::hold_out;
use super::record::{Record, shorten};
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
    match value {
        Value::Bool(positive) => Some(u8::from(*positive)),
        Value::Number(number) => {
            number.as_u64().filter(|label| *label < 2).map(|label| label as u8)
        }
        Value::String(name) => match name.trim().to_lowercase().as_str() {
            "1" | "positive" | "pos" | "true" => Some(1),
            "0" | "negative" | "neg" | "false" => Some(0),
            _ => None,
        },
        _ => None,
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
mod tests {
    use std::io::Write;

    use parquet::basic::Compression;

    use super::super::parquet::tests::write;
    use super::*;
    use crate::recipe::DataSplits;

    fn data(source: &Path, sizes: [usize; 3]) -> Data {
        let [train, validation, test] = sizes;
        let source = source.to_string_lossy().into_owned();
        Data {
            source,
            subset: None,
            splits: DataSplits::default(),
            columns: Columns::default(),
            prompt: PromptRule::default(),
            train,
            validation,
            test,
        }
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
            (
                with(b"{\"body\":\"b\",\"label\":0}\n"),
                "x.jsonl:2: no column `text`; found `body`, `label`",
            ),
            (with(b"{\"text\":\"b\",\"label\":7}\n"), "x.jsonl:2: `label` is `7`; expected 0, 1"),
            (with(b"{\"text\":3,\"label\":1}\n"), "x.jsonl:2: `text` must be a string"),
            (Vec::new(), "x.jsonl: the file holds no rows"),
        ] {
            let error = failure("x.jsonl", &content, all);
            assert!(error.starts_with(message), "{error}\nexpected {message}");
        }
        assert!(failure("x.jsonl", good, [2, 1, 1]).starts_with(
            "x.jsonl: `data.train + data.validation + data.test` asks for 4 rows; the file has 1"
        ));
        assert!(
            failure("x.arrow", good, all)
                .contains("supported: .jsonl, .jsonl.gz, .json, .csv, .parquet")
        );
        assert!(
            failure("x.csv", b"text,label\na,1\nb,0,extra\n", all)
                .starts_with("x.csv:3: not valid CSV")
        );
        assert!(
            failure("x.json", b"[{\"text\":\"a\",\n\"label\":1},", all)
                .starts_with("x.json:2: not a JSON array of objects")
        );
        let error = load(&data(Path::new("nowhere.jsonl"), all), 1).unwrap_err().to_string();
        assert!(error.starts_with("nowhere.jsonl: opening the data: No such file"), "{error}");
    }

    #[test]
    fn a_cut_gzip_file_is_told_from_a_short_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl.gz");
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        for i in 0..2000 {
            writeln!(encoder, r#"{{"text":"review number {i} {}","label":{}}}"#, i * 7919, i % 2)
                .unwrap();
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
        let rows: String = (0..50)
            .map(|i| format!("\"text, number {i}\",{}\n", ["neg", "positive"][i % 2]))
            .collect();
        std::fs::write(&path, format!("text,label\n{rows}")).unwrap();
        let dataset = load(&data(&path, [0, 5, 10]), 3).unwrap();
        assert_eq!(
            (dataset.train.len(), dataset.validation.len(), dataset.test.len()),
            (35, 5, 10)
        );
        let mut texts: Vec<&str> = [&dataset.train, &dataset.validation, &dataset.test]
            .into_iter()
            .flatten()
            .map(|example| example.text.as_str())
            .collect();
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
            let rows: Vec<(&str, i64)> =
                texts.iter().map(|text| (text.as_str(), shard % 2)).collect();
            write(
                &below.join(format!("train-{shard:05}-of-00003.parquet")),
                &rows,
                Compression::SNAPPY,
            );
        }
        write(&below.join("test-00000-of-00001.parquet"), &[("last", 1)], Compression::SNAPPY);
        let dataset = load(&data(folder.path(), [0, 3, 1]), 5).unwrap();
        assert_eq!(
            (dataset.train.len(), dataset.validation.len(), dataset.test[0].text.as_str()),
            (9, 3, "last")
        );
        let mut numbers: Vec<&str> = dataset
            .train
            .iter()
            .chain(&dataset.validation)
            .map(|example| example.text.as_str())
            .collect();
        assert!(dataset.train.is_sorted_by_key(|example| {
            example.text.rsplit(' ').next().unwrap().parse::<usize>().unwrap()
        }));
        numbers.sort();
        numbers.dedup();
        assert_eq!(numbers.len(), 12);
        assert_ne!(
            dataset.validation,
            load(&data(folder.path(), [0, 3, 1]), 6).unwrap().validation
        );
        let fewer = load(&data(folder.path(), [5, 3, 1]), 5).unwrap();
        assert_eq!((fewer.train.len(), &fewer.validation), (5, &dataset.validation));
        assert!(
            fewer
                .train
                .iter()
                .all(|example| dataset.train.iter().any(|other| other.text == example.text))
        );

        let error =
            |sizes: [usize; 3]| load(&data(folder.path(), sizes), 5).unwrap_err().to_string();
        assert!(
            error([0, 0, 1])
                .contains("no file for the validation split, and `data.validation` is 0")
        );
        assert!(
            error([10, 3, 1])
                .contains("`data.train + data.validation` asks for 13 rows; the file has 12")
        );
        assert!(error([0, 12, 1]).contains("asks for 13 rows"));
        std::fs::copy(below.join("test-00000-of-00001.parquet"), below.join("dev-0.parquet"))
            .unwrap();
        let whole = load(&data(folder.path(), [0, 0, 0]), 5).unwrap();
        assert_eq!(
            (whole.train.len(), whole.train[4].text.clone(), whole.validation[0].text.as_str()),
            (12, text(4), "last")
        );
        assert_eq!(load(&data(folder.path(), [6, 0, 0]), 5).unwrap().train, whole.train[..6]);
        assert!(error([0, 0, 2]).contains("`data.test` asks for 2 rows; the file has 1"));
        let inner = load(&data(&folder.path().join("plain_text"), [0, 0, 0]), 5).unwrap();
        assert!(
            (&inner.train, &inner.validation, &inner.test)
                == (&whole.train, &whole.validation, &whole.test)
        );
        let subset =
            |subset: &str| Data { subset: Some(subset.into()), ..data(folder.path(), [0, 0, 0]) };
        assert!(load(&subset("plain_text"), 5).unwrap() == inner);
        assert!(
            load(&subset("text"), 5)
                .unwrap_err()
                .to_string()
                .contains("`data.subset` is `text`, but there is no such folder")
        );
        std::fs::remove_file(below.join("test-00000-of-00001.parquet")).unwrap();
        assert!(error([0, 0, 0]).contains("no file for the test split; looked for `test.…`"));
    }

    #[test]
    fn prompts_are_the_first_words() {
        let rule = PromptRule { min_words: 2, max_words: 4 };
        let example = |text: &str, id: usize| Example {
            id: format!("test-{id}"),
            text: text.into(),
            label: 0,
        };
        let mut lengths = std::collections::BTreeSet::new();
        for id in 0..50 {
            let prompt =
                first_words_prompt(&example("one  two\tthree four five", id), &rule, 1).unwrap();
            assert!("one two three four".starts_with(&prompt), "{prompt}");
            lengths.insert(prompt.split(' ').count());
        }
        assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(first_words_prompt(&example("one two", 0), &rule, 1), None);
    }

    #[test]
    fn equal_texts_never_part() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        // 30 texts, every third of them twice, and "Text 1" is another than "text 1".
        let texts: Vec<String> = (0..30)
            .flat_map(|i| vec![format!("text {i}"); if i % 3 == 0 { 2 } else { 1 }])
            .chain(["Text 1".to_owned()])
            .collect();
        let rows =
            |texts: &[String]| texts.iter().map(|text| format!("{text},1\n")).collect::<String>();
        std::fs::write(&path, format!("text,label\n{}", rows(&texts))).unwrap();
        let set = |examples: &[Example]| {
            examples.iter().map(|example| example.text.clone()).collect::<HashSet<_>>()
        };
        for seed in 0..20 {
            let Dataset { train, validation, test, report } =
                load(&data(&path, [0, 5, 10]), seed).unwrap();
            assert_eq!((train.len(), validation.len(), test.len()), (26, 5, 10), "{report:?}");
            assert!(
                set(&train).is_disjoint(&set(&validation))
                    && set(&train).is_disjoint(&set(&test))
                    && set(&validation).is_disjoint(&set(&test))
            );
            assert_eq!(
                report.lines,
                ["41 rows of `x.csv`, split by the seed: train 26, validation 5, test 10"]
            );
        }
        // Out of the training files of a folder, too.
        let below = folder.path().join("folder");
        std::fs::create_dir(&below).unwrap();
        std::fs::copy(&path, below.join("train.csv")).unwrap();
        std::fs::write(below.join("test.csv"), "text,label\ntext 3,1\nnew,0\n").unwrap();
        for seed in 0..20 {
            let Dataset { train, validation, report, .. } =
                load(&data(&below, [0, 7, 2]), seed).unwrap();
            assert_eq!((train.len(), validation.len()), (34, 7));
            assert!(set(&train).is_disjoint(&set(&validation)));
            let shared = if set(&train).contains("text 3") {
                "1 of 2 test texts are training texts too"
            } else {
                "1 of 2 test texts are validation texts too"
            };
            assert_eq!(report.warnings, [shared], "the user's own test file");
        }
        std::fs::write(
            &path,
            format!("text,label\n{}{}", rows(&vec!["same".to_owned(); 8]), rows(&texts[..2])),
        )
        .unwrap();
        let error = load(&data(&path, [0, 1, 2]), 1).unwrap_err().to_string();
        assert!(
            error.contains("asks for 3 of 10 rows, but rows of one text stay together")
                && error.contains("\n\nhint: "),
            "{error}"
        );
        std::fs::write(
            &path,
            format!("text,label\n{}{}", rows(&vec!["same".to_owned(); 8]), rows(&texts[..3])),
        )
        .unwrap();
        let Dataset { train, validation, test, report } = load(&data(&path, [0, 1, 1]), 1).unwrap();
        assert_eq!((train.len(), validation.len(), test.len()), (8, 2, 1));
        assert_eq!(
            report.warnings,
            ["`data.validation` asks for 1, and 2 are held out: rows of one text stay together"]
        );
    }

    #[test]
    fn reviews_and_prompts_are_not_shared_by_splits() {
        let data: Data = toml::from_str(
            "source = 'builtin:reviews'\ntrain = 3000\nvalidation = 300\ntest = 300",
        )
        .unwrap();
        let dataset = load(&data, 1).unwrap();
        let texts: HashSet<&str> = [&dataset.train, &dataset.validation, &dataset.test]
            .into_iter()
            .flatten()
            .map(|example| example.text.as_str())
            .collect();
        assert_eq!(texts.len(), 3600);
        let all = |split: Split| dataset.prompts(split, &data.prompt, 1, usize::MAX);
        let set = |prompts: &Prompts| {
            prompts.prompts.iter().map(|prompt| prompt.text.clone()).collect::<HashSet<_>>()
        };
        let [train, validation, test] = [Split::Train, Split::Validation, Split::Test].map(all);
        assert_eq!((train.prompts.len(), train.seen.len()), (3000, 0));
        assert!(
            set(&train).is_disjoint(&set(&validation))
                && set(&train).is_disjoint(&set(&test))
                && set(&validation).is_disjoint(&set(&test))
        );
        for found in [&validation, &test] {
            assert_eq!(found.prompts.len() + found.seen.len(), 300);
            assert!(
                (10..120).contains(&found.seen.len()),
                "first words repeat: {}",
                found.seen.len()
            );
        }
        let few = dataset.prompts(Split::Test, &data.prompt, 1, 20);
        assert_eq!(few.prompts, test.prompts[..20], "the first of them, in the order of the texts");
        assert!(test.seen.starts_with(&few.seen));
    }
}
