//! Line ends and tabs in the words of a shell, which has no way to write them within `'…'`: read
//! as a recipe's texts are.

/// The text with `\n`, `\t`, `\r` and `\\` read; any other backslash stands for itself.
#[expect(clippy::unnecessary_wraps, reason = "clap asks for a result")]
pub(super) fn read(written: &str) -> Result<String, std::convert::Infallible> {
    let mut text = String::with_capacity(written.len());
    let mut characters = written.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some('\\') => text.push('\\'),
            other => text.extend(std::iter::once('\\').chain(other)),
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn escapes_are_those_of_a_recipe() {
        for (written, text) in [
            (r"\n", "\n"),
            (r"\r\n\tQ:", "\r\n\tQ:"),
            (r"\\n", r"\n"),
            (r"\d\", r"\d\"),
            ("a\nb", "a\nb"),
            ("", ""),
        ] {
            assert_eq!(read(written).unwrap(), text, "{written}");
        }
    }
}
