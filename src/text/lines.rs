//! Lines of a text file. A line ends at `\n`, `\r\n` or a lone `\r`, and at nothing else: texts
//! may contain other Unicode line separators.

use std::io::BufRead;
use std::path::Path;

use super::unpacked::read_error;
use crate::error::{Error, Result};

/// One line without its end.
pub(super) struct Line {
    /// From 1.
    pub number: usize,
    pub text: String,
    /// Whether the file goes on or says that the line ends here.
    pub finished: bool,
}

/// The lines of `reader` that hold more than white space.
pub(super) struct Lines<'a> {
    path: &'a Path,
    reader: Box<dyn BufRead>,
    number: usize,
}

impl<'a> Lines<'a> {
    pub fn new(path: &'a Path, reader: Box<dyn BufRead>) -> Self {
        Self { path, reader, number: 0 }
    }

    /// What follows the lines that were taken, whole.
    ///
    /// # Errors
    /// Where it cannot be read, or is not UTF-8.
    pub fn rest(mut self) -> Result<String> {
        let mut bytes = Vec::new();
        if let Err(error) = self.reader.read_to_end(&mut bytes) {
            let read = line_ends(&String::from_utf8_lossy(&bytes));
            return Err(read_error(self.path, self.number + 1 + read, error));
        }
        utf8(self.path, bytes, self.number + 1)
    }

    /// The bytes up to the next end of line, and whether there was one; `None` behind the last.
    fn take(&mut self) -> std::io::Result<Option<(Vec<u8>, bool)>> {
        let mut line = Vec::new();
        loop {
            let bytes = self.reader.fill_buf()?;
            if bytes.is_empty() {
                return Ok((!line.is_empty()).then_some((line, false)));
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let taken = end.unwrap_or(bytes.len());
            line.extend_from_slice(&bytes[..taken]);
            let returned = end.is_some_and(|end| bytes[end] == b'\r');
            self.reader.consume(taken + usize::from(end.is_some()));
            if returned && self.reader.fill_buf()?.first() == Some(&b'\n') {
                self.reader.consume(1);
            }
            if end.is_some() {
                return Ok(Some((line, true)));
            }
        }
    }
}

impl Iterator for Lines<'_> {
    type Item = Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.number += 1;
            let (bytes, finished) = match self.take() {
                Ok(taken) => taken?,
                Err(error) => return Some(Err(read_error(self.path, self.number, error))),
            };
            if bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let number = self.number;
            return Some(utf8(self.path, bytes, number).map(|text| Line {
                number,
                text,
                finished,
            }));
        }
    }
}

/// Text that begins at line `first` of the file.
fn utf8(path: &Path, bytes: Vec<u8>, first: usize) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let (good, bytes) = (error.utf8_error().valid_up_to(), error.as_bytes());
        let before = String::from_utf8_lossy(&bytes[..good]).into_owned();
        let start = before.rfind(['\n', '\r']).map_or(0, |end| end + 1);
        let problem = format!("not UTF-8 at byte {} of the line", good - start + 1);
        let hint = "hint: convert the file, for example with `iconv -t UTF-8`";
        Error::data(path, Some(first + line_ends(&before)), format!("{problem}\n\n{hint}"))
    })
}

/// How many lines end in `text`.
pub(super) fn line_ends(text: &str) -> usize {
    let bytes = text.as_bytes();
    let ends = |at: usize| match bytes[at] {
        b'\r' => bytes.get(at + 1) != Some(&b'\n'),
        other => other == b'\n',
    };
    (0..bytes.len()).filter(|&at| ends(at)).count()
}
