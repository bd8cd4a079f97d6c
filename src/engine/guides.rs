//! The guide pairs of an engine: they score the responses of one base, and may be mixed into what
//! it samples from.

use std::rc::Rc;

use super::memory::{Reader, Sizes, scoring};
use super::prompt_room::{Part, PromptReader};
use crate::error::Result;
use crate::policy::Member;
use crate::score::{Guide, GuidePair, WeightedPairs};
use crate::text::{Vocabulary, VocabularyDifference};

/// Guide pairs and their weights, ready to score the responses of one base.
pub struct Guides {
    pairs: Vec<Pair>,
    /// How the base's vocabulary differs from that of a pair, as far as it is known.
    difference: Option<VocabularyDifference>,
    pub scorer: WeightedPairs,
}

struct Pair {
    weight: f64,
    guide: Rc<Guide>,
    /// Whether its vocabulary is known to be the base's.
    same_vocabulary: bool,
}

impl Guides {
    /// Pairs with their weights for a base of this vocabulary. Ids pass straight through only where
    /// the full maps are equal.
    ///
    /// # Errors
    /// If guides have no end-of-sequence token.
    pub fn for_base(pairs: Vec<(f64, Rc<Guide>)>, base: Option<&Vocabulary>) -> Result<Self> {
        let (mut all, mut scorers, mut first_difference) = (Vec::new(), Vec::new(), None);
        for (weight, guide) in pairs {
            let difference = base.and_then(|base| base.difference(&guide.tokenizer.vocabulary()));
            let same_vocabulary = base.is_some() && difference.is_none();
            scorers.push((weight as f32, GuidePair::new(guide.clone(), same_vocabulary)?));
            all.push(Pair { weight, guide, same_vocabulary });
            first_difference = first_difference.or(difference);
        }
        Ok(Self { pairs: all, difference: first_difference, scorer: WeightedPairs::new(scorers) })
    }

    /// How the base's vocabulary differs from that of a pair; `None` where it differs from none, or
    /// is not known.
    pub fn difference(&self) -> Option<&VocabularyDifference> {
        self.difference.as_ref()
    }

    /// The guides as parts of a mixture whose logits are log π_base + `weight` · (log π* − log
    /// π_ref), each pair by its own weight.
    pub fn members(&self, weight: f64) -> Vec<Member> {
        let of_pair = |Pair { weight: of_pair, guide, .. }: &Pair| {
            [(&guide.tuned, 1.0), (&guide.untuned, -1.0)].map(|(lm, sign): (_, f64)| Member {
                lm: lm.clone(),
                template: guide.template.clone(),
                weight: sign * weight * of_pair,
            })
        };
        self.pairs.iter().flat_map(of_pair).collect()
    }

    /// Who reads prompts to score what is said behind them.
    pub fn prompt_readers(&self) -> Vec<PromptReader> {
        let reader = |&Pair { ref guide, same_vocabulary, .. }: &Pair| PromptReader {
            name: "the guide".to_owned(),
            tokenizer: guide.tokenizer.clone(),
            context: guide.context(),
            template: guide.template.clone(),
            part: Part::Scores { same_vocabulary },
        };
        self.pairs.iter().map(reader).collect()
    }

    /// What one prompt in flight takes, `prompt` being the longest.
    pub fn footprint(&self, prompt: &str, sizes: &Sizes) -> Result<Vec<Reader<'_>>> {
        let mut readers = Vec::new();
        for (index, Pair { guide, same_vocabulary, .. }) in self.pairs.iter().enumerate() {
            let prompt_tokens = guide.template.encode(&guide.tokenizer, prompt)?.len();
            readers.extend(scoring(
                index,
                (&guide.tuned, &guide.untuned),
                prompt_tokens,
                *same_vocabulary,
                sizes,
            ));
        }
        Ok(readers)
    }
}
