//! Journals read with one line for each prompt: two answers to one prompt would be averaged as if
//! they were of two. What a kill leaves, a line without its end, counts as not written.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::artifacts::journal;
use crate::engine::SteerLine;
use crate::error::{Error, Result};

/// One line of a judge's journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgeLine {
    /// The prompt's.
    pub id: String,
    pub reward: f64,
}

/// A line that tells of one prompt.
pub trait OfPrompt: DeserializeOwned {
    fn id(&self) -> &str;
}

impl OfPrompt for SteerLine {
    fn id(&self) -> &str {
        &self.id
    }
}

impl OfPrompt for JudgeLine {
    fn id(&self) -> &str {
        &self.id
    }
}

/// The complete lines of the journal at `path` with their bytes, in their order; none where there
/// is no file.
///
/// # Errors
/// [`Error::Data`] at the second line of a prompt, and where a line is no `T`.
pub fn once_each<T: OfPrompt>(path: &Path) -> Result<Vec<(T, Vec<u8>)>> {
    let lines = journal::complete_lines::<T>(path)?;
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (i, (line, _)) in lines.iter().enumerate() {
        if let Some(known) = first.insert(line.id(), i + 1) {
            let id = line.id();
            let problem = format!(
                "prompt `{id}` stands here a second time; line {known} has it already\n\n\
                 hint: remove one of the two lines; the same command goes on from there"
            );
            return Err(Error::data(path, Some(i + 1), problem));
        }
    }
    Ok(lines)
}

/// Refuses a journal that lacks some of the `asked` prompts: what it says would be the mean of the
/// others.
pub fn check_whole<'a>(
    path: &Path,
    asked: impl Iterator<Item = &'a str>,
    has: impl Fn(&str) -> bool,
) -> Result<()> {
    let asked: BTreeSet<&str> = asked.collect();
    let lacking: Vec<&&str> = asked.iter().filter(|id| !has(id)).collect();
    let Some(first) = lacking.first() else { return Ok(()) };
    let problem = format!(
        "there is no line for prompt `{first}`; {} of {} prompts are missing\n\n\
         hint: `w2s run` without `--only` adds what is missing",
        lacking.len(),
        asked.len()
    );
    Err(Error::data(path, None, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(JudgeLine, Vec<u8>)>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed-1.jsonl");
        std::fs::write(&path, text).unwrap();
        once_each(&path)
    }

    #[test]
    fn a_second_line_is_named_and_half_a_line_is_not_there() {
        let (x, y) = (r#"{"id":"x","reward":1.0}"#, r#"{"id":"y","reward":2.0}"#);
        assert_eq!(read(&format!("{x}\n{y}")).unwrap().len(), 1);
        let error = read(&format!("{x}\n{y}\n{x}\n")).unwrap_err().to_string();
        let told = "seed-1.jsonl:3: prompt `x` stands here a second time; line 1 has it already";
        assert!(error.contains(told) && error.contains("hint: remove one"), "{error}");
        let error = read(&format!("{x}\n{{\"id\":\"y\",\"reward\":null}}\n")).unwrap_err();
        assert!(error.to_string().contains("seed-1.jsonl:2: not an entry"), "{error}");
    }

    #[test]
    fn missing_prompts_are_counted_and_the_first_is_named() {
        let path = Path::new("steer/base/cbs/seed-1.jsonl");
        let check = |known: &[&str]| {
            check_whole(path, ["c", "a", "b"].into_iter(), |id| known.contains(&id))
        };
        assert!(check(&["a", "b", "c", "d"]).is_ok());
        let error = check(&["a"]).unwrap_err().to_string();
        let told = "seed-1.jsonl: there is no line for prompt `b`; 2 of 3 prompts are missing";
        assert!(error.contains(told), "{error}");
    }
}
