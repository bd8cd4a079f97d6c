//! A search as the state machine of one prompt: it asks, is told, and chooses. Who carries out what
//! it asks is [`super::Drive`].

use super::found::Found;
use super::nodes::Node;
use super::parts::{Extended, Scored, ToScore, Weighed};
use super::response::Response;
use crate::error::{Error, Result};

/// Searches for the best response to one prompt.
pub trait Searcher {
    /// What is to be done next, now that this is known. First it is told [`Told::Opened`], then
    /// always the answer to what it asked last.
    ///
    /// # Errors
    /// Where the search cannot go on with what it was told.
    fn next(&mut self, told: Told) -> Result<Ask>;

    /// The nodes that it may still name or return.
    fn live(&self) -> Live;

    /// What the response will begin with, whatever is chosen later. `growing` are the continuations
    /// under way as far as they have come, all that were asked for or none.
    fn committed(&self, growing: &[&str]) -> String;
}

/// What a search begins with.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The empty response in the proposer, and in the scorer.
    pub proposer: Node,
    pub scorer: Node,
    /// The tokens that end a response, where the proposer tells next tokens.
    pub end_tokens: Vec<i64>,
}

/// What a search wants done; its answer in [`Told`] has one entry for each of these, in order.
#[derive(Debug)]
pub enum Ask {
    /// Continuations.
    Extend(Vec<Continue>),
    Score(Vec<ToScore>),
    /// The scores of responses that do not end, and what each next token would add.
    Weigh(Vec<ToScore>),
    /// For each response its `count` likeliest next tokens, or all.
    Likeliest {
        nodes: Vec<Node>,
        count: Option<usize>,
    },
    /// Each response with a token behind it that was told of it.
    Append(Vec<(Node, i64)>),
    /// Nothing more. `token_rewards`, `seconds` and `guide_seconds` are for the driver to fill in.
    Done(Found),
}

/// A continuation of at most `max_tokens` tokens, drawn by the numbers of `slot` of the prompt's
/// stream.
#[derive(Debug, Clone)]
pub struct Continue {
    pub node: Node,
    pub slot: u64,
    pub max_tokens: usize,
}

#[derive(Debug)]
pub enum Told {
    Opened,
    Extended(Vec<Extended>),
    Scored(Vec<Scored>),
    Weighed(Vec<Weighed>),
    Likeliest(Vec<Vec<(i64, f32)>>),
    Appended(Vec<(Node, Response)>),
}

impl Told {
    /// That a search was told something else than it asked for.
    pub(super) fn unasked(&self) -> Error {
        let what = match self {
            Self::Opened => "its prompt",
            Self::Extended(_) => "continuations",
            Self::Scored(_) => "scores",
            Self::Weighed(_) => "what next tokens are worth",
            Self::Likeliest(_) => "next tokens",
            Self::Appended(_) => "appended tokens",
        };
        Error::failed(format!("a search was told {what}, which it had not asked for"))
    }
}

/// Nodes of the proposer and of the scorer.
#[derive(Debug, Default)]
pub struct Live {
    pub proposer: Vec<Node>,
    pub scorer: Vec<Node>,
}

/// The text that all of these begin with; a character that is not whole yet belongs to none.
pub(super) fn shared<'a>(mut texts: impl Iterator<Item = &'a str>) -> String {
    let Some(first) = texts.next() else { return String::new() };
    let common = texts.fold(first, |common, text| {
        let same = common
            .chars()
            .zip(text.chars())
            .take_while(|(a, b)| a == b)
            .map(|(a, _)| a.len_utf8())
            .sum();
        &common[..same]
    });
    common.trim_end_matches(char::REPLACEMENT_CHARACTER).to_owned()
}

#[cfg(test)]
mod tests {
    use super::shared;

    #[test]
    fn what_is_shared_ends_at_the_first_difference_and_at_half_a_character() {
        for (texts, expected) in [
            (&["a film"][..], "a film"),
            (&["a film", "a fine film", "a fig"], "a fi"),
            (&["naïve", "naïf"], "naï"),
            (&["naé", "naè"], "na"),
            (&["a \u{FFFD}", "a \u{FFFD}"], "a "),
            (&["", "a"], ""),
            (&[], ""),
        ] {
            assert_eq!(shared(texts.iter().copied()), expected);
        }
    }
}
