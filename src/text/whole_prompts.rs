//! Whole prompts as `data.prompt` wants them: what all of them end with, and how many words they
//! may have. What becomes of a prompt depends on it alone, so every stage is given the same.

use std::collections::HashSet;

use super::data_report::DataReport;
use super::examples::{Example, RowPrompt};
use crate::prompt::{Message, PromptText};
use crate::recipe::{LongPrompts, PromptRule};

/// Words of all that a prompt says.
pub fn words(prompt: &PromptText) -> usize {
    match prompt {
        PromptText::Plain(text) => count(text),
        PromptText::Chat(turns) => turns.iter().map(|turn| count(&turn.content)).sum(),
    }
}

fn count(text: &str) -> usize {
    text.split_whitespace().count()
}

/// A prompt as the rule has it, and what was done for that.
#[derive(Debug, PartialEq)]
enum Shaped {
    Kept(PromptText),
    Ended(PromptText),
    /// What is left of a long one.
    Cut(PromptText),
    TooLong,
}

/// Makes the whole prompts of the rows of `split` as `rule` wants them, and tells what it did.
pub(super) fn shape(rule: &PromptRule, split: &str, rows: &mut [Example], report: &mut DataReport) {
    let [mut ended, mut cut, mut left_out, mut whole] = [0; 4];
    for row in rows {
        let RowPrompt::Whole(prompt) = &row.prompt else { continue };
        whole += 1;
        row.prompt = match shaped(rule, prompt) {
            Shaped::Kept(prompt) => RowPrompt::Whole(prompt),
            Shaped::Ended(prompt) => {
                ended += 1;
                RowPrompt::Whole(prompt)
            }
            Shaped::Cut(prompt) => {
                cut += 1;
                RowPrompt::Whole(prompt)
            }
            Shaped::TooLong => {
                left_out += 1;
                RowPrompt::LeftOut
            }
        };
    }
    let end = rule.end.as_deref().unwrap_or_default().trim();
    let most = rule.max_words.unwrap_or_default();
    for (count, what) in [
        (ended, format!("get `{end}` behind them")),
        (cut, format!("have more than {most} words and are cut")),
        (left_out, format!("have more than {most} words and are left out")),
    ] {
        if count > 0 {
            report.lines.push(format!("{split}: {count} of {whole} prompts {what}"));
        }
    }
}

/// Keeps each post once, as it stands first, and tells how many rows are no prompts for that, or
/// because they are about no post.
pub(super) fn once(split: &str, rows: &mut [Example], report: &mut DataReport) {
    let mut known = HashSet::new();
    let [mut repeated, mut other] = [0; 2];
    let all = rows.len();
    for row in rows {
        match &row.prompt {
            RowPrompt::Whole(prompt) if known.contains(prompt) => {
                repeated += 1;
                row.prompt = RowPrompt::LeftOut;
            }
            RowPrompt::Whole(prompt) => {
                known.insert(prompt.clone());
            }
            RowPrompt::FirstWords => {}
            RowPrompt::LeftOut => other += 1,
        }
    }
    for (count, what) in [(repeated, "have the post of an earlier one"), (other, "have no post")] {
        if count > 0 {
            report.lines.push(format!("{split}: {count} of {all} rows {what} and are no prompts"));
        }
    }
}

/// The prompt as `rule` wants it; `None` where it is too long.
pub(super) fn as_wanted(rule: &PromptRule, prompt: &PromptText) -> Option<PromptText> {
    match shaped(rule, prompt) {
        Shaped::Kept(prompt) | Shaped::Ended(prompt) | Shaped::Cut(prompt) => Some(prompt),
        Shaped::TooLong => None,
    }
}

fn shaped(rule: &PromptRule, prompt: &PromptText) -> Shaped {
    let end = rule.end.as_deref().unwrap_or_default();
    let most = rule.max_words.unwrap_or(usize::MAX);
    let mut turns = match prompt {
        PromptText::Plain(text) => return of_text(text, end, most, rule.long),
        PromptText::Chat(turns) => turns.clone(),
    };
    // A chat is not cut: its turns would answer what nobody asked.
    let Some(Message { content, .. }) = turns.last_mut() else {
        return Shaped::Kept(prompt.clone());
    };
    let last = of_text(content, end, usize::MAX, LongPrompts::LeaveOut);
    if let Shaped::Kept(PromptText::Plain(text)) | Shaped::Ended(PromptText::Plain(text)) = &last {
        content.clone_from(text);
    }
    let whole = PromptText::Chat(turns);
    match last {
        _ if words(&whole) > most => Shaped::TooLong,
        Shaped::Ended(_) => Shaped::Ended(whole),
        _ => Shaped::Kept(whole),
    }
}

