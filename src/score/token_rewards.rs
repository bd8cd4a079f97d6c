//! The guide pair's dense reward, token by token of the policy that is to learn from it (paper
//! C.3).
//!
//! Where policy and guides share a vocabulary, r_t = log π*(y_t | x, y_<t) − log π_ref(y_t | x,
//! y_<t) of each token. Otherwise a guide token's log-ratio goes to the policy token that closes
//! its text: the first one after which all of that text has been said. The guide's EOS goes to the
//! policy's. No log-ratio is split or lost, so the sum over policy tokens is the sequence score,
//! whatever the vocabularies. What the guides cannot read of a response that is longer than their
//! context earns nothing, as in search.

use std::rc::Rc;

use super::{GuidePair, PairScorer};
use crate::error::Result;
use crate::prompt::PromptText;
use crate::search::{Response, Scorer, ToScore};
use crate::text::Tokenizer;

pub struct TokenRewards {
    pair: PairScorer,
    policy: Rc<Tokenizer>,
    guide: Rc<Tokenizer>,
    same_vocabulary: bool,
    cut: u64,
}

impl TokenRewards {
    /// For responses in tokens of `policy`.
    ///
    /// # Errors
    /// If the guides have no end-of-sequence token.
    pub fn new(guide: Rc<GuidePair>, policy: Rc<Tokenizer>) -> Result<Self> {
        let same_vocabulary =
            policy.vocabulary().difference(&guide.tokenizer.vocabulary()).is_none();
        let tokenizer = guide.tokenizer.clone();
        Ok(Self {
            pair: PairScorer::new(guide, same_vocabulary)?,
            policy,
            guide: tokenizer,
            same_vocabulary,
            cut: 0,
        })
    }

    /// Whether policy and guides have one vocabulary, token by token.
    pub fn same_vocabulary(&self) -> bool {
        self.same_vocabulary
    }

    /// Responses so far that were too long for the guides.
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// The reward of each token of the responses, one to each prompt: of all its ids, and of the
    /// EOS behind them where it `ends`.
    pub fn rewards(
        &mut self,
        prompts: &[&PromptText],
        responses: &[(&Response, bool)],
    ) -> Result<Vec<Vec<f64>>> {
        let nodes = self.pair.open(prompts)?;
        let requests = nodes.iter().zip(responses);
        let requests = requests.map(|(root, &(response, ends))| ToScore {
            parent: root.clone(),
            response: response.clone(),
            ends,
        });
        let scored = self.pair.score(&requests.collect::<Vec<_>>())?;
        let mut all = Vec::with_capacity(responses.len());
        for (scored, &(response, ends)) in scored.iter().zip(responses) {
            self.cut += u64::from(scored.is_cut);
            let ratios = self.pair.token_rewards(&scored.node);
            let mut rewards = vec![0.0; response.ids.len() + usize::from(ends)];
            let ids = self.pair.token_ids(&scored.node);
            let places = match self.same_vocabulary {
                true => (0..ids.len()).collect(),
                false => self.places(response, ids)?,
            };
            let last = rewards.len().saturating_sub(1);
            for (i, ratio) in ratios.into_iter().enumerate() {
                // Behind the guide's own tokens comes its EOS.
                rewards[places.get(i).copied().unwrap_or(last)] += f64::from(ratio);
            }
            all.push(rewards);
        }
        nodes.iter().for_each(|root| self.pair.release(root));
        Ok(all)
    }

    /// The policy token that closes the text of each guide token.
    fn places(&self, response: &Response, guide_ids: &[i64]) -> Result<Vec<usize>> {
        let said = prefixes(&self.policy, &response.ids, &response.text)?;
        let asked = prefixes(&self.guide, guide_ids, &response.text)?;
        // What ends inside a character is closed with it, though the guides may have read no
        // further.
        let read = asked.last().map_or(0, |prefix| prefix.end);
        let character = response.text[read..].chars().next().map_or(0, char::len_utf8);
        Ok(closing(&said, &asked, read + character))
    }
}

/// What a prefix of the tokens of a text says of it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Prefix {
    /// Bytes of whole characters.
    end: usize,
    /// Whether it ends inside a character.
    is_cut: bool,
}

/// What the first token, the first two, … all tokens say of `text`.
fn prefixes(tokenizer: &Tokenizer, ids: &[i64], text: &str) -> Result<Vec<Prefix>> {
    let mut prefixes: Vec<Prefix> = Vec::with_capacity(ids.len());
    for count in 1..=ids.len() {
        let said = tokenizer.decode_continuation(&ids[..count])?;
        // What begins a text loses the space that SentencePiece puts before one.
        let said = said.strip_prefix(' ').filter(|_| !text.starts_with(' ')).unwrap_or(&said);
        let common: usize = said
            .chars()
            .zip(text.chars())
            .take_while(|(a, b)| a == b)
            .map(|(a, _)| a.len_utf8())
            .sum();
        let before = prefixes.last().map_or(0, |prefix| prefix.end);
        prefixes.push(Prefix { end: common.max(before), is_cut: said.len() > common });
    }
    Ok(prefixes)
}

/// For each asked token the first said one after which all of its text has been said: of a token
/// that ends inside a character, that whole character too, whose end is `last` where no asked token
/// reaches it. What the last said token does not close is closed by it all the same.
fn closing(said: &[Prefix], asked: &[Prefix], last: usize) -> Vec<usize> {
    let mut places = vec![0; asked.len()];
    let mut end = last;
    for (place, prefix) in places.iter_mut().zip(asked).rev() {
        end = if prefix.is_cut { end } else { prefix.end };
        *place = said.partition_point(|said| said.end < end).min(said.len().saturating_sub(1));
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(ends: &[usize]) -> Vec<Prefix> {
        ends.iter().map(|&end| Prefix { end, is_cut: false }).collect()
    }

    fn cut(end: usize) -> Prefix {
        Prefix { end, is_cut: true }
    }

    #[test]
    fn a_guide_token_goes_to_the_token_that_closes_its_text() {
        // "abcdef": the policy says ab|c|def, the guide reads a|bc|d|ef.
        assert_eq!(closing(&whole(&[2, 3, 6]), &whole(&[1, 3, 4, 6]), 6), [0, 1, 2, 2]);
        // The other way round.
        assert_eq!(closing(&whole(&[1, 3, 4, 6]), &whole(&[2, 3, 6]), 6), [1, 1, 3]);
        // "aé": the policy says the bytes of é one by one, the guide reads it whole; then the other
        // way round.
        assert_eq!(closing(&[whole(&[1])[0], cut(1), whole(&[3])[0]], &whole(&[1, 3]), 3), [0, 2]);
        assert_eq!(
            closing(&whole(&[1, 3]), &[whole(&[1])[0], cut(1), whole(&[3])[0]], 3),
            [0, 1, 1]
        );
        // Cut inside é: nobody closes it, so the last token gets what is left.
        assert_eq!(closing(&[whole(&[1])[0], cut(1)], &[whole(&[1])[0], cut(1)], 3), [0, 1]);
        assert_eq!(closing(&whole(&[1]), &[], 0), [0; 0]);
        // "aébc" of which the guides read "a" and half of é: the token that says é closes both, not
        // the last one.
        assert_eq!(closing(&whole(&[1, 3, 4, 5]), &[whole(&[1])[0], cut(1)], 3), [0, 1]);
    }
}
