//! Rows while their chunks are sampled: which are fed, and which have left the batch that grows.
//! What is drawn is up to `local/sampling.rs`.

use super::mixture::Caches;
use crate::search::{Finish, Node};

/// A response while its chunk is sampled.
pub(super) struct Sample {
    /// The response that it continues.
    pub parent: Node,
    /// Whether the prompt is empty, so that the response begins the text.
    pub begins: bool,
    pub response: Vec<i64>,
    /// The log-probability of each token drawn for the response, EOS included.
    pub logprobs: Vec<f64>,
    /// Tokens drawn in this chunk, and how many may be.
    pub drawn: usize,
    pub budget: usize,
    /// How it ended, with the text that a stop string leaves.
    pub finish: Option<(Finish, Option<String>)>,
    /// The end-of-sequence token that ended it.
    pub end: Option<i64>,
}

impl Sample {
    /// Whether it is to have another token.
    pub fn grows(&self) -> bool {
        self.finish.is_none() && self.drawn < self.budget
    }

    /// Whether it can be extended in a later call: it stopped at its budget.
    pub fn can_go_on(&self) -> bool {
        self.finish.is_none() && self.drawn == self.budget
    }
}

/// The rows of one batch: sample `samples[i]` owns row i of the caches.
pub(super) struct Growing {
    pub caches: Caches,
    pub samples: Vec<usize>,
}

impl Growing {
    /// Whether any row is to have another token.
    pub fn grows(&self, all: &[Sample]) -> bool {
        self.samples.iter().any(|&sample| all[sample].grows())
    }

    /// Takes out the rows that have used their budget while others go on, as a batch of their own:
    /// their last token is not read, so that all rows of either batch are as far. Finished rows are
    /// left behind with them, or once they are a quarter; until then they cost less than moving the
    /// others.
    pub fn part(&mut self, all: &[Sample]) -> Option<Self> {
        let places = |which: &dyn Fn(&Sample) -> bool| -> Vec<usize> {
            (0..self.samples.len()).filter(|&place| which(&all[self.samples[place]])).collect()
        };
        let open = places(&|sample| sample.finish.is_none());
        let spent = places(&Sample::can_go_on);
        let parted = (!spent.is_empty() && self.grows(all)).then(|| self.select(&spent));
        let kept = if parted.is_some() { places(&Sample::grows) } else { open };
        if parted.is_some() || 4 * (self.samples.len() - kept.len()) >= self.samples.len().max(1) {
            *self = self.select(&kept);
        }
        parted
    }

    fn select(&self, places: &[usize]) -> Self {
        Self {
            caches: self.caches.select(places),
            samples: places.iter().map(|&place| self.samples[place]).collect(),
        }
    }
}
