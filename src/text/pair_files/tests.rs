//! Tests of `pair_files.rs`.

use super::*;
use crate::recipe::Preferences;

fn settings(train_pairs: usize, validation_pairs: usize) -> Preferences {
    let table = format!(
        "train_pairs = {train_pairs}\nvalidation_pairs = {validation_pairs}\ncolumns = \
         {{ prompt = \"question\" }}"
    );
    toml::from_str(&table).unwrap()
}

fn load(settings: &Preferences, source: &Path) -> Result<PairRows> {
    super::load(&of(settings, source).pair_source().unwrap())
}

fn files(settings: &Preferences, source: &Path) -> Result<Vec<PathBuf>> {
    super::files(&of(settings, source).pair_source().unwrap())
}

fn of(settings: &Preferences, source: &Path) -> Preferences {
    Preferences { source: Some(source.to_str().unwrap().to_owned()), ..settings.clone() }
}

fn write(folder: &Path, name: &str, rows: std::ops::Range<usize>) {
    let rows: String = rows.map(|row| format!("question {row},\"yes, {row}\",no\n")).collect();
    std::fs::write(folder.join(name), format!("question,chosen,rejected\n{rows}")).unwrap();
}

fn ids(pairs: &[PairRow]) -> Vec<&str> {
    pairs.iter().map(|pair| pair.id.as_str()).collect()
}

#[test]
fn splits_come_from_files_or_from_hashes() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, "train-0.csv", 0..7);
    write(root, "train-1.csv", 7..10);
    let PairRows { train, validation, report } = load(&settings(0, 3), root).unwrap();
    assert_eq!((train.len(), validation.len()), (7, 3));
    let said = [
        "train: 10 pairs of 2 files: `train-0.csv` (7), `train-1.csv` (3)",
        "validation: 3 of these pairs, all those of 3 prompts, held out by hash",
    ];
    assert_eq!((report.lines, report.warnings.len()), (said.map(str::to_owned).to_vec(), 0));
    let mut prompts: Vec<&PromptText> =
        train.iter().chain(&validation).map(|pair| &pair.prompt).collect();
    prompts.sort_unstable();
    prompts.dedup();
    assert_eq!(prompts.len(), 10);
    assert!(
        train.iter().all(|pair| pair.id == pair.prompt.to_string().replace("question ", "train-")),
        "ids tell rows: {train:?}"
    );
    assert_eq!(
        (train[0].chosen.split(", ").next(), train[0].rejected.as_str(), train[0].chosen_complete),
        (Some("yes"), "no", true)
    );
    assert_eq!(load(&settings(0, 3), root).unwrap().validation, validation);
    let fewer = load(&settings(4, 3), root).unwrap();
    assert_eq!((fewer.train.len(), &fewer.validation), (4, &validation));
    assert_eq!(files(&settings(0, 0), root).unwrap().len(), 2);
    assert!(error_of(root, 0, 0).contains(
        "no file for the validation split, and `preferences.validation_pairs` is 0\n\nhint: "
    ));
    assert!(error_of(root, 8, 3).contains(
        "`preferences.train_pairs + preferences.validation_pairs` asks for 11 rows; the file has 10"
    ));

    write(root, "test.csv", 20..24);
    let PairRows { train, validation: test, .. } = load(&settings(0, 0), root).unwrap();
    assert_eq!(
        (train.len(), ids(&test)),
        (10, vec!["validation-0", "validation-1", "validation-2", "validation-3"])
    );
    let PairRows { train, validation: test, .. } = load(&settings(2, 1), root).unwrap();
    assert_eq!((ids(&train), &test[0].prompt), (vec!["train-0", "train-1"], &"question 20".into()));
    assert!(error_of(root, 11, 0).contains("`preferences.train_pairs` asks for 11 rows"));
    write(root, "dev.csv", 30..31);
    assert_eq!(
        load(&settings(0, 0), root).unwrap().validation[0].prompt,
        "question 30".into(),
        "validation files before test files"
    );
    assert_eq!(files(&settings(0, 0), root).unwrap().len(), 3);
    assert!(error_of(&root.join("dev.csv"), 0, 1).contains("asks for 2 rows; the file has 1"));
    std::fs::remove_file(root.join("train-0.csv")).unwrap();
    std::fs::remove_file(root.join("train-1.csv")).unwrap();
    assert!(error_of(root, 0, 0).contains("no file for the train split; looked for `train.…`"));
}

