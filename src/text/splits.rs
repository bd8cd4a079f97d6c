//! Which files of a data folder make a split, told by their names alone, be they of a folder here
//! or of a list that a hub gave.
//!
//! A file's family is its name without the number of a shard, as the `datasets` library has it:
//! `train_prefs` for `data/train_prefs-00000-of-00001.parquet`. Families are splits: several that
//! could be meant are never read as one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::records;
use crate::error::{Error, Result};
use crate::recipe::{Data, Preferences, SplitNames};

/// The names under which a split's files may go; the first is the split's own.
const TRAIN: &[&str] = &["train"];
const VALIDATION: &[&str] = &["validation", "valid", "val", "dev"];
const TEST: &[&str] = &["test"];

/// Folders below the data folder that are looked into.
const DEPTH: usize = 2;
/// Names listed in one message.
const MOST_LISTED: usize = 12;

/// The files of one split, relative to the data folder, in the order in which they are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SplitFiles {
    pub files: Vec<String>,
    /// Families beside it that begin with the split's name, too.
    pub passed_over: Vec<String>,
}

/// What keeps files from being chosen, and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub problem: String,
    pub hint: String,
}

impl Trouble {
    fn new(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { problem: problem.into(), hint: hint.into() }
    }

    pub(super) fn at(self, folder: &Path) -> Error {
        Error::data(folder, None, format!("{}\n\nhint: {}", self.problem, self.hint))
    }
}

/// Every file that `data` reads; none for a built-in corpus.
pub fn files(data: &Data) -> Result<Vec<PathBuf>> {
    if data.source.starts_with("builtin:") {
        return Ok(Vec::new());
    }
    let source = Path::new(&data.source);
    if !source.is_dir() {
        return Ok(vec![source.to_owned()]);
    }
    let root = root(data)?;
    let splits = of_data(&list(&root)?, data).map_err(|trouble| trouble.at(&root))?;
    Ok(splits.into_iter().flat_map(|split| split.files).map(|file| root.join(file)).collect())
}

/// Those of the `names` in a repository that `data` reads.
///
/// # Errors
/// Where a split has no files, or the names leave a choice that `data` does not make.
pub fn chosen_files(names: &[&str], data: &Data) -> Result<Vec<String>, Trouble> {
    let prefix = data
        .subset
        .iter()
        .map(|subset| format!("{}/", subset.trim_end_matches('/')))
        .collect::<String>();
    let below: Vec<String> =
        names.iter().filter_map(|name| name.strip_prefix(&prefix)).map(str::to_owned).collect();
    if below.is_empty() {
        let folders: BTreeSet<&str> =
            names.iter().filter_map(|name| Some(name.rsplit_once('/')?.0)).collect();
        let subset = data.subset.as_deref().unwrap_or_default();
        return Err(Trouble::new(
            format!("`data.subset` is `{subset}`, but no data file lies in a folder of that name"),
            format!("folders with data files: {}", listed(folders)),
        ));
    }
    let splits = of_data(&below, data)?;
    Ok(splits
        .into_iter()
        .flat_map(|split| split.files)
        .map(|file| format!("{prefix}{file}"))
        .collect())
}

/// The data folder, or the one below it that `data.subset` names.
pub(super) fn root(data: &Data) -> Result<PathBuf> {
    let source = Path::new(&data.source);
    let Some(subset) = &data.subset else { return Ok(source.to_owned()) };
    let root = source.join(subset);
    if root.is_dir() {
        Ok(root)
    } else {
        Err(Error::data(
            source,
            None,
            format!("`data.subset` is `{subset}`, but there is no such folder"),
        ))
    }
}

/// Train, validation and test of these files of a folder; validation may be empty.
pub(super) fn of_data(names: &[String], data: &Data) -> Result<[SplitFiles; 3], Trouble> {
    let files = Files::of(names, "data");
    let train = files.some("train", TRAIN, data.splits.train.as_ref())?;
    let validation = files.choose("validation", VALIDATION, data.splits.validation.as_ref())?;
    let test = files.some("test", TEST, data.splits.test.as_ref())?;
    apart(&[("train", &train), ("validation", &validation), ("test", &test)])?;
    Ok([train, validation, test])
}

