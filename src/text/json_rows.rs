//! Values of a JSON file, whatever its name: lines with a value each, one array, values one behind
//! the other over any number of lines, or one object that holds the rows in a field
//! (`{"version": …, "data": [{…}, …]}`).

use std::io::BufRead;
use std::path::Path;

use serde_json::error::Category;
use serde_json::{Deserializer, Value};

use super::lines::{Line, Lines, line_ends};
use crate::error::{Error, Result};

/// A value and the line where it begins.
pub(super) type Numbered = (usize, Value);

/// The first `limit` values. One object alone is looked into where the file is not said to hold
/// lines, which `unwraps` tells.
///
/// # Errors
/// Names the line that is not JSON.
pub(super) fn read(
    path: &Path,
    reader: Box<dyn BufRead>,
    limit: usize,
    unwraps: bool,
) -> Result<Vec<Numbered>> {
    let mut lines = Lines::new(path, reader);
    let Some(first) = lines.next().transpose()? else { return Ok(Vec::new()) };
    let goes_on = first.finished && of_line(&first).is_err_and(|error| error.is_eof());
    if first.text.trim_start().starts_with('[') || goes_on {
        let Line { number, mut text, finished } = first;
        text.push_str(if finished { "\n" } else { "" });
        text.push_str(&lines.rest()?);
        return whole(path, &text, number, limit, unwraps);
    }
    let mut values = Vec::new();
    let (number, text) = (first.number, first.text.clone());
    // One more tells whether an object is alone.
    for line in std::iter::once(Ok(first)).chain(lines).take(limit.max(2)) {
        let line = line?;
        let value = of_line(&line).map_err(|error| wrong(path, &line, &error))?;
        values.push((line.number, value));
    }
    if unwraps && values.len() == 1 {
        return whole(path, &text, number, limit, unwraps);
    }
    values.truncate(limit);
    Ok(values)
}

/// Whether a line begins JSON beyond doubt, which other text hardly does.
pub(super) fn begins_json(line: &str) -> bool {
    let line = line.trim();
    let next = |mark: char| line.strip_prefix(mark).map(str::trim_start);
    let begins = |rest: &str, marks: &[char]| rest.is_empty() || rest.starts_with(marks);
    next('{').is_some_and(|rest| begins(rest, &['"']))
        || next('[').is_some_and(|rest| begins(rest, &['"', '{']))
}

/// Some writers set a mark before each part of what they join.
fn of_line(line: &Line) -> serde_json::Result<Value> {
    serde_json::from_str(line.text.trim_start_matches('\u{feff}'))
}

fn wrong(path: &Path, line: &Line, error: &serde_json::Error) -> Error {
    let cut = error.is_eof() && !line.finished;
    let what = if cut { "a half-written last line" } else { "not valid JSON" };
    let hint = if line.number == 1 { not_json(&line.text) } else { "" };
    let what = format!("{what}: {} at column {}{hint}", wording(error), error.column());
    Error::data(path, Some(line.number), what)
}

/// A hint where text does not even begin as JSON does.
fn not_json(text: &str) -> &'static str {
    if text.trim_start().starts_with(['{', '[', '"']) {
        ""
    } else {
        "\n\nhint: is it another kind of file? Its name is to say so, such as .csv or .txt"
    }
}

/// What is wrong, without the place.
fn wording(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(what, _)| what.to_owned())
}

/// The values of `text`, which begins at line `line` of the file.
fn whole(
    path: &Path,
    text: &str,
    line: usize,
    limit: usize,
    unwraps: bool,
) -> Result<Vec<Numbered>> {
    let mut walk = Walk { path, text, at: 0, line };
    let mut values = Vec::new();
    walk.skip_space();
    if walk.peek() == Some('[') {
        values = walk.elements(limit)?;
        walk.skip_space();
        if walk.peek().is_some() && values.len() < limit {
            return Err(walk.unexpected("the end of the file"));
        }
        return Ok(values);
    }
    while walk.peek().is_some() && values.len() < limit.max(2) {
        values.push(walk.value()?);
        walk.skip_space();
    }
    if let (true, [(_, value)]) = (unwraps, values.as_slice())
        && let Some(field) = table(value)
    {
        return Walk { path, text, at: 0, line }.field(field, limit);
    }
    values.truncate(limit);
    Ok(values)
}

