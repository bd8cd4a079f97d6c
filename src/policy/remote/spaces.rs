//! Whether the space in front of what a server says gets lost: a word that goes on behind a word
//! then comes without it.

use super::ask::{Ask, Read};
use super::server::Server;
use super::words::first_border;
use crate::error::Result;
use crate::sampling::Sampling;

const TEXT: &str = "The film was";
/// Letters that tell one continuation from another.
const ALIKE: usize = 4;

impl Server {
    /// Asks for a text in one go, and for its rest behind its first words.
    pub(super) fn loses_space(&self) -> Result<bool> {
        let whole = self.likeliest(TEXT)?;
        let Some(at) = first_border(&whole).filter(|at| whole[*at..].starts_with(' ')) else {
            return Ok(false);
        };
        let (first, rest) = whole.split_at(at);
        let begins = |text: &str| text.chars().take(ALIKE).collect::<String>();
        if begins(&self.likeliest(&format!("{TEXT}{first}"))?) == begins(rest) {
            return Ok(false);
        }
        let spaced = self.likeliest(&format!("{TEXT} {first}"))?;
        Ok(!spaced.is_empty() && begins(&spaced) == begins(rest.trim_start()))
    }

    /// The likeliest few tokens behind a text; nothing where there are none.
    fn likeliest(&self, text: &str) -> Result<String> {
        let ask = Ask {
            context: Read::Text(text.to_owned()),
            n: 1,
            max_tokens: 12,
            seed: 1,
            sampling: Sampling::Greedy,
            stop: Vec::new(),
            adds_special: None,
        };
        let body = self.dialect.body(self.model.as_deref(), &ask, &self.facts);
        let given = self.try_once(body)?.ok().and_then(|reply| self.dialect.read(&reply).ok());
        let said = given.and_then(|given| given.choices.into_iter().next());
        Ok(said.map(|choice| choice.text).unwrap_or_default())
    }
}