/// Train and validation of these files of a folder; without validation files its test files, and
/// the second is empty where there are neither.
pub(super) fn of_pairs(
    names: &[String],
    preferences: &Preferences,
) -> Result<[SplitFiles; 2], Trouble> {
    let files = Files::of(names, "preferences");
    let train = files.some("train", TRAIN, preferences.splits.train.as_ref())?;
    let mut validation =
        files.choose("validation", VALIDATION, preferences.splits.validation.as_ref())?;
    if validation.files.is_empty() {
        validation = files.choose("validation", TEST, None)?;
    }
    apart(&[("train", &train), ("validation", &validation)])?;
    Ok([train, validation])
}

fn apart(splits: &[(&str, &SplitFiles)]) -> Result<(), Trouble> {
    for (index, (split, files)) in splits.iter().enumerate() {
        for (other, others) in &splits[..index] {
            if let Some(file) = files.files.iter().find(|file| others.files.contains(file)) {
                let problem = format!(
                    "`{file}` would be read for the {other} split and for the {split} split"
                );
                return Err(Trouble::new(
                    problem,
                    format!(
                        "name other files for one of them, under `splits.{other}` or \
                         `splits.{split}`"
                    ),
                ));
            }
        }
    }
    Ok(())
}

/// Data files below a folder by their names from there, sorted; hidden ones are left out.
pub(super) fn list(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    collect(root, "", DEPTH, &mut found)?;
    found.sort();
    Ok(found)
}

fn collect(folder: &Path, prefix: &str, depth: usize, found: &mut Vec<String>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder, "reading the folder"))? {
        let entry = entry.map_err(Error::io(folder, "reading the folder"))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = entry.path();
        if name.starts_with('.') {
            continue;
        } else if path.is_dir() && depth > 0 {
            collect(&path, &format!("{prefix}{name}/"), depth - 1, found)?;
        } else if extension(&name).is_some() && path.is_file() {
            found.push(format!("{prefix}{name}"));
        }
    }
    Ok(())
}

/// A data file by its parts.
struct Named<'a> {
    path: &'a str,
    /// Where its split lies.
    folder: &'a str,
    family: &'a str,
}

impl<'a> Named<'a> {
    /// `None` for what is hidden, too deep down, or no data.
    fn of(path: &'a str) -> Option<Self> {
        if path.matches('/').count() > DEPTH || path.split('/').any(|part| part.starts_with('.')) {
            return None;
        }
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let stem = &name[..name.len() - extension(name)?.len()];
        // As the hub's own conversion to Parquet lies: `default/train/0000.parquet`.
        if !folder.is_empty() && stem.bytes().all(|byte| byte.is_ascii_digit()) {
            let (folder, family) = folder.rsplit_once('/').unwrap_or(("", folder));
            return Some(Self { path, folder, family });
        }
        Some(Self { path, folder, family: family(stem) })
    }

    /// Whether a name chosen by the user means its family: the name itself, or that and a number.
    fn is_called(&self, name: &str) -> bool {
        self.family == name || without_number(self.family) == Some(name)
    }
}

/// `train` of `train-00000-of-00002` and of `train_3`, but all of `train_iteration_3`.
fn family(stem: &str) -> &str {
    let is_shard = |(at, mark): (usize, &str)| {
        let start = stem[..at].rfind('-')?;
        let numbers = [&stem[start + 1..at], &stem[at + mark.len()..]];
        let is_number = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
        (start > 0
            && numbers[0].bytes().all(|byte| byte.is_ascii_digit())
            && numbers.iter().all(|text| is_number(text)))
        .then_some(start)
    };
    if let Some(end) = stem.match_indices("-of-").find_map(is_shard) {
        return &stem[..end];
    }
    let is_split = |name: &&str| {
        [TRAIN, VALIDATION, TEST].iter().any(|split| split.contains(&name.to_lowercase().as_str()))
    };
    without_number(stem).filter(is_split).unwrap_or(stem)
}

