//! Where a text may be cut so that another request can go on from there: never within a word or a
//! character.
//!
//! A server that knows no token ids tokenizes prompt and response anew for each request, and within
//! a word that gives other tokens than were sampled. So more is sampled than is asked for, and what
//! is kept ends at the first place, at or behind the wanted number of tokens, where a word ends.
//! Whether a text is cut there does not depend on what comes behind, so what is kept is distributed
//! as the model has it.

/// Tokens that are sampled beyond the wanted ones, in which a word is to end.
pub const SPARE: usize = 8;

/// What is kept of a continuation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    pub bytes: usize,
    pub tokens: usize,
}

/// What is kept of `text`, which was not ended, of so many `tokens`, whose texts are told or not:
/// `wanted` tokens or a little more. Where no word ends in it, all of it.
pub fn kept(text: &str, texts: Option<&[String]>, tokens: usize, wanted: usize) -> Kept {
    let texts = texts.filter(|texts| texts.concat() == text);
    let place = match texts {
        Some(texts) => texts.iter().take(wanted).map(String::len).sum(),
        None => text.len() * wanted.min(tokens) / tokens.max(1),
    };
    let bytes = border(text, place).unwrap_or_else(|| whole(text));
    let tokens = match texts {
        Some(texts) => {
            let mut end = 0;
            let begins = texts.iter().map(|text| {
                end += text.len();
                end - text.len()
            });
            begins.filter(|begin| *begin < bytes).count()
        }
        None => (tokens * bytes).div_ceil(text.len().max(1)),
    };
    Kept { bytes, tokens }
}

/// The first place where a word has ended.
pub fn first_border(text: &str) -> Option<usize> {
    border(text, 1)
}

/// The first place at or behind `from` where a word has ended and another begins, or white space.
fn border(text: &str, from: usize) -> Option<usize> {
    let mut before: Option<char> = None;
    text.char_indices().find_map(|(at, next)| {
        let ends = before.is_some_and(|before| ends_between(before, next));
        before = Some(next);
        (ends && at >= from).then_some(at)
    })
}

/// White space belongs to the word behind it.
fn ends_between(before: char, next: char) -> bool {
    let broken = |letter: char| letter == char::REPLACEMENT_CHARACTER;
    !broken(before)
        && !broken(next)
        && ((next.is_whitespace() && !before.is_whitespace())
            || is_word(before) && !next.is_whitespace()
            || is_word(next) && !before.is_whitespace())
}

/// Letters of scripts that are written without spaces: each may be a word.
fn is_word(letter: char) -> bool {
    matches!(letter, '\u{0E00}'..='\u{0EFF}' | '\u{1000}'..='\u{109F}' | '\u{1780}'..='\u{17FF}'
        | '\u{2E80}'..='\u{9FFF}' | '\u{AC00}'..='\u{D7AF}' | '\u{F900}'..='\u{FAFF}'
        | '\u{FF00}'..='\u{FFEF}' | '\u{20000}'..='\u{3FFFF}')
}

/// What a server says behind `before` with the space in front of it that got lost. A word that goes
/// on behind a word is one of its own: texts are cut where words end.
pub fn with_space(before: &str, text: &str) -> Option<String> {
    let begins = text.chars().next().filter(|first| first.is_alphanumeric() && !is_word(*first));
    let follows = before.chars().next_back().filter(|last| !last.is_whitespace());
    (begins.is_some() && follows.is_some()).then(|| format!(" {text}"))
}

/// All of it but a character that is not whole.
fn whole(text: &str) -> usize {
    let whole = text.trim_end_matches(char::REPLACEMENT_CHARACTER).len();
    if whole == 0 { text.len() } else { whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept_text<'a>(text: &'a str, texts: &[&str], wanted: usize) -> (&'a str, usize) {
        let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
        let count = texts.len();
        let Kept { bytes, tokens } = kept(text, Some(&texts), count, wanted);
        (&text[..bytes], tokens)
    }

    #[test]
    fn a_cut_waits_for_the_end_of_a_word() {
        let tokens = [" The", " film", " is", " un", "for", "gett", "able", " and", " fine"];
        let text = tokens.concat();
        assert_eq!(kept_text(&text, &tokens, 3), (" The film is", 3));
        for wanted in 4..=7 {
            assert_eq!(kept_text(&text, &tokens, wanted), (" The film is unforgettable", 7));
        }
        assert_eq!(kept_text(&text, &tokens, 8), (" The film is unforgettable and", 8));
        // Whether the last word has ended is not known, and none ends behind it.
        assert_eq!(kept_text(&text, &tokens, 9), (text.as_str(), 9));
    }

    #[test]
    fn space_stays_with_what_follows_and_runs_of_it_together() {
        let tokens = ["One", ".", "\n\n", "Two", ",", " three"];
        let text = tokens.concat();
        assert_eq!(kept_text(&text, &tokens, 1), ("One.", 2));
        assert_eq!(kept_text(&text, &tokens, 3), ("One.\n\nTwo,", 5));
    }

    #[test]
    fn scripts_without_spaces_are_cut_between_letters_and_never_within_one() {
        let tokens = ["你", "好", "世界", "。"];
        let text = tokens.concat();
        assert_eq!(kept_text(&text, &tokens, 2), ("你好", 2));
        let broken = "你好\u{FFFD}";
        assert_eq!(kept(broken, None, 3, 3).bytes, "你好".len());
        // A letter of several tokens whose texts do not make up the text.
        let Kept { bytes, .. } = kept("naïve\u{FFFD}", None, 4, 4);
        assert_eq!(&"naïve\u{FFFD}"[..bytes], "naïve");
    }

    #[test]
    fn a_lost_space_comes_back_in_front_of_words_alone() {
        for (before, text, expected) in [
            ("The film", "is good", Some(" is good")),
            ("The film.", "It is", Some(" It is")),
            ("The film", ", too", None),
            ("The film ", "is", None),
            ("", "It", None),
            ("電影", "好", None),
        ] {
            assert_eq!(with_space(before, text).as_deref(), expected);
        }
    }

    #[test]
    fn without_token_texts_places_are_in_proportion() {
        let text = " a bb ccc dddd";
        let Kept { bytes, tokens } = kept(text, None, 4, 2);
        assert_eq!((&text[..bytes], tokens), (" a bb ccc", 3));
        assert_eq!(kept("", None, 0, 3), Kept { bytes: 0, tokens: 0 });
    }
}
