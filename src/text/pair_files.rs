//! Preference pairs that others made: one local file, or a folder of local files, with columns for
//! prompt, chosen and rejected. Which files make a split is told by `splits.rs`; who judges the
//! pairs, the stages say.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::data_report::DataReport;
use super::dataset::{too_few, too_few_groups};
use super::hold_out::{by_hash, hold_out};
use super::pair_layout::{self, Said};
use super::pairs::Reason;
use super::record::Record;
use super::records;
use super::splits::{self, SplitFiles};
use crate::error::{Error, Result};
use crate::prompt::PromptText;
use crate::recipe::{PairColumns, PairSource};

/// Whether responses ended by themselves, in files that this program wrote.
const COMPLETE: &[&str] = &["chosen_complete", "rejected_complete"];

/// A pair as its file has it; `id` is `<split>-<row>`, rows counted from 0 over the files that it
/// was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct PairRow {
    pub id: String,
    pub prompt: PromptText,
    pub chosen: String,
    pub rejected: String,
    /// Whether the response ended by itself: `chosen_complete` and `rejected_complete` of a file
    /// that this program wrote, else true.
    pub chosen_complete: bool,
    pub rejected_complete: bool,
    /// Why it is no pair to learn from, as far as its layout tells.
    pub unfit: Option<Reason>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct PairRows {
    pub train: Vec<PairRow>,
    pub validation: Vec<PairRow>,
    pub report: DataReport,
}

/// Every file that [`load`] reads.
pub fn files(asked: &PairSource) -> Result<Vec<PathBuf>> {
    let source = asked.path();
    if !source.is_dir() {
        return Ok(vec![source]);
    }
    let splits = of_folder(asked)?;
    Ok(splits.into_iter().flat_map(|split| split.files).map(|file| source.join(file)).collect())
}

fn of_folder(asked: &PairSource) -> Result<[SplitFiles; 2]> {
    let folder = asked.path();
    splits::of_pairs(&splits::list(&folder)?, asked).map_err(|trouble| trouble.at(&folder))
}

/// Whether validation pairs are held out by hash.
///
/// # Errors
/// Where a folder cannot be read, or names leave a choice of files.
pub fn holds_out(asked: &PairSource) -> Result<bool> {
    Ok(!asked.path().is_dir() || of_folder(asked)?[1].files.is_empty())
}

/// Training and validation pairs of a source. A folder's validation pairs are those of its
/// validation files, or else of its test files; where it has neither, and for a single file,
/// `validation_pairs` rows are held out by the hashes of their prompts, all pairs of one together.
/// `train_pairs` 0 is all that are left. Prompts that the user's own validation files share with
/// training are counted in the report.
///
/// # Errors
/// Where a file cannot be read, a column is missing or holds no text, names leave a choice of
/// splits, there are fewer pairs than asked for, or nothing is left beside the pairs of one prompt.
pub fn load(asked: &PairSource) -> Result<PairRows> {
    let source = asked.path();
    let source = source.as_path();
    let mut report = DataReport::default();
    let mut read = |folder: &Path, split: &str, files: &SplitFiles| {
        read_split(folder, files, asked, split, &mut report)
    };
    let all = if source.is_dir() {
        let [files, held_out] = of_folder(asked)?;
        let train = read(source, "train", &files)?;
        if !held_out.files.is_empty() {
            let validation = read(source, "validation", &held_out)?;
            let file = source.join(&files.files[0]);
            let train = first(train, asked.train_pairs, &file, &asked.key("train_pairs"))?;
            let (file, key) = (source.join(&held_out.files[0]), asked.key("validation_pairs"));
            let validation = first(validation, asked.validation_pairs, &file, &key)?;
            tell_shared(&mut report, &train, &validation);
            return Ok(PairRows { train, validation, report });
        }
        train
    } else {
        let name = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = SplitFiles { files: vec![name], passed_over: Vec::new() };
        read(source.parent().unwrap_or(Path::new("")), "train", &file)?
    };
    hold_out_pairs(asked, &all, report)
}

/// Splits `all` by the hashes of their prompts, whole prompts at a time.
fn hold_out_pairs(asked: &PairSource, all: &[PairRow], mut report: DataReport) -> Result<PairRows> {
    let (source, wanted) = (&asked.path(), asked.validation_pairs);
    let held_out_key = asked.key("validation_pairs");
    if wanted == 0 {
        let hint = "hint: give the number of pairs to hold out instead, or add a file";
        let what = format!("no file for the validation split, and `{held_out_key}` is 0");
        return Err(Error::data(source, None, format!("{what}\n\n{hint}")));
    }
    let key = format!("{} + {held_out_key}", asked.key("train_pairs"));
    let least = wanted + asked.train_pairs.max(1);
    if all.len() < least {
        return Err(too_few(source, &key, least, all.len()));
    }
    let keys: Vec<String> = all.iter().map(kinship).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let [validation, mut train] =
        hold_out(&by_hash(&keys), &keys, &[wanted]).try_into().unwrap_or_default();
    if train.len() < asked.train_pairs.max(1) {
        return Err(too_few_groups(source, &key, least, &keys, "prompt"));
    }
    train.truncate(if asked.train_pairs == 0 { train.len() } else { asked.train_pairs });
    let distinct = validation.iter().map(|&row| &all[row].prompt).collect::<HashSet<_>>().len();
    let prompts = if distinct == 1 { "prompt" } else { "prompts" };
    report.lines.push(format!(
        "validation: {} of these pairs, all those of {distinct} {prompts}, held out by hash",
        validation.len()
    ));
    report.held_out(&held_out_key, wanted, validation.len(), "pairs of one prompt");
    let take = |split: &str, mut rows: Vec<usize>| -> Vec<PairRow> {
        rows.sort_unstable();
        rows.iter()
            .map(|&row| PairRow { id: format!("{split}-{row}"), ..all[row].clone() })
            .collect()
    };
    Ok(PairRows { train: take("train", train), validation: take("validation", validation), report })
}

