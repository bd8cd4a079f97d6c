//! Tests of `dataset.rs`.

use std::io::Write;

use parquet::basic::Compression;

use super::super::examples::{Prompts, RowPrompt, Split, first_words_prompt};
use super::super::parquet::tests::write;
use super::*;
use crate::recipe::{DataSplits, PromptRule};

fn data(source: &Path, sizes: [usize; 3]) -> Data {
    let [train, validation, test] = sizes;
    let source = source.to_string_lossy().into_owned();
    Data {
        source,
        subset: None,
        splits: DataSplits::default(),
        order: RowOrder::default(),
        columns: Columns::default(),
        prompt: PromptRule::default(),
        train: Some(train),
        validation: Some(validation),
        test: Some(test),
    }
}

fn failure(name: &str, content: &[u8], sizes: [usize; 3]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    let labels = |dataset: Dataset| {
        [Split::Train, Split::Validation, Split::Test]
            .map(|split| dataset.labels(split).map(drop))
            .into_iter()
            .collect::<Result<Vec<_>>>()
    };
    let error = load(&data(&path, sizes), 1).and_then(labels).unwrap_err().to_string();
    error.replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn bad_files_are_named_with_their_line() {
    let good = br#"{"text":"a","label":1}"#;
    let with = |second: &[u8]| [&good[..], b"\n", second].concat();
    let all = [0, 0, 0];
    for (content, message) in [
        (with(b"\n\r\n \n7\n"), "x.jsonl:5: a JSON object was expected, not `7`"),
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
        failure("x.orc", b"ORC", all).contains("supported: .jsonl, .ndjson, .json, .csv and .tsv,")
    );
    assert!(
        failure("x.csv", b"text,label\na,1\nb,0,extra\n", all)
            .starts_with("x.csv:3: not valid CSV: 3 fields, but the header names 2 columns")
    );
    assert!(
        failure("x.json", b"[{\"text\":\"a\",\n\"label\":1},", all)
            .starts_with("x.json:2: the file may be cut short: it ends where a value is expected")
    );
    let error = load(&data(Path::new("nowhere.jsonl"), all), 1).unwrap_err().to_string();
    assert!(error.starts_with("nowhere.jsonl: opening the data: No such file"), "{error}");
}

#[test]
fn labels_are_read_as_tables_write_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.csv");
    let labels = ["1", "1.0", " 1 ", "True", "true", "POSITIVE", "pos", "\"1\""];
    let others = ["0", "0.0", " 0 ", "False", "false", "Negative", "neg", "-0.0"];
    let row = |row: usize| format!("{row},a{row},{}\n{row},b{row},{}\n", labels[row], others[row]);
    let rows: String = (0..labels.len()).map(row).collect();
    std::fs::write(&path, format!(",text,label\n{rows}")).unwrap();
    let examples = load(&data(&path, [0, 0, 0]), 1).unwrap().train;
    assert_eq!(examples.len(), 16);
    for example in examples {
        assert_eq!(
            example.label,
            Some(u8::from(example.text.starts_with('a'))),
            "{}",
            example.text
        );
    }
    for label in ["", "2", "0.5", "nan", "-1", "yes"] {
        let error =
            failure("x.csv", format!("text,label\r\na,1\r\nb,{label}\r\n").as_bytes(), [0; 3]);
        assert!(error.starts_with(&format!("x.csv:3: `label` is `\"{label}\"`")), "{error}");
    }
    let json = b"{\"text\":\"a\",\"label\":1.0}\n{\"text\":\"b\",\"label\":null}\n";
    let error = failure("x.jsonl", json, [0; 3]);
    assert!(error.starts_with("x.jsonl:2: `label` is `null`; expected 0, 1, true"), "{error}");
    let error = failure("x.csv", b"text;a|b;label\na;b;1\n", [0; 3]);
    assert!(error.contains("hint: the columns seem to be separated by semicolons"), "{error}");
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
    let rows: String =
        (0..50).map(|i| format!("\"text, number {i}\",{}\n", ["neg", "positive"][i % 2])).collect();
    std::fs::write(&path, format!("text,label\n{rows}")).unwrap();
    let dataset = load(&data(&path, [0, 5, 10]), 3).unwrap();
    assert_eq!((dataset.train.len(), dataset.validation.len(), dataset.test.len()), (35, 5, 10));
    let mut texts: Vec<&str> = [&dataset.train, &dataset.validation, &dataset.test]
        .into_iter()
        .flatten()
        .map(|example| example.text.as_str())
        .collect();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), 50);
    assert_eq!(dataset, load(&data(&path, [0, 5, 10]), 4).unwrap(), "whatever the seed is");
    // More rows change nothing in the order of those that are there.
    let more = format!("text,label\n{rows}more,0\nand more,1\n");
    std::fs::write(&path, more).unwrap();
    let larger = load(&data(&path, [0, 5, 10]), 3).unwrap();
    let texts = |rows: &[Example]| rows.iter().map(|row| row.text.clone()).collect::<Vec<_>>();
    let kept: Vec<String> =
        texts(&larger.test).into_iter().filter(|text| text.starts_with("text")).collect();
    assert_eq!(texts(&dataset.test)[..kept.len()], kept);
    assert!(kept.len() >= 8, "{kept:?}");
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
    assert_eq!(dataset, load(&data(folder.path(), [0, 3, 1]), 6).unwrap(), "whatever the seed is");
    let fewer = load(&data(folder.path(), [5, 3, 1]), 5).unwrap();
    assert_eq!((fewer.train.len(), &fewer.validation), (5, &dataset.validation));
    assert!(
        fewer
            .train
            .iter()
            .all(|example| dataset.train.iter().any(|other| other.text == example.text))
    );

    let error = |sizes: [usize; 3]| load(&data(folder.path(), sizes), 5).unwrap_err().to_string();
    assert!(
        error([0, 0, 1]).contains("no file for the validation split, and `data.validation` is 0")
    );
    assert!(
        error([10, 3, 1])
            .contains("`data.train + data.validation` asks for 13 rows; the file has 12")
    );
    assert!(error([0, 12, 1]).contains("asks for 13 rows"));
    std::fs::copy(below.join("test-00000-of-00001.parquet"), below.join("dev-0.parquet")).unwrap();
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
    let rule = PromptRule { min_words: 2, max_words: Some(4), ..PromptRule::default() };
    let example = |text: &str, id: usize| Example {
        id: format!("test-{id}"),
        text: text.into(),
        label: None,
        prompt: RowPrompt::FirstWords,
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
    for (held_out, tested) in (1..13).flat_map(|rows| [(5, rows), (rows, 10)]) {
        let Dataset { train, validation, test, report } =
            load(&data(&path, [0, held_out, tested]), 1).unwrap();
        let rest = 41 - validation.len() - test.len();
        assert!(validation.len().abs_diff(held_out) < 2 && test.len().abs_diff(tested) < 2);
        assert!(
            set(&train).is_disjoint(&set(&validation))
                && set(&train).is_disjoint(&set(&test))
                && set(&validation).is_disjoint(&set(&test))
        );
        let sizes = format!("train {rest}, validation {}, test {}", validation.len(), test.len());
        assert_eq!(report.lines, [format!("41 rows of `x.csv`, split by hash: {sizes}")]);
        assert_eq!(train.len(), rest);
    }
    // Out of the training files of a folder, too.
    let below = folder.path().join("folder");
    std::fs::create_dir(&below).unwrap();
    std::fs::copy(&path, below.join("train.csv")).unwrap();
    std::fs::write(below.join("test.csv"), "text,label\ntext 3,1\nnew,0\n").unwrap();
    for held_out in 2..12 {
        let Dataset { train, validation, report, .. } =
            load(&data(&below, [0, held_out, 2]), 1).unwrap();
        assert_eq!((train.len() + validation.len(), validation.len()), (41, held_out));
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
    let data: Data =
        toml::from_str("source = 'builtin:reviews'\ntrain = 3000\nvalidation = 300\ntest = 300")
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
        assert!((10..120).contains(&found.seen.len()), "first words repeat: {}", found.seen.len());
    }
    let few = dataset.prompts(Split::Test, &data.prompt, 1, 20);
    assert_eq!(few.prompts, test.prompts[..20], "the first of them, in the order of the texts");
    assert!(test.seen.starts_with(&few.seen));
}

