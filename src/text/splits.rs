//! Which files of a data folder make a split, told by their names alone, be they of a folder here
//! or of a list that a hub gave. A name's parts, and its family, are told by `split_file.rs`.
//! Families are splits: several that could be meant are never read as one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::file_kind::{KINDS, extension};
use super::split_file::{DEPTH, Named, TEST, TRAIN, VALIDATION};
use crate::error::{Error, Result};
use crate::recipe::{Data, PairSource, SplitNames};

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
    below(names, "data", data.subset.as_deref(), |below| Ok(of_data(below, data)?.to_vec()))
}

/// The same for a source of pairs.
///
/// # Errors
/// As [`chosen_files`].
pub fn chosen_pair_files(names: &[&str], asked: &PairSource) -> Result<Vec<String>, Trouble> {
    below(names, asked.table, asked.subset, |below| Ok(of_pairs(below, asked)?.to_vec()))
}

/// Those of `names` that lie below the `subset` of `table` and are of the splits that `choose`
/// tells of them.
fn below(
    names: &[&str],
    table: &str,
    subset: Option<&str>,
    choose: impl Fn(&[String]) -> Result<Vec<SplitFiles>, Trouble>,
) -> Result<Vec<String>, Trouble> {
    let prefix =
        subset.map_or_else(String::new, |subset| format!("{}/", subset.trim_end_matches('/')));
    let below: Vec<String> =
        names.iter().filter_map(|name| name.strip_prefix(&prefix)).map(str::to_owned).collect();
    if below.is_empty() {
        let folders: BTreeSet<&str> =
            names.iter().filter_map(|name| Some(name.rsplit_once('/')?.0)).collect();
        let subset = subset.unwrap_or_default();
        return Err(Trouble::new(
            format!(
                "`{table}.subset` is `{subset}`, but no data file lies in a folder of that name"
            ),
            format!("folders with data files: {}", listed(folders)),
        ));
    }
    Ok(choose(&below)?
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
    let (mut train, mut validation, mut test) = Default::default();
    if data.train.is_some() {
        train = files.some("train", TRAIN, data.splits.train.as_ref())?;
    }
    if data.validation.is_some() {
        validation = files.choose("validation", VALIDATION, data.splits.validation.as_ref())?;
    }
    if data.test.is_some() {
        test = files.some("test", TEST, data.splits.test.as_ref())?;
    }
    apart(&[("train", &train), ("validation", &validation), ("test", &test)])?;
    Ok([train, validation, test])
}

/// Train and validation of these files of a folder; without validation files its test files, and
/// the second is empty where there are neither.
pub(super) fn of_pairs(names: &[String], asked: &PairSource) -> Result<[SplitFiles; 2], Trouble> {
    let files = Files::of(names, asked.table);
    let train = files.some("train", TRAIN, asked.splits.train.as_ref())?;
    let mut validation =
        files.choose("validation", VALIDATION, asked.splits.validation.as_ref())?;
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
        let hint = if self.named.is_empty() {
            format!("supported kinds: {KINDS}")
        } else {
            format!(
                "`{}.splits.{split}` chooses one of {}; supported kinds: {KINDS}",
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
            let subset = format!(", or as `{}.subset`", self.table);
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
        let kind = |file: &Named| extension(file.path).map(str::to_lowercase);
        if found.iter().any(|file| kind(file) != kind(found[0])) {
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

#[cfg(test)]
mod tests;
