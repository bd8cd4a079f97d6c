//! The text of a chat template as minijinja is to read it: where the two engines part in syntax or
//! operators, the same in words that both understand.
//!
//! Line breaks become `\n`; transformers' `{% generation %}` blocks, which mark what the assistant
//! says and render as what they hold, plain blocks; `a % b`, which formats texts in Python, a call;
//! and what a `for` goes over is checked as Python does. What the calls do is in
//! [`super::jinja_format`] and [`super::jinja_filters`].

/// The function that stands for the operator `%`.
pub const PERCENT: &str = "python_percent";
/// The function that what a `for` goes over is passed through.
pub const ITERATED: &str = "python_iterated";

/// Words that end an operand, where they are no attribute.
const WORDS: [&str; 11] =
    ["and", "or", "not", "if", "else", "elif", "in", "is", "set", "for", "recursive"];
/// Operators that bind no tighter than `%`, but for those of its own level.
const LOOSE: [&str; 13] = ["+", "-", "~", ",", ":", "=", "==", "!=", "<", ">", "<=", ">=", "%}"];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Word,
    Number,
    Text,
    Operator,
}

/// A token of an expression, and where it lies.
#[derive(Debug, Clone, Copy)]
struct Token {
    kind: Kind,
    from: usize,
    to: usize,
}

