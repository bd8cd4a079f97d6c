//! How chat templates show values, as Python does: `str`, `repr`, and the operator `%` of texts.
//!
//! Numbers are formatted by minijinja.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind, Output, State, context, escape_formatter};

use super::jinja_python;

pub fn failed(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// What `{{ value }}` writes.
pub fn show(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    if is_float(value) {
        return Ok(out.write_str(&text(value))?);
    }
    escape_formatter(out, state, value)
}

fn is_float(value: &Value) -> bool {
    value.kind() == ValueKind::Number && !value.is_integer()
}

/// Python's `str`.
pub fn text(value: &Value) -> String {
    if is_float(value)
        && let Ok(number) = f64::try_from(value.clone())
        && number.is_finite()
    {
        return jinja_python::float(number);
    }
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Python's `repr`, which is what a list shows of its items.
fn repr(value: &Value) -> String {
    let list = Value::from(vec![value.clone()]).to_string();
    list[1..list.len() - 1].to_owned()
}

/// `left % right`: the remainder of numbers, and texts formatted.
pub fn percent(state: &mut State, left: Value, right: Value) -> Result<Value, Error> {
    let Some(format) = left.as_str() else {
        return state.env().compile_expression("left % right")?.eval(context!(left, right));
    };
    let mut values: Vec<Value> = match right.is_tuple() {
        true => right.try_iter()?.collect(),
        false => vec![right.clone()],
    };
    let (format, places) = plain_format(format, &mut values)?;
    // Python takes what a mapping or a list holds and the format does not ask for.
    let is_mapping = matches!(right.kind(), ValueKind::Map | ValueKind::Seq) && !right.is_tuple();
    match places.cmp(&values.len()) {
        std::cmp::Ordering::Less if !is_mapping => {
            return Err(failed("not all arguments converted during string formatting"));
        }
        std::cmp::Ordering::Greater => {
            return Err(failed("not enough arguments for format string"));
        }
        _ => {}
    }
    let arguments: Vec<Value> = std::iter::once(Value::from(format)).chain(values).collect();
    state.apply_filter("format", &arguments)
}

/// The format with `%s` for `%r` and `%a`, whose values become texts, and how many of `values` it
/// takes; one that names them takes the one mapping.
fn plain_format(format: &str, values: &mut [Value]) -> Result<(String, usize), Error> {
    let (mut plain, mut places, mut is_named) = (String::new(), 0, false);
    let mut characters = format.chars().peekable();
    while let Some(character) = characters.next() {
        plain.push(character);
        if character != '%' {
            continue;
        }
        if characters.peek() == Some(&'(') {
            is_named = true;
            for part in characters.by_ref() {
                plain.push(part);
                if part == ')' {
                    break;
                }
            }
        }
        let mut spec = String::new();
        for part in characters.by_ref() {
            match part {
                '#' | '0'..='9' | '-' | ' ' | '+' | '.' => spec.push(part),
                // A size, which means nothing in Python.
                'h' | 'l' | 'L' => {}
                '%' => {
                    plain.push(part);
                    break;
                }
                _ => {
                    let value = values.get_mut(places).filter(|_| !is_named);
                    plain.push_str(&conversion(&spec, part, value)?);
                    places += 1;
                    break;
                }
            }
        }
    }
    Ok((plain, if is_named { 1 } else { places }))
}

/// One conversion of a format, after its `%`, and its value, for minijinja's own `format`: texts
/// are cut and filled here, by characters.
fn conversion(spec: &str, kind: char, value: Option<&mut Value>) -> Result<String, Error> {
    match (kind, value) {
        ('r' | 'a' | 's', Some(value)) => {
            let shown = match kind {
                'r' => repr(value),
                'a' => ascii(&repr(value)),
                _ => text(value),
            };
            *value = Value::from(filled(spec, &shown));
            Ok("s".to_owned())
        }
        ('d' | 'i' | 'u', value) => {
            if let Some(value) = value {
                *value = whole(value)?;
            }
            Ok(format!("{spec}d"))
        }
        _ => Ok(format!("{spec}{kind}")),
    }
}

/// A text by the flags, width and precision of its conversion.
fn filled(spec: &str, text: &str) -> String {
    let (before, precision) = spec
        .split_once('.')
        .map_or((spec, None), |(before, precision)| (before, Some(precision.parse().unwrap_or(0))));
    let text: String = text.chars().take(precision.unwrap_or(usize::MAX)).collect();
    let width: usize = before.trim_start_matches(['#', '0', '-', ' ', '+']).parse().unwrap_or(0);
    match before.contains('-') {
        true => format!("{text:<width$}"),
        false => format!("{text:>width$}"),
    }
}

/// A number without its fraction, as `%d` shows it.
fn whole(value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Number if is_float(value) => {
            let number = f64::try_from(value.clone())?;
            exact(number).ok_or_else(|| failed(format!("cannot convert float {number} to integer")))
        }
        ValueKind::Bool => Ok(Value::from(i64::from(value.is_true()))),
        _ => Ok(value.clone()),
    }
}

fn exact(number: f64) -> Option<Value> {
    const LARGEST: f64 = i128::MAX as f64;
    (number.abs() < LARGEST).then(|| Value::from(number.trunc() as i128))
}

/// With escapes for what is not ASCII.
fn ascii(text: &str) -> String {
    let escaped = |character: char| match u32::from(character) {
        0..=0x7f => character.to_string(),
        code @ 0x80..=0xff => format!("\\x{code:02x}"),
        code @ 0x100..=0xffff => format!("\\u{code:04x}"),
        code => format!("\\U{code:08x}"),
    };
    text.chars().map(escaped).collect()
}