#[test]
fn what_is_not_read_need_not_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("asked.jsonl");
    let write = |row: &dyn Fn(usize) -> String| {
        std::fs::write(&path, (0..3).map(|i| row(i) + "\n").collect::<String>()).unwrap();
    };
    let alone = Data { train: None, validation: None, ..data(&path, [0, 0, 0]) };
    write(&|i| format!(r#"{{"text":"one two three {i}","label":-1}}"#));
    let dataset = load(&alone, 7).unwrap();
    let texts: Vec<&str> = dataset.test.iter().map(|row| row.text.as_str()).collect();
    assert_eq!(texts, ["one two three 0", "one two three 1", "one two three 2"], "as they stand");
    let error = dataset.labels(Split::Test).unwrap_err().to_string();
    assert!(error.contains("asked.jsonl:1: `label` is `-1`; expected 0, 1"), "{error}");
    let two = load(&Data { test: Some(2), ..alone.clone() }, 7).unwrap();
    assert_eq!((two.test.len(), two.train.len()), (2, 0));

    write(&|i| format!(r#"{{"instruction":"do {i}","label":"x"}}"#));
    let mut asking = alone;
    asking.columns.prompt = Some("instruction".to_owned());
    let dataset = load(&asking, 7).unwrap();
    let rule = PromptRule::default();
    let Prompts { prompts, .. } = dataset.prompts(Split::Test, &rule, 7, 9);
    let said: Vec<String> = prompts.iter().map(|prompt| prompt.text.to_string()).collect();
    assert_eq!(
        (said, prompts[2].id.as_str()),
        (["do 0", "do 1", "do 2"].map(String::from).into(), "test-2")
    );
    let error = dataset.texts(Split::Test).unwrap_err().to_string();
    assert!(error.contains("asked.jsonl:1: no column `text`"), "{error}");

    let turn = |role: &str, i: usize| format!(r#"{{"role":"{role}","content":"{role} {i}"}}"#);
    write(&|i| format!(r#"{{"messages":[{},{}]}}"#, turn("user", i), turn("assistant", i)));
    asking.columns.prompt = Some("messages".to_owned());
    let dataset = load(&asking, 7).unwrap();
    let asked = vec![crate::prompt::Message::new("user", "user 1")];
    let asked = RowPrompt::Whole(asked.into());
    assert_eq!(dataset.test[1].prompt, asked, "the answer is none of the prompt");
    write(&|i| format!(r#"{{"messages":[{}]}}"#, turn("assistant", i)));
    let error = load(&asking, 7).unwrap_err().to_string();
    assert!(error.contains("asked.jsonl:1: `messages`, a chat without a turn of"), "{error}");
}