/// The one field of an object that holds rows: an array of objects that are no messages.
fn table(value: &Value) -> Option<&str> {
    let is_row = |value: &Value| {
        let fields = value.as_object();
        fields.is_some_and(|row| !row.contains_key("role") && !row.contains_key("from"))
    };
    let holds_rows = |value: &Value| {
        value.as_array().is_some_and(|rows| !rows.is_empty() && rows.iter().all(is_row))
    };
    let mut tables = value.as_object()?.iter().filter(|(_, value)| holds_rows(value));
    let (name, _) = tables.next()?;
    tables.next().is_none().then_some(name)
}

/// A place in the text of a file.
struct Walk<'a> {
    path: &'a Path,
    text: &'a str,
    at: usize,
    line: usize,
}

impl Walk<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn skip(&mut self, length: usize) {
        self.line += line_ends(&self.text[self.at..self.at + length]);
        self.at += length;
    }

    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        self.skip(rest.len() - rest.trim_start().len());
    }

    fn unexpected(&self, expected: &str) -> Error {
        let problem = match self.peek() {
            Some(found) => format!("not valid JSON: `{found}` where {expected} is expected"),
            None => format!("the file may be cut short: it ends where {expected} is expected"),
        };
        Error::data(self.path, Some(self.line), problem)
    }

    /// Passes over `mark`.
    fn expect(&mut self, mark: char, expected: &str) -> Result<()> {
        self.skip_space();
        if self.peek() != Some(mark) {
            return Err(self.unexpected(expected));
        }
        self.skip(mark.len_utf8());
        self.skip_space();
        Ok(())
    }

    /// The value that begins here.
    fn value(&mut self) -> Result<Numbered> {
        let rest = &self.text[self.at..];
        let line = self.line;
        // A number or a word would have to end at white space for the parser of several values.
        let alone = !rest.starts_with(['{', '[', '"']);
        let end = if alone { rest.find([',', ']', '}', '\n', '\r']) } else { None };
        let mut values = Deserializer::from_str(&rest[..end.unwrap_or(rest.len())]).into_iter();
        match values.next() {
            Some(Ok(value)) => {
                let length = values.byte_offset();
                self.skip(length);
                Ok((line, value))
            }
            Some(Err(error)) => {
                let cut = error.classify() == Category::Eof;
                let what = if cut { "the file may be cut short" } else { "not valid JSON" };
                let hint = if line == 1 { not_json(rest) } else { "" };
                let line = line + error.line().saturating_sub(1);
                let what = format!("{what}: {}{hint}", wording(&error));
                Err(Error::data(self.path, Some(line), what))
            }
            None => Err(self.unexpected("a value")),
        }
    }

    /// The first `limit` elements of the array that begins here.
    fn elements(&mut self, limit: usize) -> Result<Vec<Numbered>> {
        self.expect('[', "`[`")?;
        let mut values = Vec::new();
        while self.peek() != Some(']') || !values.is_empty() {
            if values.len() == limit {
                return Ok(values);
            }
            values.push(self.value()?);
            self.skip_space();
            if self.peek() == Some(']') {
                break;
            }
            self.expect(',', "`,` or `]`")?;
        }
        self.expect(']', "`]`")?;
        Ok(values)
    }

    /// The rows in the field called `name` of the object that begins here.
    fn field(&mut self, name: &str, limit: usize) -> Result<Vec<Numbered>> {
        self.skip_space();
        self.expect('{', "`{`")?;
        loop {
            let (_, key) = self.value()?;
            self.expect(':', "`:`")?;
            if key.as_str() == Some(name) {
                return self.elements(limit);
            }
            self.value()?;
            self.expect(',', "`,`")?;
        }
    }
}
