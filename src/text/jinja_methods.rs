//! Python's methods of texts and lists that chat templates call.
//!
//! Only where minijinja's `pycompat` methods do otherwise or lack them.

use minijinja::value::{Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat;

use super::jinja_python::is_space;

/// Methods of strings, maps and lists.
pub fn method(
    state: &mut State,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        if let ("index", [item]) = (name, arguments)
            && value.kind() == ValueKind::Seq
        {
            let place = value.try_iter()?.position(|found| found == *item);
            return place.map(Value::from).ok_or_else(|| {
                Error::new(ErrorKind::InvalidOperation, format!("{item} is not found in a list"))
            });
        }
        return pycompat::unknown_method_callback(state, value, name, arguments);
    };
    let of_text = |argument: Option<&Value>| argument.and_then(Value::as_str).map(str::to_owned);
    let pieces = |pieces: Vec<&str>| pieces.into_iter().map(Value::from).collect::<Value>();
    Ok(match (name, arguments.len()) {
        ("strip", 0) => Value::from(text.trim_matches(is_space)),
        ("lstrip", 0) => Value::from(text.trim_start_matches(is_space)),
        ("rstrip", 0) => Value::from(text.trim_end_matches(is_space)),
        ("split", 0) => pieces(text.split(is_space).filter(|piece| !piece.is_empty()).collect()),
        ("rsplit", 1 | 2) => {
            let (separator, most): (&str, Option<usize>) = from_args(arguments)?;
            if separator.is_empty() {
                return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
            }
            let mut found: Vec<&str> = text
                .rsplitn(most.map_or(usize::MAX, |most| most.saturating_add(1)), separator)
                .collect();
            found.reverse();
            pieces(found)
        }
        ("splitlines", 0) => pieces(split_lines(text)),
        ("removeprefix", 1) => {
            let prefix = of_text(arguments.first()).unwrap_or_default();
            Value::from(text.strip_prefix(prefix.as_str()).unwrap_or(text))
        }
        ("removesuffix", 1) => {
            let suffix = of_text(arguments.first()).unwrap_or_default();
            Value::from(text.strip_suffix(suffix.as_str()).unwrap_or(text))
        }
        ("partition" | "rpartition", 1) => {
            let separator = of_text(arguments.first()).unwrap_or_default();
            let parted = if name == "partition" {
                text.split_once(&*separator)
            } else {
                text.rsplit_once(&*separator)
            };
            match parted {
                Some((before, after)) => pieces(vec![before, &separator, after]),
                None if name == "partition" => pieces(vec![text, "", ""]),
                None => pieces(vec!["", "", text]),
            }
        }
        ("center" | "ljust" | "rjust", 1 | 2) => {
            let (width, fill): (usize, Option<char>) = from_args(arguments)?;
            let lacking = " ".repeat(width.saturating_sub(text.chars().count()));
            let filling = lacking.replace(' ', &fill.unwrap_or(' ').to_string());
            Value::from(match name {
                "center" => centred(text, width, fill.unwrap_or(' ')),
                "ljust" => format!("{text}{filling}"),
                _ => format!("{filling}{text}"),
            })
        }
        ("zfill", 1) => {
            let (width,): (usize,) = from_args(arguments)?;
            let sign = if text.starts_with(['+', '-']) { &text[..1] } else { "" };
            let zeros = "0".repeat(width.saturating_sub(text.chars().count()));
            Value::from(format!("{sign}{zeros}{}", &text[sign.len()..]))
        }
        ("swapcase", 0) => Value::from(text.chars().map(swapped).collect::<String>()),
        ("casefold", 0) => Value::from(text.to_lowercase().replace('ß', "ss")),
        ("index" | "rindex", _) => {
            let find = if name == "index" { "find" } else { "rfind" };
            let place = pycompat::unknown_method_callback(state, value, find, arguments)?;
            if place == Value::from(-1) {
                return Err(Error::new(ErrorKind::InvalidOperation, "substring not found"));
            }
            place
        }
        ("startswith" | "endswith", 2 | 3) => {
            let (_, from, to): (Value, i64, Option<i64>) = from_args(arguments)?;
            let count = text.chars().count() as i64;
            let at = |place: i64| if place < 0 { (place + count).max(0) } else { place.min(count) };
            let (from, to) = (at(from), at(to.unwrap_or(count)));
            let part: String =
                text.chars().skip(from as usize).take((to - from).max(0) as usize).collect();
            return method(state, &Value::from(part), name, &arguments[..1]);
        }
        _ => return pycompat::unknown_method_callback(state, value, name, arguments),
    })
}

/// `text` in the middle of `width` characters; one that is left over goes where Python puts it.
pub fn centred(text: &str, width: usize, fill: char) -> String {
    let lacking = width.saturating_sub(text.chars().count());
    let before = lacking / 2 + (lacking & width & 1);
    let of = |count: usize| fill.to_string().repeat(count);
    format!("{}{text}{}", of(before), of(lacking - before))
}

fn swapped(character: char) -> String {
    match character.is_uppercase() {
        true => character.to_lowercase().collect(),
        false => character.to_uppercase().collect(),
    }
}

/// Python ends a line at more characters than `\n`.
fn split_lines(text: &str) -> Vec<&str> {
    const ENDS: [char; 9] =
        ['\n', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(|character| ENDS.contains(&character) || character == '\r') {
        lines.push(&rest[..at]);
        let end = rest[at..].chars().next().map_or(1, char::len_utf8);
        rest = if rest[at..].starts_with("\r\n") { &rest[at + 2..] } else { &rest[at + end..] };
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_where_python_ends_them() {
        assert_eq!(split_lines("a\r\nb\rc\u{2028}d\n\ne"), ["a", "b", "c", "d", "", "e"]);
        assert_eq!(split_lines("a\n"), ["a"]);
    }
}