fn error_of(source: &Path, train: usize, validation: usize) -> String {
    load(&settings(train, validation), source).unwrap_err().to_string()
}

/// 16 prompts with 6 pairs each, and a prompt of its own that stands three times.
fn ranked(folder: &Path) -> PathBuf {
    let pair =
        |prompt: usize, pair: usize| format!("question {prompt},better {pair},worse {pair}\n");
    let rows =
        (0..96).map(|row| pair(row / 6, row % 6)).collect::<String>() + &pair(99, 0).repeat(3);
    let path = folder.join("pairs.csv");
    std::fs::write(&path, format!("question,chosen,rejected\n{rows}")).unwrap();
    path
}

#[test]
fn a_prompt_is_held_out_with_all_its_pairs() {
    let folder = tempfile::tempdir().unwrap();
    let source = ranked(folder.path());
    for asked in 1..90 {
        let PairRows { train, validation, report } = load(&settings(0, asked), &source).unwrap();
        assert_eq!(train.len() + validation.len(), 99);
        let prompts: HashSet<&PromptText> = train.iter().map(|pair| &pair.prompt).collect();
        assert!(
            validation.iter().all(|pair| !prompts.contains(&pair.prompt)),
            "{asked}: {validation:?}"
        );
        // Groups of 6 and one of 3: at most what was asked for, and as near as they come.
        let nearest = if asked < 3 { 3 } else { asked / 3 * 3 };
        assert!(
            validation.len() == nearest || validation.len() + 3 == nearest,
            "{asked}: {}",
            validation.len()
        );
        assert_eq!(report.warnings.is_empty(), validation.len() == asked, "{asked}: {report:?}");
    }
    let PairRows { validation, report, .. } = load(&settings(0, 20), &source).unwrap();
    let warning = format!(
        "`preferences.validation_pairs` asks for 20, and {} are held out: pairs of one prompt \
         stay together",
        validation.len()
    );
    assert_eq!(report.warnings, [warning]);
    assert_eq!(load(&settings(30, 24), &source).unwrap().train.len(), 30);

    // An empty prompt says nothing: there only the same two responses stay together.
    let none = folder.path().join("none.csv");
    let rows =
        (0..20).map(|row| format!(",{0},{1}\n,{1},{0}\n", row, row + 100)).collect::<String>();
    std::fs::write(&none, format!("question,chosen,rejected\n{rows}")).unwrap();
    let PairRows { train, validation, .. } = load(&settings(0, 6), &none).unwrap();
    let responses = |pairs: &[PairRow]| {
        pairs
            .iter()
            .flat_map(|pair| [pair.chosen.clone(), pair.rejected.clone()])
            .collect::<HashSet<_>>()
    };
    assert_eq!((train.len(), validation.len()), (34, 6));
    assert!(responses(&train).is_disjoint(&responses(&validation)));

    let one = folder.path().join("one.csv");
    std::fs::write(&one, format!("question,chosen,rejected\n{}", "a,b,c\n".repeat(9))).unwrap();
    let error = error_of(&one, 0, 3);
    let expected = "`preferences.train_pairs + preferences.validation_pairs` asks for 4 of 9 rows, \
                    but rows of one prompt stay together";
    assert!(
        error.contains(expected)
            && error
                .contains("\n\nhint: ask for fewer, or give what is held out in a file of its own"),
        "{error}"
    );
}