/// `a_b` of `a_b_12`, `a_b-12` and `a_b.12`.
fn without_number(name: &str) -> Option<&str> {
    let head = name.trim_end_matches(|last: char| last.is_ascii_digit());
    (head.len() < name.len()).then(|| head.strip_suffix(['-', '_', '.'])).flatten()
}

/// The data files of one folder, which a table of the recipe reads.
struct Files<'a> {
    named: Vec<Named<'a>>,
    table: &'static str,
}

impl<'a> Files<'a> {
    fn of(names: &'a [String], table: &'static str) -> Self {
        Self { named: names.iter().filter_map(|name| Named::of(name)).collect(), table }
    }

    /// As [`Self::choose`], and an error where there is none.
    fn some(
        &self,
        split: &str,
        names: &[&str],
        asked: Option<&SplitNames>,
    ) -> Result<SplitFiles, Trouble> {
        let chosen = self.choose(split, names, asked)?;
        if !chosen.files.is_empty() {
            return Ok(chosen);
        }
        let looked = format!(
            "looked for `{split}.…`, `{split}-…` and `{split}_…` here and up to two folders down"
        );
        let kinds = records::EXTENSIONS.join(", ");
        let hint = if self.named.is_empty() {
            format!("supported kinds: {kinds}")
        } else {
            format!(
                "`{}.splits.{split}` chooses one of {}; supported kinds: {kinds}",
                self.table,
                self.families()
            )
        };
        Err(Trouble::new(format!("no file for the {split} split; {looked}"), hint))
    }

    /// The files that `asked` names; without it the one family that begins with the first of
    /// `names` that any does. A family of exactly that name is meant whatever else begins so.
    fn choose(
        &self,
        split: &str,
        names: &[&str],
        asked: Option<&SplitNames>,
    ) -> Result<SplitFiles, Trouble> {
        if let Some(SplitNames(asked)) = asked {
            let is_called = |name: &String| self.named.iter().any(|file| file.is_called(name));
            if let Some(absent) = asked.iter().find(|name| !is_called(name)) {
                let problem = format!(
                    "`{}.splits.{split}` is `{absent}`, but no data file is called so",
                    self.table
                );
                let names = if self.named.is_empty() {
                    "there are none".to_owned()
                } else {
                    self.families()
                };
                return Err(Trouble::new(
                    problem,
                    format!("names of data files here, without numbers and endings: {names}"),
                ));
            }
            let found = self
                .named
                .iter()
                .filter(|file| asked.iter().any(|name| file.is_called(name)))
                .collect();
            return self.of_one_kind(split, &self.in_one_folder(split, found)?, Vec::new());
        }
        let begins = |file: &&Named, name: &str| {
            let family = file.family.to_lowercase();
            family
                .strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-', '_']))
        };
        let of_name =
            |name: &&str| self.named.iter().filter(|file| begins(file, name)).collect::<Vec<_>>();
        let Some((own, found)) =
            names.iter().map(|name| (*name, of_name(name))).find(|(_, found)| !found.is_empty())
        else {
            return Ok(SplitFiles::default());
        };
        let found = self.in_one_folder(split, found)?;
        let mut families: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for file in &found {
            families.entry(file.family).or_default().push(file.path);
        }
        let exact = |family: &str| family.to_lowercase() == own;
        if families.len() > 1 && !families.keys().any(|family| exact(family)) {
            return Err(self.several(split, &families));
        }
        let alone = families.len() == 1;
        let passed_over = families
            .into_keys()
            .filter(|family| !alone && !exact(family))
            .map(str::to_owned)
            .collect();
        let found: Vec<&Named> =
            found.into_iter().filter(|file| alone || exact(file.family)).collect();
        self.of_one_kind(split, &found, passed_over)
    }

