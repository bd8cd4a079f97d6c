//! Filters of chat templates where jinja on Python does otherwise than minijinja: `replace`, `int`,
//! `float`, what a `for` goes over, and what is left undefined.
//!
//! `'%s' % x`, and how values are shown, is in [`super::jinja_format`].

use minijinja::filters as filters_of_minijinja;
use minijinja::value::{Kwargs, Rest, Value};
use minijinja::{Environment, Error, ErrorKind, State};
use minijinja_contrib::{filters, globals};

use super::jinja_format::{failed, percent, show, text};
use super::jinja_methods::centred;
use super::jinja_python::is_space;
use super::jinja_source::{ITERATED, PERCENT};

/// Gives `environment` what stands in this file, and what jinja has and minijinja leaves out.
pub fn add(environment: &mut Environment) {
    environment.set_formatter(show);
    environment.add_function(PERCENT, percent);
    environment.add_function(ITERATED, iterated);
    environment.add_filter("replace", replace);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("length", length);
    environment.add_filter("count", length);
    environment.add_filter("first", first);
    environment.add_filter("escape", escape);
    environment.add_filter("e", escape);
    environment.add_filter("center", |text: String, width: Option<usize>| {
        centred(&text, width.unwrap_or(80), ' ')
    });
    environment.add_filter("truncate", truncate);
    environment.add_filter("list", list);
    environment.add_filter("striptags", filters::striptags);
    environment.add_filter("wordcount", |text: String| text.split_whitespace().count());
    environment.add_function("cycler", |items: Rest<Value>| globals::cycler(items.to_vec()));
    environment.add_function("joiner", globals::joiner);
}

/// No arguments by name.
const NOTHING: [(&str, Value); 0] = [];

/// What a loop may go over: minijinja would take `none`, and does not know a text's last character.
fn iterated(value: Value) -> Result<Value, Error> {
    match value.as_str() {
        _ if value.is_none() => Err(failed("'NoneType' object is not iterable")),
        Some(text) => {
            Ok(text.chars().map(|character| Value::from(character.to_string())).collect())
        }
        None => Ok(value),
    }
}

/// An argument in its place or by its name.
fn argument(placed: Option<Value>, kwargs: &Kwargs, name: &str) -> Result<Option<Value>, Error> {
    match placed {
        Some(value) => Ok(Some(value)),
        None => kwargs.get(name),
    }
}

fn replace(
    value: &Value,
    old: &Value,
    new: &Value,
    count: Option<Value>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let count = argument(count, &kwargs, "count")?.filter(|count| !count.is_none());
    kwargs.assert_all_used()?;
    let (value, old, new) = (text(value), text(old), text(new));
    // A negative one means all.
    match count.map(i64::try_from).transpose()?.and_then(|count| usize::try_from(count).ok()) {
        Some(count) => Ok(value.replacen(&old, &new, count)),
        None => Ok(value.replace(&old, &new)),
    }
}

/// What is no number is the default, 0.
fn int(
    state: &State,
    value: &Value,
    default: Option<Value>,
    base: Option<Value>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let default = argument(default, &kwargs, "default")?.unwrap_or_else(|| Value::from(0));
    let base = argument(base, &kwargs, "base")?.map(u32::try_from).transpose()?;
    kwargs.assert_all_used()?;
    let value = known(value)?;
    let nothing = Kwargs::from_iter(NOTHING);
    Ok(filters_of_minijinja::int(state, &value, Some(default.clone()), base, nothing)
        .unwrap_or(default))
}

/// What is no number is the default, 0.0.
fn float(
    state: &State,
    value: &Value,
    default: Option<Value>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let default = argument(default, &kwargs, "default")?.unwrap_or_else(|| Value::from(0.0));
    kwargs.assert_all_used()?;
    let value = known(value)?;
    let nothing = Kwargs::from_iter(NOTHING);
    Ok(filters_of_minijinja::float(state, &value, Some(default.clone()), nothing)
        .unwrap_or(default))
}

/// The value without white space around it; what is undefined is no number, and no default either.
fn known(value: &Value) -> Result<Value, Error> {
    match value.as_str() {
        _ if value.is_undefined() => {
            Err(Error::new(ErrorKind::UndefinedError, "an undefined value is no number"))
        }
        Some(text) => Ok(Value::from(text.trim_matches(is_space))),
        None => Ok(value.clone()),
    }
}

/// What is undefined has no items.
fn length(value: &Value) -> Result<usize, Error> {
    if value.is_undefined() { Ok(0) } else { filters_of_minijinja::length(value) }
}

fn first(value: &Value) -> Result<Value, Error> {
    if value.is_undefined() { Ok(Value::UNDEFINED) } else { filters_of_minijinja::first(value) }
}

fn list(state: &State, value: Value) -> Result<Value, Error> {
    filters_of_minijinja::list(state, iterated(value)?)
}

