//! A tuned and an untuned model of one vocabulary. What they say of responses is scored in
//! `pair.rs`.

use std::rc::Rc;

use tch::Kind;
use tracing::warn;

use crate::error::{Error, Result};
use crate::models::Lm;
use crate::models::weights::dtype_name;
use crate::text::{PromptTemplate, Tokenizer, VocabularyDifference};

/// A guide pair as it is loaded: the tuned and the untuned model, one tokenizer, one prompt
/// template.
pub struct GuidePair {
    pub tuned: Rc<Lm>,
    pub untuned: Rc<Lm>,
    pub tokenizer: Rc<Tokenizer>,
    pub template: PromptTemplate,
}

impl GuidePair {
    /// # Errors
    /// [`Error::Recipe`] where the two have different vocabularies: one's ids would mean something
    /// else to the other.
    pub fn new(
        tuned: (Rc<Lm>, Rc<Tokenizer>),
        untuned: (Rc<Lm>, Rc<Tokenizer>),
        template: PromptTemplate,
    ) -> Result<Self> {
        let ((tuned, tokenizer), (untuned, other)) = (tuned, untuned);
        match tokenizer.vocabulary().difference(&other.vocabulary()) {
            None => Ok(Self { tuned, untuned, tokenizer, template }),
            Some(difference) => Err(Error::recipe(two_vocabularies(&difference))),
        }
    }

    /// Positions that both models have.
    pub fn context(&self) -> usize {
        self.tuned.model.info().context.min(self.untuned.model.info().context) as usize
    }

    /// Says so where both models hold the same weights as they were loaded, which makes every score
    /// 0. In bf16 that may be so although they differ in their folders.
    pub(super) fn warn_if_same(&self) {
        if !self.tuned.has_weights_of(&self.untuned) {
            return;
        }
        let kind = self.tuned.kind();
        let finer = match kind {
            Kind::Float | Kind::Double => "",
            _ => ", or keep small differences with dtype float32",
        };
        let kind = dtype_name(kind);
        warn!(
            "the tuned and the untuned guide hold the same weights as they were loaded ({kind}), \
             so every score is 0 and they choose nothing\n\n\
             hint: name two different models, or train longer or at a higher rate{finer}"
        );
    }
}

/// What is wrong with a pair whose guides differ so.
pub fn two_vocabularies(difference: &VocabularyDifference) -> String {
    format!("the tuned and the untuned guide of a pair have two vocabularies: {difference}")
}