#[test]
fn prompts_that_the_user_s_files_share_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "train.csv", 0..10);
    let header = "question,chosen,rejected\n";
    std::fs::write(
        folder.path().join("validation.csv"),
        format!("{header}question 3,other,no\nquestion 4,\"yes, 4\",no\nnew,a,b\n"),
    )
    .unwrap();
    let PairRows { validation, report, .. } = load(&settings(0, 0), folder.path()).unwrap();
    assert_eq!(validation.len(), 3);
    let warning = "2 of 3 validation pairs have a prompt that training pairs have too, and 1 are \
                   training pairs: accuracy on them says little of new prompts";
    assert_eq!(report.warnings, [warning]);
    assert_eq!(
        load(&settings(3, 0), folder.path()).unwrap().report.warnings.len(),
        0,
        "of what is trained on"
    );
}

#[test]
fn whether_a_response_ended_is_read_as_tables_write_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.csv");
    let write = |endings: &[&str]| {
        let rows = endings.iter().enumerate();
        let rows: String = rows.map(|(row, end)| format!("q{row},yes,no,{end}\n")).collect();
        std::fs::write(&path, format!("question,chosen,rejected,chosen_complete\n{rows}")).unwrap();
    };
    write(&["True", "False", "1.0", "0.0", "0", "", "false"]);
    let pairs = load(&settings(0, 1), &path).unwrap();
    let mut pairs = [pairs.train, pairs.validation].concat();
    pairs.sort_by(|one, other| one.prompt.cmp(&other.prompt));
    let complete: Vec<bool> = pairs.iter().map(|pair| pair.chosen_complete).collect();
    assert_eq!(complete, [true, false, true, false, false, true, false]);
    write(&["True", "perhaps"]);
    let error = load(&settings(0, 1), &path).unwrap_err().to_string();
    assert!(error.contains("pairs.csv:3: `chosen_complete` is `\"perhaps\"`; expected"), "{error}");
}

#[test]
fn columns_that_nobody_reads_and_prompts_that_are_said_twice_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.jsonl");
    let pair = |said: &str| {
        format!(
            "{{\"prompt\":\"q:\",\"chosen\":\"{said} y\",\"rejected\":\"{said} n\",\"system\":\"be\"}}\n"
        )
    };
    let report = |said: &str| {
        std::fs::write(&path, pair(said).repeat(3) + &pair("so").replace("q:", "r")).unwrap();
        let columns = PairColumns::default();
        load(&Preferences { columns, ..settings(0, 1) }, &path).unwrap().report
    };
    let said = report("so");
    assert_eq!(said.lines[0], "train: 4 pairs of `pairs.jsonl`; not read: `system`");
    assert!(!said.warnings.iter().any(|warning| warning.contains("begin with the prompt")));
    let warnings = report("q:").warnings;
    assert!(
        warnings.iter().any(|warning| warning.starts_with(
            "train: in 3 of 4 pairs both responses begin with the prompt, so that models read it"
        )),
        "{warnings:?}"
    );
}

/// Several tables over one file hold out the same prompts of it.
#[test]
fn texts_and_pairs_of_one_file_are_held_out_alike() {
    let folder = tempfile::tempdir().unwrap();
    let path = ranked(folder.path());
    let data = format!(
        "source = '{}'\ncolumns = {{ prompt = 'question' }}\ntrain = 0\nvalidation = 12\ntest = 12",
        path.display()
    );
    let data = toml::from_str(&data).unwrap();
    let dataset = crate::text::load_dataset(&data, 7).unwrap();
    let PairRows { validation, .. } = load(&settings(0, 24), &path).unwrap();
    let held_out: HashSet<PromptText> = validation.into_iter().map(|pair| pair.prompt).collect();
    let rows = dataset.test.iter().chain(&dataset.validation);
    let asked = rows.map(|row| match &row.prompt {
        crate::text::RowPrompt::Whole(prompt) => prompt.clone(),
        other => panic!("{other:?}"),
    });
    assert_eq!(asked.collect::<HashSet<_>>(), held_out);
}
