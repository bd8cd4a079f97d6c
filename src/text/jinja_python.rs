//! What chat templates take from Python: `tojson` as `json.dumps` writes it, `strftime`, and
//! Python's idea of whitespace.
//!
//! Only where minijinja does otherwise; methods are in [`super::jinja_methods`].

use std::ffi::{CStr, CString};
use std::fmt::Write;

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// Python counts four control characters as whitespace that Unicode does not.
pub fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// The `trim` filter is Python's `strip`.
pub fn trim(value: &Value, characters: Option<String>) -> Result<Value, Error> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Ok(Value::from(match characters {
        Some(characters) => text.trim_matches(|character| characters.contains(character)),
        None => text.trim_matches(is_space),
    }))
}

/// Jinja calls a sequence what has a length and items.
pub fn is_sequence(value: &Value) -> bool {
    match value.kind() {
        ValueKind::Undefined | ValueKind::Seq | ValueKind::Map | ValueKind::String => true,
        ValueKind::Iterable => value.len().is_some(),
        _ => false,
    }
}

/// Nothing can be iterated over but what has items; minijinja also takes `none`.
pub fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}

/// `json.dumps` with transformers' default of `ensure_ascii=False`.
pub fn tojson(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent = match options.get::<Option<Value>>("indent")?.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) => match indent.as_str() {
            Some(text) => Some(text.to_owned()),
            None => Some(" ".repeat(usize::try_from(indent)?)),
        },
    };
    let separators: Option<Vec<String>> = options.get("separators")?;
    let separator =
        |index: usize| separators.as_ref().and_then(|separators| separators.get(index).cloned());
    let json = Json {
        ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sorted: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        between_items: separator(0)
            .unwrap_or_else(|| if indent.is_some() { "," } else { ", " }.to_owned()),
        after_key: separator(1).unwrap_or_else(|| ": ".to_owned()),
        indent,
    };
    options.assert_all_used()?;
    let mut out = String::new();
    json.write(&mut out, value, 0)?;
    Ok(Value::from(out))
}

struct Json {
    ascii: bool,
    sorted: bool,
    indent: Option<String>,
    between_items: String,
    after_key: String,
}

impl Json {
    fn write(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => out.push_str(&value.to_string()),
            ValueKind::Number => out.push_str(&float(f64::try_from(value.clone())?)),
            ValueKind::String => self.write_text(out, value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.map(|item| (None, item)).collect();
                self.write_items(out, ['[', ']'], items, depth)?;
            }
            ValueKind::Map => {
                let mut items = Vec::new();
                for key in value.try_iter()? {
                    let name = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
                    items.push((Some(name), value.get_item(&key)?));
                }
                if self.sorted {
                    items.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.write_items(out, ['{', '}'], items, depth)?;
            }
            other => {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("a value of type {other} cannot be written as JSON"),
                ));
            }
        }
        Ok(())
    }

    fn write_items(
        &self,
        out: &mut String,
        brackets: [char; 2],
        items: Vec<(Option<String>, Value)>,
        depth: usize,
    ) -> Result<(), Error> {
        let line = |out: &mut String, depth: usize| {
            if let Some(indent) = &self.indent {
                out.push('\n');
                out.push_str(&indent.repeat(depth));
            }
        };
        out.push(brackets[0]);
        let some = !items.is_empty();
        for (index, (key, item)) in items.into_iter().enumerate() {
            if index > 0 {
                out.push_str(&self.between_items);
            }
            line(out, depth + 1);
            if let Some(key) = key {
                self.write_text(out, &key);
                out.push_str(&self.after_key);
            }
            self.write(out, &item, depth + 1)?;
        }
        if some {
            line(out, depth);
        }
        out.push(brackets[1]);
        Ok(())
    }

    fn write_text(&self, out: &mut String, text: &str) {
        out.push('"');
        for character in text.chars() {
            match character {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                _ if character < ' ' || (self.ascii && character > '~') => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        // Writing to a `String` cannot fail.
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
                _ => out.push(character),
            }
        }
        out.push('"');
    }
}

/// As Python's `repr`: the shortest digits, with an exponent below 1e-4 and from 1e16 on.
pub fn float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if number == 0.0 || (-4..16).contains(&exponent) {
        return format!("{number:?}");
    }
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// A moment.
pub struct Clock {
    seconds: libc::time_t,
    microseconds: u32,
}

impl Clock {
    pub fn now() -> Self {
        let since =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self {
            seconds: libc::time_t::try_from(since.as_secs()).unwrap_or_default(),
            microseconds: since.subsec_micros(),
        }
    }

    /// `datetime.now().strftime(format)`: the C library's, with microseconds, and no time zone, in
    /// local time.
    pub fn format(&self, format: &str) -> Result<String, Error> {
        let mut plain = String::new();
        let mut characters = format.chars();
        while let Some(character) = characters.next() {
            match (character, if character == '%' { characters.next() } else { None }) {
                ('%', Some('f')) => plain.push_str(&format!("{:06}", self.microseconds)),
                ('%', Some('z' | 'Z')) => {}
                ('%', Some(directive)) => plain.extend(['%', directive]),
                (other, _) => plain.push(other),
            }
        }
        if plain.is_empty() {
            return Ok(plain);
        }
        // An empty result cannot be told from a buffer too short, so a character is added and taken
        // off again.
        let format = CString::new(format!("{plain}."))
            .map_err(|_| Error::new(ErrorKind::InvalidOperation, "a date format with a NUL"))?;
        let mut buffer = vec![0_u8; 256 + 64 * plain.len()];
        // SAFETY: an all-zero `tm` is valid, the length is the buffer's, the format ends in NUL,
        // and all pointers live through the calls.
        let written = unsafe {
            let mut time: libc::tm = std::mem::zeroed();
            libc::localtime_r(&self.seconds, &mut time);
            libc::strftime(buffer.as_mut_ptr().cast(), buffer.len(), format.as_ptr(), &time)
        };
        if written == 0 {
            return Err(Error::new(ErrorKind::InvalidOperation, "the date is too long"));
        }
        let text = CStr::from_bytes_until_nul(&buffer)
            .map(|text| text.to_string_lossy().into_owned())
            .unwrap_or_default();
        Ok(text[..text.len() - 1].to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_python_does() {
        let numbers = [0.0, 1.0, 0.1, 1e15, 1.5e16, 1e-4, 2.5e-5, 1e22, -3.25, 1e100];
        let written = numbers.map(float);
        assert_eq!(
            written,
            [
                "0.0",
                "1.0",
                "0.1",
                "1000000000000000.0",
                "1.5e+16",
                "0.0001",
                "2.5e-05",
                "1e+22",
                "-3.25",
                "1e+100"
            ]
        );
    }

    #[test]
    fn a_date_is_that_of_the_clock() {
        let clock = Clock::now();
        let year: i32 = clock.format("%Y").unwrap().parse().unwrap();
        assert!((2024..3000).contains(&year), "{year}");
        assert_eq!(clock.format("%%f %z|").unwrap(), "%f |");
        assert_eq!(clock.format("%f").unwrap().len(), 6);
        assert_eq!(clock.format("").unwrap(), "");
    }
}
