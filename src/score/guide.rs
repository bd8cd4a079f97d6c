//! A guide pair wherever its models are: here, where it can be looked into, or behind HTTP, where
//! it only scores.

use std::rc::Rc;

use super::guide_pair::GuidePair;
use super::pair::PairScorer;
use super::served_pair::{ServedPair, ServedScorer};
use crate::error::Result;
use crate::search::Scorer;
use crate::text::{PromptTemplate, Tokenizer};

#[derive(Clone)]
pub enum Guide {
    Here(Rc<GuidePair>),
    Served(Rc<ServedPair>),
}

impl Guide {
    /// The pair, where it is here.
    pub fn here(&self) -> Option<&Rc<GuidePair>> {
        match self {
            Self::Here(pair) => Some(pair),
            Self::Served(_) => None,
        }
    }

    pub fn tokenizer(&self) -> &Rc<Tokenizer> {
        match self {
            Self::Here(pair) => &pair.tokenizer,
            Self::Served(pair) => pair.tokenizer(),
        }
    }

    pub fn template(&self) -> &PromptTemplate {
        match self {
            Self::Here(pair) => &pair.template,
            Self::Served(pair) => &pair.template,
        }
    }

    /// Positions that both models have.
    pub fn context(&self) -> usize {
        match self {
            Self::Here(pair) => pair.context(),
            Self::Served(pair) => pair.context(),
        }
    }

    /// # Errors
    /// If the guides have no end-of-sequence token.
    pub fn scorer(&self, same_vocabulary: bool) -> Result<Box<dyn Scorer>> {
        Ok(match self {
            Self::Here(pair) => Box::new(PairScorer::new(pair.clone(), same_vocabulary)?),
            Self::Served(pair) => Box::new(ServedScorer::new(pair.clone(), same_vocabulary)?),
        })
    }
}