/// What pairs that must not part have in common: their prompt, or both their responses where it is
/// empty and so says nothing.
fn kinship(pair: &PairRow) -> String {
    if !pair.prompt.is_empty() {
        return pair.prompt.key().into_owned();
    }
    let mut responses = [pair.chosen.as_str(), pair.rejected.as_str()];
    responses.sort_unstable();
    responses.join("\0")
}

/// The user's own files may share prompts; what is measured on such pairs says little of new
/// prompts.
fn tell_shared(report: &mut DataReport, train: &[PairRow], validation: &[PairRow]) {
    let known: HashSet<String> = train.iter().map(kinship).collect();
    let shared: Vec<&PairRow> =
        validation.iter().filter(|pair| known.contains(&kinship(pair))).collect();
    if shared.is_empty() {
        return;
    }
    fn texts(pair: &PairRow) -> (&PromptText, &str, &str) {
        (&pair.prompt, &pair.chosen, &pair.rejected)
    }
    let pairs: HashSet<_> = train.iter().map(texts).collect();
    let same = shared.iter().filter(|pair| pairs.contains(&texts(pair))).count();
    report.warnings.push(format!(
        "{} of {} validation pairs have a prompt that training pairs have too, and {same} are \
         training pairs: accuracy on them says little of new prompts",
        shared.len(),
        validation.len()
    ));
}

fn first(mut pairs: Vec<PairRow>, count: usize, file: &Path, key: &str) -> Result<Vec<PairRow>> {
    if pairs.len() < count {
        return Err(too_few(file, key, count, pairs.len()));
    }
    pairs.truncate(if count == 0 { pairs.len() } else { count });
    Ok(pairs)
}

/// Responses that begin with their prompts, as sets hold them that are made for other trainers,
/// would be learned behind these.
fn tell_said_twice(report: &mut DataReport, split: &str, pairs: &[PairRow]) {
    let is_twice = |pair: &&PairRow| match &pair.prompt {
        PromptText::Plain(prompt) if !prompt.trim().is_empty() => {
            [&pair.chosen, &pair.rejected].iter().all(|response| response.starts_with(prompt))
        }
        _ => false,
    };
    let twice = pairs.iter().filter(is_twice).count();
    if 2 * twice > pairs.len() {
        report.warnings.push(format!(
            "{split}: in {twice} of {} pairs both responses begin with the prompt, so that models \
             read it twice; without a column for it, it is what both begin with",
            pairs.len()
        ));
    }
}

fn read_split(
    folder: &Path,
    split_files: &SplitFiles,
    asked: &PairSource,
    split: &str,
    report: &mut DataReport,
) -> Result<Vec<PairRow>> {
    let mut pairs: Vec<PairRow> = Vec::new();
    let (mut read, mut others) = (Vec::new(), Vec::new());
    for name in &split_files.files {
        let (file, before) = (folder.join(name), pairs.len());
        for record in records::read(&file, 0)? {
            if pairs.is_empty() {
                let read = pair_layout::columns_of(asked.columns, &record);
                others = record.others(&[&read[..], COMPLETE].concat());
            }
            pairs.push(pair(&file, asked, format!("{split}-{}", pairs.len()), &record)?);
        }
        read.push((name.clone(), pairs.len() - before));
    }
    report.read(split, "pairs", &read, &others);
    tell_said_twice(report, split, &pairs);
    report.passed_over(split, &split_files.passed_over, asked.table);
    Ok(pairs)
}

/// Prompt and both responses of each row of a data file of any kind, whatever else its rows hold.
pub fn read_responses(path: &Path) -> Result<Vec<(PromptText, [String; 2])>> {
    let row = |record: Record| {
        let Said { prompt, chosen, rejected, .. } =
            pair_layout::read(path, "preferences", &PairColumns::default(), &record)?;
        Ok((prompt, [chosen, rejected]))
    };
    records::read(path, 0)?.into_iter().map(row).collect()
}

fn pair(file: &Path, asked: &PairSource, id: String, record: &Record) -> Result<PairRow> {
    let Said { prompt, chosen, rejected, unfit } =
        pair_layout::read(file, asked.table, asked.columns, record)?;
    let complete = |column: &str| Ok::<_, Error>(record.truth(file, column)?.unwrap_or(true));
    Ok(PairRow {
        id,
        prompt,
        chosen,
        rejected,
        chosen_complete: complete(COMPLETE[0])?,
        rejected_complete: complete(COMPLETE[1])?,
        unfit,
    })
}

#[cfg(test)]
mod tests;