    fn several(&self, split: &str, families: &BTreeMap<&str, Vec<&str>>) -> Trouble {
        let words = families.iter().map(|(family, files)| match files.as_slice() {
            [file] => format!("`{family}` (`{file}`)"),
            files => format!("`{family}` (`{}` and {} more)", files[0], files.len() - 1),
        });
        let words = words.collect::<Vec<_>>().join(", ");
        let (table, first) = (self.table, families.keys().next().copied().unwrap_or_default());
        Trouble::new(
            format!("the {split} split could be any of {}: {words}", families.len()),
            format!(
                "choose in `[{table}]`, such as `splits.{split} = \"{first}\"`; a list of names is \
                 read as one split"
            ),
        )
    }

    /// Files that lie in several folders are several data sets, unless some lie at the top: those
    /// are meant then.
    fn in_one_folder<'b>(
        &self,
        split: &str,
        found: Vec<&'b Named<'a>>,
    ) -> Result<Vec<&'b Named<'a>>, Trouble> {
        let folders: BTreeSet<&str> = found.iter().map(|file| file.folder).collect();
        if folders.len() > 1 && !folders.contains("") {
            let subset = if self.table == "data" { ", or as `data.subset`" } else { "" };
            return Err(Trouble::new(
                format!("the {split} split lies in several folders: {}", listed(folders)),
                format!("name one of them as the source{subset}"),
            ));
        }
        let folder = folders.first().copied().unwrap_or_default();
        Ok(found.into_iter().filter(|file| file.folder == folder).collect())
    }

    fn of_one_kind(
        &self,
        split: &str,
        found: &[&Named],
        passed_over: Vec<String>,
    ) -> Result<SplitFiles, Trouble> {
        if found.iter().any(|file| extension(file.path) != extension(found[0].path)) {
            let names = listed(found.iter().map(|file| file.path));
            return Err(Trouble::new(
                format!("the {split} split has files of several kinds: {names}"),
                "keep one kind, or name a file as the source",
            ));
        }
        Ok(SplitFiles {
            files: found.iter().map(|file| file.path.to_owned()).collect(),
            passed_over,
        })
    }

    fn families(&self) -> String {
        listed(self.named.iter().map(|file| file.family).collect::<BTreeSet<_>>())
    }
}

/// `` `a`, `b` ``, of many the first.
fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    let shown = names[..names.len().min(MOST_LISTED)].join(", ");
    if names.len() > MOST_LISTED {
        format!("{shown} and {} more", names.len() - MOST_LISTED)
    } else {
        shown
    }
}

fn extension(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    records::EXTENSIONS.into_iter().find(|extension| name.ends_with(extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(splits: &str) -> Data {
        toml::from_str(&format!("source = 'x'\ntrain = 0\nvalidation = 0\ntest = 0\n{splits}"))
            .unwrap()
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
        let chosen = of_pairs(&sorted(names), &toml::from_str(splits).unwrap());
        Ok(chosen
            .map_err(|trouble| trouble.at(Path::new("x")).to_string())?
            .map(|split| split.files))
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
        let converted = [
            "default/train/0000.parquet",
            "default/train/0001.parquet",
            "default/test/0000.parquet",
        ];
        assert_eq!(found(&converted, "").unwrap(), [&converted[..2], &[], &converted[2..]]);
        let hashed = [
            "data/train-00000-of-00001-a09b74b3ef9c3b56.parquet",
            "data/test-00000-of-00001-e59b56e0ed1e2b4a.parquet",
        ];
        assert_eq!(found(&hashed, "").unwrap(), [&hashed[..1], &[], &hashed[1..]]);
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
        assert!(error.ends_with("hint: name one of them as the source"), "{error}");
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
            found(
                &["my_train_part.csv", "b.csv"],
                "splits = { train = 'my_train_part', test = 'b' }"
            )
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
            found(&rounds, "splits = { train = ['train_iteration_3', 'train_iteration_1'] }")
                .unwrap()[0],
            ["train_iteration_1.csv", "train_iteration_3.csv"]
        );
        assert_eq!(
            found(&rounds, "splits = { train = 'train_iteration' }").unwrap()[0],
            rounds[..3]
        );
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
}