/// A text that is longer than `length` and 5 more, cut to it between words, or where it falls.
fn truncate(
    text: String,
    length: Option<usize>,
    cuts_words: Option<bool>,
    end: Option<String>,
) -> String {
    let (length, end) = (length.unwrap_or(255), end.unwrap_or_else(|| "...".to_owned()));
    if text.chars().count() <= length + 5 {
        return text;
    }
    let kept: String = text.chars().take(length.saturating_sub(end.chars().count())).collect();
    let whole = kept.rsplit_once(' ').map_or(&*kept, |(before, _)| before);
    format!("{}{end}", if cuts_words == Some(true) { &kept } else { whole })
}

/// As markupsafe writes it.
fn escape(value: &Value) -> Value {
    if value.is_safe() {
        return value.clone();
    }
    let escaped = text(value)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;");
    Value::from_safe_string(escaped)
}

#[cfg(test)]
mod tests {
    use super::super::chat::ChatTemplate;
    use crate::prompt::Message;

    fn rendered(code: &str) -> Result<String, String> {
        let path = std::path::Path::new("template");
        let template = ChatTemplate::new(path, code, &[]).map_err(|error| error.to_string())?;
        template.render(&[Message::new("user", "Hi é")], false).map_err(|error| error.to_string())
    }

    /// The values are those that transformers 5.24 renders.
    #[test]
    fn expressions_are_worth_what_they_are_in_python() {
        for (code, expected) in [
            ("'%s' % messages[0].role", "user"),
            (
                "'%s and %d of %5.2f|%05.2f|%-5s|%+d' % ('a', 3, 2, 2.5, 'b', 7)",
                "a and 3 of  2.00|02.50|b    |+7",
            ),
            ("'%r %a %s %s' % ('a\\'b', 'é', none, [1, 'x'])", "\"a'b\" '\\xe9' None [1, 'x']"),
            ("'%(a)s-%(b)03d' % {'a': 'x', 'b': 7}", "x-007"),
            ("'%d%%' % 5.9", "5%"),
            ("'%d' % true ~ '%s' % missing ~ '%s' % (1,)", "11"),
            ("'%s' % ((1, 2),) ~ '%x' % 255", "(1, 2)ff"),
            ("'a' ~ 7 % 3 ~ -7 % 3 ~ 7.5 % 2", "a121.5"),
            ("'aaaa'|replace('a', 'b', 2) ~ 'aa'|replace('a', 'c', count=1)", "bbaaca"),
            ("'aa'|replace('a', 'b') ~ 1|replace(1, 2)", "bb2"),
            ("'x'|int ~ 'x'|int(7) ~ 'x'|int(default=8) ~ ' 12 '|int ~ '3.9'|int", "078123"),
            ("none|int ~ [1]|int ~ '0x1f'|int(base=16)", "0031"),
            ("'x'|float ~ ' 1.5 '|float ~ 'x'|float(2.5)", "0.01.52.5"),
            ("missing|length ~ missing|first", "0"),
            ("'%5s|%-3s|%.1s|' % ('é', 'é', 'éa') ~ '%s' % 1e20", "    é|é  |é|1e+20"),
            ("1e-7", "1e-07"),
            (
                "'hello world foo'|truncate(9) ~ 'hello world foo'|truncate(9, true)",
                "hello...hello ...",
            ),
            ("'<a>\"\\''|e", "&lt;a&gt;&#34;&#39;"),
            (
                "'ab'.center(6, '*') ~ 'a'.ljust(3, '.') ~ 'a'.rjust(3) ~ '-7'.zfill(4)",
                "**ab**a..  a-007",
            ),
            ("'Hello'.swapcase() ~ 'hello'.index('l') ~ [1, 2].index(2)", "hELLO21"),
            ("'hello'.startswith('l', 2) ~ +1", "True1"),
        ] {
            assert_eq!(rendered(&format!("{{{{ {code} }}}}")).as_deref(), Ok(expected), "{code}");
        }
        let loops = "{% for c in 'ab' %}{{ c }}{{ loop.last }}{% endfor %}";
        assert_eq!(rendered(loops).as_deref(), Ok("aFalsebTrue"));
    }

    #[test]
    fn what_python_refuses_is_refused() {
        for (code, why) in [
            ("{{ 'x' % 3 }}", "not all arguments converted"),
            ("{{ '%s %s' % ('a',) }}", "not enough arguments"),
            ("{{ '%d' % 'a' }}", ""),
            ("{{ missing|int }}", "undefined"),
            ("{% for x in tools %}{% endfor %}", "'NoneType' object is not iterable"),
            ("{{ 'a'.index('z') }}", "not found"),
        ] {
            let error = rendered(code).unwrap_err();
            assert!(error.contains(why), "{code}: {error}");
        }
    }
}