pub fn prepared(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some(close) = (match rest.as_bytes().get(1) {
            Some(b'{') => Some("}}"),
            Some(b'%') => Some("%}"),
            _ => None,
        }) else {
            let comment = rest.starts_with("{#").then(|| rest.find("#}").map(|end| end + 2));
            let end = comment.map_or(1, |end| end.unwrap_or(rest.len()));
            out.push_str(&rest[..end]);
            rest = &rest[end..];
            continue;
        };
        let Some(end) = end_of_code(&rest[2..], close) else { break };
        let (inside, after) = (&rest[2..2 + end], &rest[2 + end + 2..]);
        let code = inside.trim_start_matches(['-', '+']);
        let open = &inside[..inside.len() - code.len()];
        let bare = code.trim_end_matches(['-', '+']);
        let shut = &code[bare.len()..];
        let code = if close == "%}" { statement(bare) } else { expression(bare) };
        out.push_str(&format!("{}{open}{code}{shut}{close}", &rest[..2]));
        rest = after;
        if close == "%}" && bare.trim() == "raw" {
            let end = end_of_raw(rest);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    out
}

/// Where code ends: at `close`, outside of texts and brackets.
fn end_of_code(code: &str, close: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < code.len() {
        if depth == 0 && code[at..].starts_with(close) {
            return Some(at);
        }
        let token = next(code, at)?;
        match &code[token.from..token.to] {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        at = token.to;
    }
    None
}

/// Where the tag `endraw` begins, or the text ends.
fn end_of_raw(text: &str) -> usize {
    let is_end = |at: &usize| {
        let tag = text[at + 2..].trim_start_matches(['-', '+']).trim_start();
        tag.starts_with("endraw")
    };
    text.match_indices("{%").map(|(at, _)| at).find(is_end).unwrap_or(text.len())
}

fn statement(code: &str) -> String {
    match code.trim() {
        "generation" => return " with ".to_owned(),
        "endgeneration" => return " endwith ".to_owned(),
        _ => {}
    }
    let tokens = tokens(code);
    let is =
        |token: &Token, word: &str| token.kind == Kind::Word && &code[token.from..token.to] == word;
    if !tokens.first().is_some_and(|first| is(first, "for")) {
        return expression(code);
    }
    let top = at_top(code, &tokens);
    let place =
        |word: &str| tokens.iter().zip(&top).position(|(token, top)| *top && is(token, word));
    let Some(over) = place("in") else { return expression(code) };
    let end = ["if", "recursive"].into_iter().filter_map(place).filter(|end| *end > over).min();
    let from = tokens[over].to;
    let to = end.map_or(code.len(), |end| tokens[end].from);
    format!(
        "{} {ITERATED}(({})) {}",
        &code[..from],
        expression(code[from..to].trim()),
        expression(&code[to..])
    )
}

/// The code with a call for each `%`, and without a plus before an operand.
fn expression(code: &str) -> String {
    let mut code = code.to_owned();
    while let Some(changed) = without_one(&code) {
        code = changed;
    }
    code
}

fn without_one(code: &str) -> Option<String> {
    let tokens = tokens(code);
    let text = |index: usize| &code[tokens[index].from..tokens[index].to];
    for index in 0..tokens.len() {
        let [before, after] = [&code[..tokens[index].from], &code[tokens[index].to..]];
        match text(index) {
            "+" if tokens[index].kind == Kind::Operator && !ends_operand(code, &tokens, index) => {
                return Some(format!("{before}{after}"));
            }
            "%" if tokens[index].kind == Kind::Operator => {
                let from = tokens[left_operand(code, &tokens, index)?].from;
                let to = tokens[right_operand(code, &tokens, index)?].to;
                let (left, right) =
                    (code[from..tokens[index].from].trim(), code[tokens[index].to..to].trim());
                let call = format!("{PERCENT}({left}, {right})");
                return Some(format!("{}{call}{}", &code[..from], &code[to..]));
            }
            _ => {}
        }
    }
    None
}

/// Whether an operand ends before the token at `index`, so that an operator there has two.
fn ends_operand(code: &str, tokens: &[Token], index: usize) -> bool {
    let Some(before) = index.checked_sub(1) else { return false };
    let Token { kind, from, to } = tokens[before];
    match (kind, &code[from..to]) {
        (Kind::Operator, bracket) => matches!(bracket, ")" | "]" | "}"),
        (Kind::Word, word) => !WORDS.contains(&word) || is_attribute(code, tokens, before),
        _ => true,
    }
}

fn is_attribute(code: &str, tokens: &[Token], index: usize) -> bool {
    index > 0 && &code[tokens[index - 1].from..tokens[index - 1].to] == "."
}

/// The first token of the operand that ends before the operator at `index`.
fn left_operand(code: &str, tokens: &[Token], index: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut first = None;
    for at in (0..index).rev() {
        let Token { kind, from, to } = tokens[at];
        match (kind, &code[from..to]) {
            (Kind::Operator, ")" | "]" | "}") => depth += 1,
            (Kind::Operator, "(" | "[" | "{") if depth == 0 => break,
            (Kind::Operator, "(" | "[" | "{") => depth -= 1,
            (Kind::Operator, "-") if depth == 0 && !ends_operand(code, tokens, at) => {}
            (Kind::Operator, sign) if depth == 0 && LOOSE.contains(&sign) => break,
            (Kind::Word, word)
                if depth == 0 && WORDS.contains(&word) && !is_attribute(code, tokens, at) =>
            {
                break;
            }
            _ => {}
        }
        first = Some(at);
    }
    first
}

/// The last token of the operand that begins after the operator at `index`: with its attributes,
/// calls, filters and powers.
fn right_operand(code: &str, tokens: &[Token], index: usize) -> Option<usize> {
    let text = |at: usize| tokens.get(at).map(|token| &code[token.from..token.to]);
    let mut at = index + 1;
    while matches!(text(at), Some("-" | "+")) {
        at += 1;
    }
    let mut last = close_of(code, tokens, at)?;
    loop {
        let next = last + 1;
        last = match text(next) {
            Some("." | "|" | "**") => close_of(code, tokens, next + 1)?,
            Some("(" | "[") => close_of(code, tokens, next)?,
            // Texts side by side are one.
            Some(_) if tokens[next].kind == Kind::Text && tokens[last].kind == Kind::Text => next,
            _ => return Some(last),
        };
    }
}

/// The token itself, or the bracket that closes the one there.
fn close_of(code: &str, tokens: &[Token], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, Token { from, to, .. }) in tokens.iter().enumerate().skip(open) {
        match &code[*from..*to] {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// Which tokens stand in no brackets.
fn at_top(code: &str, tokens: &[Token]) -> Vec<bool> {
    let mut depth = 0_i64;
    let inside = |token: &Token| {
        match &code[token.from..token.to] {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        depth == 0
    };
    tokens.iter().map(inside).collect()
}

fn tokens(code: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(token) = next(code, at) {
        at = token.to;
        if !code[token.from..token.to].trim().is_empty() {
            found.push(token);
        }
    }
    found
}

/// The token at `at`; white space is one too. `None` at the end, and where a text does not end.
fn next(code: &str, at: usize) -> Option<Token> {
    let rest = &code[at..];
    let first = rest.chars().next()?;
    let run = |belongs: fn(char) -> bool| {
        rest.find(|character| !belongs(character)).unwrap_or(rest.len())
    };
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let (kind, length) = if first.is_whitespace() {
        (Kind::Operator, run(char::is_whitespace))
    } else if first == '\'' || first == '"' {
        (Kind::Text, length_of_text(rest, first)?)
    } else if first.is_ascii_digit() {
        (Kind::Number, run(is_word))
    } else if is_word(first) {
        (Kind::Word, run(is_word))
    } else {
        let two =
            rest.get(..2).is_some_and(|two| ["**", "//", "==", "!=", "<=", ">="].contains(&two));
        (Kind::Operator, if two { 2 } else { first.len_utf8() })
    };
    Some(Token { kind, from: at, to: at + length })
}

fn length_of_text(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        if character == quote && !escaped {
            return Some(at + 1);
        }
        escaped = character == '\\' && !escaped;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_mark_what_is_said_are_plain_blocks() {
        assert_eq!(
            prepared("{%+ generation-%}\r\n{% if x %}\r{%endgeneration%}{% x"),
            "{%+ with -%}\n{% if x %}\n{% endwith %}{% x"
        );
        assert_eq!(prepared("{{ '{% generation %}' }}"), "{{ '{% generation %}' }}");
        let kept = "{# {% generation %} #}{% raw %}{{ a % b }}{% endraw %} { 5 % 3 }";
        assert_eq!(prepared(kept), kept);
    }

    #[test]
    fn the_operator_takes_its_own_operands() {
        for (code, expected) in [
            ("'%s' % x", "P('%s', x)"),
            ("a ~ '%d%%' % (x, y) ~ b", "a ~ P('%d%%', (x, y)) ~ b"),
            ("1 + i * 2 % n - 1", "1 + P(i * 2, n) - 1"),
            ("a % b % c", "P(P(a, b), c)"),
            ("f('%s' % m['a'].b|trim, 2)", "f(P('%s', m['a'].b|trim), 2)"),
            ("x if i % 2 == 0 else y", "x if P(i, 2) == 0 else y"),
            ("not loop.index0 % -2", "not P(loop.index0, -2)"),
            ("m.is % 2 ** 3", "P(m.is, 2 ** 3)"),
            ("'a' 'b%s' % 'c' 'd'", "P('a' 'b%s', 'c' 'd')"),
            ("{'a': '%' % ()}", "{'a': P('%', ())}"),
            ("-7 % 3", "P(-7, 3)"),
            ("a - 7 % 3", "a - P(7, 3)"),
            ("+x + +1", "x + 1"),
            ("'\\'% %' ~ \"%\"", "'\\'% %' ~ \"%\""),
        ] {
            let found = prepared(&format!("{{{{ {code} }}}}")).replace(PERCENT, "P");
            assert_eq!(found, format!("{{{{ {expected} }}}}"));
        }
    }

    #[test]
    fn what_a_loop_goes_over_is_passed_through() {
        for (code, expected) in [
            ("for x in xs", "for x in I((xs)) "),
            ("for a, b in f(x in y) if a", "for a, b in I((f(x in y))) if a"),
            ("for x in t % 2 recursive", "for x in I((P(t, 2))) recursive"),
            ("set x = 5 % 3", "set x = P(5, 3)"),
        ] {
            let found = prepared(&format!("{{%- {code} -%}}"));
            let found = found.replace(PERCENT, "P").replace(ITERATED, "I");
            let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(plain(&found), plain(&format!("{{%- {expected} -%}}")));
        }
    }
}