fn of_text(text: &str, end: &str, most: usize, long: LongPrompts) -> Shaped {
    let Parted { body, ending, had_end } = parted(text, end);
    let most_of_body = most.saturating_sub(count(&ending));
    let kept = first_words(body, most_of_body);
    let whole = PromptText::Plain(format!("{kept}{ending}"));
    match long {
        _ if kept.len() == body.len() && had_end => Shaped::Kept(whole),
        _ if kept.len() == body.len() => Shaped::Ended(whole),
        LongPrompts::Cut => Shaped::Cut(whole),
        LongPrompts::LeaveOut => Shaped::TooLong,
    }
}

/// A prompt and what it is to end with.
struct Parted<'a> {
    body: &'a str,
    /// With the white space before it: the prompt's own where it has the end already, or else a
    /// blank line where it has one, and a line's end where it has none. An end that begins with
    /// white space says itself what stands before it.
    ending: String,
    had_end: bool,
}

fn parted<'a>(text: &'a str, end: &str) -> Parted<'a> {
    let word = end.trim();
    if word.is_empty() {
        return Parted { body: text, ending: String::new(), had_end: true };
    }
    let trimmed = text.trim_end();
    let tail = end.trim_start();
    if let Some(before) = trimmed.strip_suffix(word) {
        let body = before.trim_end();
        return Parted { body, ending: format!("{}{tail}", &before[body.len()..]), had_end: true };
    }
    let before = match end.len() - tail.len() {
        0 if trimmed.contains("\n\n") => "\n\n",
        0 => "\n",
        own => &end[..own],
    };
    Parted { body: trimmed, ending: format!("{before}{tail}"), had_end: false }
}

/// As much of a text as has so many words, with the white space between them.
fn first_words(text: &str, most: usize) -> &str {
    let mut rest = text;
    for _ in 0..most {
        rest = rest.trim_start();
        match rest.find(char::is_whitespace) {
            Some(end) => rest = &rest[end..],
            None => return text,
        }
    }
    if rest.trim().is_empty() { text } else { &text[..text.len() - rest.len()] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(max_words: Option<usize>, end: Option<&str>, long: LongPrompts) -> PromptRule {
        PromptRule { max_words, end: end.map(str::to_owned), long, ..PromptRule::default() }
    }

    fn kept(text: &str) -> Shaped {
        Shaped::Kept(text.into())
    }

    #[test]
    fn every_prompt_gets_its_end_once() {
        let posts = rule(None, Some("TL;DR:"), LongPrompts::LeaveOut);
        let of = |rule: &PromptRule, text: &str| shaped(rule, &text.into());
        assert_eq!(of(&posts, "POST: a b\n\nTL;DR: \n"), kept("POST: a b\n\nTL;DR:"));
        assert_eq!(of(&posts, "POST: a bTL;DR:"), kept("POST: a bTL;DR:"));
        let ended = |text: &str| Shaped::Ended(text.into());
        assert_eq!(of(&posts, "r\n\nPOST: a b \n"), ended("r\n\nPOST: a b\n\nTL;DR:"));
        assert_eq!(of(&posts, "POST: a b"), ended("POST: a b\nTL;DR:"));
        let says = rule(None, Some(" A: "), LongPrompts::LeaveOut);
        assert_eq!(of(&says, "q?\n"), ended("q? A: "));
        assert_eq!(of(&says, "q?\nA:"), kept("q?\nA: "));
        assert_eq!(of(&PromptRule::default(), " a \n"), kept(" a \n"), "nothing is asked for");
    }

    #[test]
    fn long_prompts_are_left_out_or_cut_before_their_end() {
        let of =
            |long, most, text: &str| shaped(&rule(Some(most), Some("TL;DR:"), long), &text.into());
        let text = "POST: a\n b  c\n\nTL;DR:";
        assert_eq!(of(LongPrompts::LeaveOut, 5, text), kept(text));
        assert_eq!(of(LongPrompts::LeaveOut, 4, text), Shaped::TooLong);
        let cut = Shaped::Cut("POST: a\n b\n\nTL;DR:".into());
        assert_eq!(of(LongPrompts::Cut, 4, text), cut);
        assert_eq!(of(LongPrompts::Cut, 4, "POST: a\n b  c d\n\n"), {
            Shaped::Cut("POST: a\n b\nTL;DR:".into())
        });
        let plain = rule(Some(2), None, LongPrompts::Cut);
        assert_eq!(shaped(&plain, &"a  b c".into()), Shaped::Cut("a  b".into()));
        assert_eq!(shaped(&plain, &" a  b\n".into()), kept(" a  b\n"));
    }

    #[test]
    fn a_chat_ends_in_its_last_turn_and_is_never_cut() {
        let chat = |last: &str| -> PromptText {
            vec![Message::new("system", "be kind"), Message::new("user", last)].into()
        };
        let of =
            |most, last| shaped(&rule(Some(most), Some("Short."), LongPrompts::Cut), &chat(last));
        assert_eq!(of(5, "a b"), Shaped::Ended(chat("a b\nShort.")));
        assert_eq!(of(5, "a b Short."), Shaped::Kept(chat("a b Short.")));
        assert_eq!(of(4, "a b"), Shaped::TooLong);
    }
}
