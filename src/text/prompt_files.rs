//! Prompts that others wrote: a file of any kind that `records.rs` reads, a plain text with a
//! prompt on each line, JSON texts, or any of them from standard input. How a prompt is put to a
//! model is left to `prompt.rs`.

use std::collections::HashMap;
use std::fs::File;
use std::io::Seek;
use std::path::Path;

use serde_json::Value;

use super::file_kind::FileKind;
use super::messages::asked;
use super::record::{Record, shorten};
use super::records;
use crate::artifacts::stand_in;
use crate::error::{Error, Result};
use crate::prompt::Prompt;

/// Where prompts stand, unless a column is named: the first of these that a file has.
const COLUMNS: [&str; 3] = ["prompt", "instruction", "messages"];
const ID: &str = "id";

/// The prompts of a file, or of standard input for `-`, in `column`, or else in `prompt`,
/// `instruction` or `messages`: texts, or the turns of a chat up to the user's last. Ids are those
/// of the column `id`, texts or numbers; a file without it has the numbers of its rows, from 0.
///
/// # Errors
/// Where there is no such column, a prompt is no text, or two rows have the same id: names the file
/// and the line.
pub fn read_prompts(path: &Path, column: Option<&str>) -> Result<Vec<Prompt>> {
    let strings = Some(column.unwrap_or(COLUMNS[0]));
    if path == Path::new("-") {
        let path = Path::new("standard input");
        return prompts(path, &records::rows(path, spooled(path)?, None, 0, strings)?, column);
    }
    stand_in::refuse(path)?;
    let file = File::open(path).map_err(Error::io(path, "opening the prompts"))?;
    let kind = FileKind::of(&path.file_name().unwrap_or_default().to_string_lossy());
    prompts(path, &records::rows(path, file, kind, 0, strings)?, column)
}

/// Standard input as a file: readers may have to go back in it.
fn spooled(path: &Path) -> Result<File> {
    let copy = || {
        let mut file = tempfile::tempfile()?;
        std::io::copy(&mut std::io::stdin().lock(), &mut file)?;
        file.rewind()?;
        Ok(file)
    };
    copy().map_err(Error::io(path, "reading"))
}

fn prompts(path: &Path, records: &[Record], column: Option<&str>) -> Result<Vec<Prompt>> {
    let column = match column {
        Some(column) => column,
        None => known_column(path, &records[0])?,
    };
    let has_ids = records.iter().any(|record| record.fields.contains_key(ID));
    let mut lines: HashMap<String, usize> = HashMap::new();
    let mut prompts = Vec::new();
    for (row, record) in records.iter().enumerate() {
        let id = if has_ids { id(path, record)? } else { row.to_string() };
        if let Some(other) = lines.insert(id.clone(), record.line) {
            let problem = format!("two prompts have the id `{id}`; the other is in line {other}");
            return Err(Error::data(path, Some(record.line), problem));
        }
        let text = asked(path, record, column, "--prompt-column")?.ok_or_else(|| {
            Error::data(path, Some(record.line), format!("`{column}` holds no post"))
        })?;
        prompts.push(Prompt::new(id, text));
    }
    Ok(prompts)
}

fn known_column(path: &Path, record: &Record) -> Result<&'static str> {
    let has = |column: &&str| {
        record.fields.contains_key(*column)
            || record.unread.iter().any(|unread| unread.column == *column)
    };
    COLUMNS.into_iter().find(has).ok_or_else(|| {
        let [first, second, third] = COLUMNS;
        let problem =
            format!("no column `{first}`, `{second}` or `{third}`; found {}", record.columns());
        let hint = "name the column with `--prompt-column`";
        Error::data(path, Some(record.line), format!("{problem}\n\nhint: {hint}"))
    })
}

