//! Tests of `splits.rs`.

use super::*;
use crate::recipe::Preferences;

fn data(splits: &str) -> Data {
    toml::from_str(&format!("source = 'x'\ntrain = 0\nvalidation = 0\ntest = 0\n{splits}")).unwrap()
}

fn sorted(names: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    names.sort();
    names
}

fn found(names: &[&str], splits: &str) -> Result<[Vec<String>; 3], String> {
    let chosen = of_data(&sorted(names), &data(splits))
        .map_err(|trouble| trouble.at(Path::new("x")).to_string())?;
    Ok(chosen.map(|split| split.files))
}

fn pairs(names: &[&str], splits: &str) -> Result<[Vec<String>; 2], String> {
    let preferences: Preferences = toml::from_str(&format!("source = 'x'\n{splits}")).unwrap();
    let chosen = of_pairs(&sorted(names), &preferences.pair_source().unwrap());
    Ok(chosen.map_err(|trouble| trouble.at(Path::new("x")).to_string())?.map(|split| split.files))
}

#[test]
fn a_folder_is_listed_without_what_is_hidden_or_no_data() {
    let folder = tempfile::tempdir().unwrap();
    for file in [
        "README.md",
        "a/b/c/deep.csv",
        "a/b/x.parquet",
        ".cache/test.csv",
        "train.jsonl",
        "data/.test.csv",
    ] {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    assert_eq!(list(folder.path()).unwrap(), ["a/b/x.parquet", "train.jsonl"]);
}

#[test]
fn shards_are_found_below_and_sorted() {
    let names = [
        "plain_text/train-00001-of-00002.parquet",
        "plain_text/train-00000-of-00002.parquet",
        "plain_text/training_notes.csv",
        "data/en/dev_0.jsonl.gz",
        "data/en/dev_1.jsonl.gz",
        ".cache/test.csv",
        "a/b/c/test.csv",
        "Test.csv",
    ];
    let shards =
        ["plain_text/train-00000-of-00002.parquet", "plain_text/train-00001-of-00002.parquet"];
    assert_eq!(
        found(&names, "").unwrap(),
        [&shards[..], &["data/en/dev_0.jsonl.gz", "data/en/dev_1.jsonl.gz"], &["Test.csv"]]
    );
    // As the hub converts data sets, and as older uploads are called.
    let converted =
        ["default/train/0000.parquet", "default/train/0001.parquet", "default/test/0000.parquet"];
    assert_eq!(found(&converted, "").unwrap(), [&converted[..2], &[], &converted[2..]]);
    let hashed = [
        "data/train-00000-of-00001-a09b74b3ef9c3b56.parquet",
        "data/test-00000-of-00001-e59b56e0ed1e2b4a.parquet",
    ];
    assert_eq!(found(&hashed, "").unwrap(), [&hashed[..1], &[], &hashed[1..]]);
}

#[test]
fn packed_files_are_split_as_plain_ones_and_kinds_are_not_mixed() {
    let names = ["train-0.jsonl.zst", "train-1.jsonl.zst", "dev.tsv.gz", "test.json.gz"];
    assert_eq!(found(&names, "").unwrap(), [&names[..2], &names[2..3], &names[3..]]);
    let error = found(&["train-0.jsonl", "train-1.jsonl.zst", "test.csv"], "").unwrap_err();
    assert!(error.contains("the train split has files of several kinds"), "{error}");
    let error = found(&["train.txt"], "").unwrap_err();
    assert!(error.contains("supported kinds: .jsonl, .ndjson, .json, "), "{error}");
}

#[test]
fn the_top_wins_and_several_folders_are_an_error() {
    let top = ["train.jsonl", "old/train.jsonl", "val.json", "validation.csv", "test.csv"];
    assert_eq!(found(&top, "").unwrap(), [["train.jsonl"], ["validation.csv"], ["test.csv"]]);
    let error = found(&["en/train.csv", "fr/train.csv"], "").unwrap_err();
    assert!(
        error.contains("the train split lies in several folders: `en`, `fr`")
            && error.contains("`data.subset`"),
        "{error}"
    );
    let error = pairs(&["en/train.csv", "fr/train.csv"], "").unwrap_err();
    assert!(error.ends_with("as the source, or as `preferences.subset`"), "{error}");
    let kinds = found(&["train.csv", "test.csv", "test.jsonl"], "").unwrap_err();
    assert!(kinds.contains("several kinds: `test.csv`, `test.jsonl`"), "{kinds}");
}

const HUB: [&str; 5] = [
    "data/test_prefs-00000-of-00001.parquet",
    "data/test_sft-00000-of-00001.parquet",
    "data/train_gen-00000-of-00001.parquet",
    "data/train_prefs-00000-of-00001.parquet",
    "data/train_sft-00000-of-00001.parquet",
];

#[test]
fn several_families_are_several_splits() {
    let error = pairs(&HUB, "").unwrap_err();
    let families = "`train_gen` (`data/train_gen-00000-of-00001.parquet`), `train_prefs` \
                    (`data/train_prefs-00000-of-00001.parquet`), `train_sft` \
                    (`data/train_sft-00000-of-00001.parquet`)";
    assert!(
        error.contains(&format!("the train split could be any of 3: {families}\n\nhint: ")),
        "{error}"
    );
    assert!(
        error.contains("choose in `[preferences]`, such as `splits.train = \"train_gen\"`"),
        "{error}"
    );
    let error = pairs(&HUB, "splits = { train = 'train_prefs' }").unwrap_err();
    assert!(
        error.contains("the validation split could be any of 2: `test_prefs`")
            && error.contains("`splits.validation = "),
        "{error}"
    );
    let both = "splits = { train = 'train_prefs', validation = 'test_prefs' }";
    assert_eq!(pairs(&HUB, both).unwrap(), [[HUB[3]], [HUB[0]]]);
    let all = "splits = { train = 'train_sft', validation = 'train_gen', test = 'test_sft' }";
    assert_eq!(found(&HUB, all).unwrap(), [[HUB[4]], [HUB[2]], [HUB[1]]]);
    // One family of an unusual name leaves no choice.
    assert_eq!(pairs(&[HUB[0], HUB[3]], "").unwrap(), [[HUB[3]], [HUB[0]]]);
    let error = found(&HUB, "splits = { train = 'train_pref' }").unwrap_err();
    let names = "`test_prefs`, `test_sft`, `train_gen`, `train_prefs`, `train_sft`";
    assert!(
        error.contains("`data.splits.train` is `train_pref`, but no data file is called so")
            && error.ends_with(names),
        "{error}"
    );
    let error = found(&["my_train_part.csv", "b.csv"], "").unwrap_err();
    assert!(
        error.contains("no file for the train split; looked for `train.…`")
            && error.contains("chooses one of `b`, `my_train_part`")
    );
    assert_eq!(
        found(&["my_train_part.csv", "b.csv"], "splits = { train = 'my_train_part', test = 'b' }")
            .unwrap()[2],
        ["b.csv"]
    );
    let error = found(&["a.csv", "test.csv"], "splits = { train = 'test' }").unwrap_err();
    assert!(
        error.contains("`test.csv` would be read for the train split and for the test split"),
        "{error}"
    );
}

#[test]
fn numbers_are_shards_of_a_split_alone_and_of_a_name_that_was_chosen() {
    let shards = ["train-0.csv", "train_1.csv", "test.csv"];
    assert_eq!(found(&shards, "").unwrap()[0], shards[..2]);
    let rounds =
        ["train_iteration_1.csv", "train_iteration_2.csv", "train_iteration_3.csv", "test.csv"];
    assert!(
        found(&rounds, "")
            .unwrap_err()
            .contains("could be any of 3: `train_iteration_1` (`train_iteration_1.csv`)")
    );
    assert_eq!(
        found(&rounds, "splits = { train = 'train_iteration_2' }").unwrap()[0],
        rounds[1..2]
    );
    assert_eq!(
        found(&rounds, "splits = { train = ['train_iteration_3', 'train_iteration_1'] }").unwrap()
            [0],
        ["train_iteration_1.csv", "train_iteration_3.csv"]
    );
    assert_eq!(found(&rounds, "splits = { train = 'train_iteration' }").unwrap()[0], rounds[..3]);
}

#[test]
fn the_split_s_own_name_is_meant_whatever_begins_so() {
    let names = sorted(&[
        "train-00000-of-00001.parquet",
        "train_sft-00000-of-00001.parquet",
        "test.parquet",
        "test_hard.parquet",
    ]);
    let [train, _, test] = of_data(&names, &data("")).unwrap();
    assert_eq!(
        (train.files, train.passed_over),
        (vec!["train-00000-of-00001.parquet".to_owned()], vec!["train_sft".to_owned()])
    );
    assert_eq!(
        (test.files, test.passed_over),
        (vec!["test.parquet".to_owned()], vec!["test_hard".to_owned()])
    );
}

#[test]
fn of_a_repository_only_what_is_read_is_chosen() {
    let names = [&HUB[..], &["more/train.csv", "more/test.csv"]].concat();
    let chosen =
        |splits: &str| chosen_files(&names, &data(splits)).map_err(|trouble| trouble.problem);
    assert_eq!(chosen("subset = 'more'").unwrap(), ["more/train.csv", "more/test.csv"]);
    assert_eq!(
        chosen(
            "subset = 'data'\nsplits = \
             { train = 'train_sft', test = 'test_sft', validation = 'test_prefs' }"
        )
        .unwrap(),
        [HUB[4], HUB[0], HUB[1]]
    );
    assert!(chosen("").unwrap_err().contains("several folders: `data`, `more`"));
    assert!(
        chosen("subset = 'other'")
            .unwrap_err()
            .contains("no data file lies in a folder of that name")
    );
}
