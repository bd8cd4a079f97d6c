//! The guide pairs of an engine: they score the responses of one base, and may be mixed into what
//! it samples from.

use std::rc::Rc;

use super::memory::{Reader, Sizes, scoring};
use super::prompt_room::{Part, PromptReader};
use crate::error::Result;
use crate::policy::Member;
use crate::prompt::PromptText;
use crate::score::{Guide, GuidePair, WeightedPairs};
use crate::text::{Vocabulary, VocabularyDifference};

/// Guide pairs and their weights, ready to score the responses of one base.
pub struct Guides {
    pairs: Vec<WeightedPair>,
    /// How the base's vocabulary differs from that of a pair, as far as it is known.
    difference: Option<VocabularyDifference>,
    pub scorer: WeightedPairs,
}

struct WeightedPair {
    weight: f64,
    pair: Guide,
    /// Whether its vocabulary is known to be the base's.
    same_vocabulary: bool,
}

impl Guides {
    /// Pairs with their weights for a base of this vocabulary. Ids pass straight through only where
    /// the full maps are equal.
    ///
    /// # Errors
    /// If guides have no end-of-sequence token.
    pub fn for_base(pairs: Vec<(f64, Guide)>, base: Option<&Vocabulary>) -> Result<Self> {
        let (mut all, mut scorers, mut first_difference) = (Vec::new(), Vec::new(), None);
        for (weight, pair) in pairs {
            let difference = base.and_then(|base| base.difference(&pair.tokenizer().vocabulary()));
            let same_vocabulary = base.is_some() && difference.is_none();
            scorers.push((weight as f32, pair.scorer(same_vocabulary)?));
            all.push(WeightedPair { weight, pair, same_vocabulary });
            first_difference = first_difference.or(difference);
        }
        Ok(Self { pairs: all, difference: first_difference, scorer: WeightedPairs::new(scorers) })
    }

    /// How the base's vocabulary differs from that of a pair; `None` where it differs from none, or
    /// is not known.
    pub fn difference(&self) -> Option<&VocabularyDifference> {
        self.difference.as_ref()
    }

    /// Whether all are here: those that others serve only score.
    pub fn are_here(&self) -> bool {
        self.pairs.iter().all(|pair| pair.pair.here().is_some())
    }

    /// The guides that are here as parts of a mixture whose logits are log π_base + `weight` · (log
    /// π* − log π_ref), each pair by its own weight.
    pub fn members(&self, weight: f64) -> Vec<Member> {
        let of_pair = |(of_pair, pair): (f64, &Rc<GuidePair>)| {
            [(&pair.tuned, 1.0), (&pair.untuned, -1.0)].map(|(lm, sign): (_, f64)| Member {
                lm: lm.clone(),
                template: pair.template.clone(),
                weight: sign * weight * of_pair,
            })
        };
        let here = self.pairs.iter().filter_map(|pair| Some((pair.weight, pair.pair.here()?)));
        here.flat_map(of_pair).collect()
    }

    /// Who reads prompts to score what is said behind them.
    pub fn prompt_readers(&self) -> Vec<PromptReader> {
        let reader =
            |&WeightedPair { ref pair, same_vocabulary, .. }: &WeightedPair| PromptReader {
                name: "the guide".to_owned(),
                tokenizer: pair.tokenizer().clone(),
                context: pair.context(),
                template: pair.template().clone(),
                part: Part::Scores { same_vocabulary },
            };
        self.pairs.iter().map(reader).collect()
    }

    /// What one prompt in flight takes, `prompt` being the longest. Pairs that others serve keep
    /// nothing of it here.
    pub fn footprint(&self, prompt: &PromptText, sizes: &Sizes) -> Result<Vec<Reader>> {
        let mut readers = Vec::new();
        for (index, WeightedPair { pair, same_vocabulary, .. }) in self.pairs.iter().enumerate() {
            let Guide::Here(pair) = pair else { continue };
            let prompt_tokens = pair.template.encode(&pair.tokenizer, prompt)?.len();
            readers.extend(scoring(
                index,
                [&pair.tuned, &pair.untuned].map(|lm| lm.as_ref().into()),
                prompt_tokens,
                *same_vocabulary,
                sizes,
            ));
        }
        Ok(readers)
    }
}
