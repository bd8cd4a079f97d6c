//! Reference outputs as the `alpaca_eval` package has them: what another model answered to the same
//! instructions; and which of our prompts each instruction is. Comparing the answers is left to the
//! package.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use serde::Deserialize;

use super::record::shorten;
use crate::artifacts::stand_in;
use crate::error::{Error, Result};
use crate::prompt::{Prompt, PromptText};

/// At most so many mismatches are named.
const NAMED: usize = 8;

/// One row of the file; what else a row holds is the package's.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ReferenceOutput {
    pub instruction: String,
    pub output: String,
    /// Who answered.
    pub generator: String,
    /// Where the instruction is from.
    pub dataset: Option<String>,
}

/// The rows of a JSON array of reference outputs, in their order.
///
/// # Errors
/// [`Error::Data`] where it is none, holds nothing, or its answers are not all by one generator.
pub fn read_reference_outputs(path: &Path) -> Result<Vec<ReferenceOutput>> {
    stand_in::refuse(path)?;
    let file = File::open(path).map_err(Error::io(path, "opening the reference outputs"))?;
    let rows: Vec<ReferenceOutput> =
        serde_json::from_reader(BufReader::new(file)).map_err(|error| {
            Error::data(
                path,
                Some(error.line()),
                format!(
                    "not reference outputs: {error}\n\nhint: a JSON array of {{\"instruction\", \
                     \"output\", \"generator\"}}, as alpaca_eval_gpt4_baseline.json of the data \
                     set tatsu-lab/alpaca_eval"
                ),
            )
        })?;
    let generators: HashSet<&str> = rows.iter().map(|row| row.generator.as_str()).collect();
    if generators.len() != 1 {
        let found = format!("its answers are by {} generators, expected one", generators.len());
        return Err(Error::data(path, None, found));
    }
    Ok(rows)
}

/// What a prompt asks, as the package is to see it; `None` for a chat of several turns.
pub fn instruction(prompt: &PromptText) -> Option<&str> {
    match prompt {
        PromptText::Plain(text) => Some(text),
        PromptText::Chat(_) => prompt.single_turn(),
    }
}

/// For each row of the reference, in its order, which of `prompts` asks its instruction.
///
/// # Errors
/// [`Error::Failed`] where instructions and prompts are not the same, byte by byte, each once: what
/// has no counterpart, by name.
pub fn prompts_of_reference(
    path: &Path,
    reference: &[ReferenceOutput],
    prompts: &[Prompt],
) -> Result<Vec<usize>> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut troubles = Vec::new();
    for (place, prompt) in prompts.iter().enumerate() {
        match instruction(&prompt.text) {
            Some(text) if places.insert(text, place).is_some() => {
                troubles.push(format!("prompt `{}` asks what another one does", prompt.id));
            }
            Some(_) => {}
            None => troubles.push(format!("prompt `{}` is a chat of several turns", prompt.id)),
        }
    }
    let mut of_reference = Vec::new();
    for (row, ReferenceOutput { instruction, .. }) in reference.iter().enumerate() {
        match places.remove(instruction.as_str()) {
            Some(place) => of_reference.push(place),
            None => troubles.push(format!(
                "row {row} of the reference, {:?}, is none of the prompts{}",
                shorten(instruction),
                nearly(instruction, prompts)
            )),
        }
    }
    let mut alone: Vec<usize> = places.into_values().collect();
    alone.sort_unstable();
    troubles.extend(alone.into_iter().map(|place| {
        let Prompt { id, text } = &prompts[place];
        format!("prompt `{id}`, {:?}, has no reference", shorten(&text.to_string()))
    }));
    if troubles.is_empty() {
        return Ok(of_reference);
    }
    let more = troubles.len().saturating_sub(NAMED);
    troubles.truncate(NAMED);
    let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    Err(Error::failed(format!(
        "{}: its {} instructions are not the {} prompts:\n  {}{more}\n\nhint: `steer.prompts` and \
         `data` say what is asked; reference outputs are for the same instructions, word for word",
        path.display(),
        reference.len(),
        prompts.len(),
        troubles.join("\n  ")
    )))
}

/// The prompt that differs in the white space around it alone, in words.
fn nearly(instruction: &str, prompts: &[Prompt]) -> String {
    let is_near = |prompt: &&Prompt| {
        self::instruction(&prompt.text).is_some_and(|text| text.trim() == instruction.trim())
    };
    prompts.iter().find(is_near).map_or_else(String::new, |prompt| {
        format!(" (`{}` differs in the white space around it)", prompt.id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::Message;

    fn row(instruction: &str) -> ReferenceOutput {
        let generator = "gpt".to_owned();
        ReferenceOutput {
            instruction: instruction.into(),
            output: "o".into(),
            generator,
            dataset: None,
        }
    }

    #[test]
    fn prompts_are_found_by_their_wording_in_the_order_of_the_reference() {
        let chat = vec![Message::new("user", "two")];
        let prompts = [Prompt::new("a", "one"), Prompt::new("b", chat), Prompt::new("c", "three")];
        let of = |rows: &[&str]| {
            let rows: Vec<_> = rows.iter().map(|text| row(text)).collect();
            prompts_of_reference(Path::new("reference.json"), &rows, &prompts)
        };
        assert_eq!(of(&["three", "one", "two"]).unwrap(), [2, 0, 1]);
        let few = of(&["one", "three "]).unwrap_err().to_string();
        for told in [
            "its 2 instructions are not the 3 prompts",
            "row 1 of the reference, \"three \", is none of the prompts (`c` differs in the white \
             space around it)",
            "prompt `b`, \"[user] two\", has no reference",
        ] {
            assert!(few.contains(told), "{told}: {few}");
        }
        let twice = of(&["one", "two", "three", "one"]).unwrap_err().to_string();
        assert!(twice.contains("row 3 of the reference, \"one\", is none of the"), "{twice}");
    }

    #[test]
    fn a_file_that_is_no_reference_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reference.json");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_reference_outputs(&path).map_err(|error| error.to_string())
        };
        let whole = r#"[{"instruction": "i", "output": "o", "generator": "g", "datasplit": "e"}]"#;
        assert_eq!(read(whole).unwrap()[0].dataset, None);
        assert!(read("{}").unwrap_err().contains("reference.json:1: not reference outputs"));
        assert!(read("[]").unwrap_err().contains("by 0 generators, expected one"));
        let lacking = read(r#"[{"instruction": "i", "output": "o"}]"#).unwrap_err();
        assert!(lacking.contains("missing field `generator`"), "{lacking}");
    }
}