fn id(path: &Path, record: &Record) -> Result<String> {
    match record.fields.get(ID) {
        Some(Value::String(id)) if !id.trim().is_empty() => Ok(id.clone()),
        Some(Value::Number(id)) => Ok(id.to_string()),
        other => {
            let found =
                other.map_or("missing".to_owned(), |id| format!("`{}`", shorten(&id.to_string())));
            let problem =
                format!("`{ID}` is {found}; expected a text or a number, as other rows have");
            Err(Error::data(path, Some(record.line), problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, bytes: &str, column: Option<&str>) -> Result<Vec<[String; 2]>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let prompts = read_prompts(&path, column).map_err(|error| error.to_string())?;
        Ok(prompts.into_iter().map(|prompt| [prompt.id, prompt.text.to_string()]).collect())
    }

    #[test]
    fn prompts_are_read_from_files_of_any_kind() {
        for (name, bytes, ids) in [
            ("x.txt", "a\n\n[b] {\n", ["0", "1"]),
            ("x", "\u{feff}a\r\n[b] {", ["0", "1"]),
            (
                "x.jsonl",
                "{\"id\":\"p\",\"prompt\":\"a\"}\n{\"id\":7,\"prompt\":\"[b] {\"}\n",
                ["p", "7"],
            ),
            ("x.json", "[{\"prompt\":\"a\"},{\"prompt\":\"[b] {\"}]", ["0", "1"]),
            ("x.json", "[\"a\",\n\"[b] {\"]", ["0", "1"]),
            ("x", "[\"a\", \"[b] {\"]", ["0", "1"]),
            ("x.jsonl", "\"a\"\n\"[b] {\"\n", ["0", "1"]),
            ("x.csv", "id,prompt\n3,a\n4,[b] {\n", ["3", "4"]),
            ("x", "id,prompt\n3,a\n4,[b] {\n", ["3", "4"]),
            ("x.csv", ";instruction;output\n0;a;x\n1;[b] {;y\n", ["0", "1"]),
        ] {
            let expected = [[ids[0], "a"], [ids[1], "[b] {"]];
            assert_eq!(read(name, bytes, None).unwrap(), expected, "{name}: {bytes}");
        }
        let both = "{\"prompt\":\"a\",\"instruction\":\"b\",\"question\":\"c\"}";
        assert_eq!(read("x.json", both, None).unwrap(), [["0", "a"]]);
        assert_eq!(read("x.json", both, Some("question")).unwrap(), [["0", "c"]]);
        assert_eq!(read("x.txt", "a", Some("question")).unwrap(), [["0", "a"]]);
        let chat = "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},\
                    {\"role\":\"assistant\",\"content\":\"b\"}]}";
        assert_eq!(read("x.jsonl", chat, None).unwrap(), [["0", "[user] a"]]);
        let post = "{\"info\":{\"post\":\"b\",\"title\":\"t\",\"subreddit\":\"r\"}}";
        assert_eq!(
            read("x.jsonl", post, Some("info")).unwrap(),
            [["0", "SUBREDDIT: r/r\n\nTITLE: t\n\nPOST: b\n\nTL;DR:"]]
        );
    }

    #[test]
    fn what_is_no_prompt_is_told_with_its_line() {
        for (bytes, message) in [
            (
                "{\"id\":1,\"prompt\":\"a\"}\n\n{\"id\":\"1\",\"prompt\":\"b\"}\n",
                "x.jsonl:3: two prompts have the id `1`; the other is in line 1",
            ),
            (
                "{\"id\":1,\"prompt\":\"a\"}\n{\"prompt\":\"b\"}\n",
                "x.jsonl:2: `id` is missing; expected",
            ),
            ("{\"id\":[1],\"prompt\":\"a\"}\n", "x.jsonl:1: `id` is `[1]`; expected"),
            (
                "{\"question\":\"a\",\"n\":1}\n",
                "x.jsonl:1: no column `prompt`, `instruction` or `messages`; found `question`, \
                 `n`\n\nhint: name the column with `--prompt-column`",
            ),
            (
                "{\"prompt\":\"a\"}\n{\"question\":\"a\"}\n",
                "x.jsonl:2: no column `prompt`; found `question`\n\nhint: set `--prompt-column`",
            ),
            (
                "{\"prompt\":[{\"role\":\"system\",\"content\":\"a\"}]}\n",
                "x.jsonl:1: `prompt`, a chat without a turn of `user`",
            ),
            ("{\"prompt\":null}\n", "x.jsonl:1: `prompt` must be a string, not `null`"),
            ("7\n", "x.jsonl:1: a JSON object was expected, not `7`"),
            ("\n", "x.jsonl: the file holds no rows"),
        ] {
            let error = read("x.jsonl", bytes, None).unwrap_err();
            assert!(error.contains(message), "{error}\nexpected {message}");
        }
    }
}
