//! Cross-entropy training of a causal language model on sequences: pretraining and SFT differ only
//! in what the sequences are.

use std::rc::Rc;

use serde_json::Value;
use tch::{Kind, Tensor};

use super::super::metrics::Metrics;
use super::super::sequence::Sequence;
use super::super::sequences::{alone, length_batches, sequence_logps};
use super::super::task::{StepLoss, Task};
use crate::error::Result;
use crate::models::Lm;
use crate::monitor::glossary;
use crate::text::Tokenizer;

/// Makes a text to look at with the model as it stands; `None` where there is nothing to make one
/// of.
pub type SampleText = Box<dyn FnMut() -> Result<Option<String>>>;

pub struct LanguageTask {
    pub lm: Rc<Lm>,
    /// For examples as people read them.
    pub tokenizer: Rc<Tokenizer>,
    pub train: Vec<Sequence>,
    pub validation: Vec<Sequence>,
    /// Sequences of one forward pass where nothing is learned.
    pub batch: usize,
    pub activation_checkpointing: bool,
    pub sample: SampleText,
}

impl Task for LanguageTask {
    fn examples(&self) -> usize {
        self.train.len()
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.lm.trainable_parameters()
    }

    fn accumulate(&mut self, examples: &[usize]) -> Result<StepLoss> {
        let sequences: Vec<&Sequence> = examples.iter().map(|&i| &self.train[i]).collect();
        let (tokens, _) =
            sequence_logps(&self.lm.model, &alone(&sequences), self.activation_checkpointing)?;
        let loss = -tokens.logps.sum(Kind::Float);
        tokens.learn(&loss)?;
        let mut metrics = Metrics::default();
        metrics.add(glossary::LOSS, loss.double_value(&[]), scored(&sequences));
        Ok(StepLoss { metrics, tokens: sequences.iter().map(|sequence| sequence.ids.len()).sum() })
    }

    fn describe(&self, example: usize) -> Value {
        self.train[example].describe(&self.tokenizer)
    }

    fn validate(&mut self) -> Result<Metrics> {
        let _no_grad = tch::no_grad_guard();
        let mut metrics = Metrics::default();
        for batch in length_batches(&self.validation, self.batch) {
            let sequences: Vec<&Sequence> = batch.iter().map(|&i| &self.validation[i]).collect();
            let (tokens, _) = sequence_logps(&self.lm.model, &alone(&sequences), false)?;
            metrics.add(
                glossary::LOSS,
                -tokens.logps.sum(Kind::Double).double_value(&[]),
                scored(&sequences),
            );
        }
        Ok(metrics)
    }

    fn sample(&mut self) -> Result<Option<String>> {
        (self.sample)()
    }
}

fn scored(sequences: &[&Sequence]) -> f64 {
    sequences.iter().map(|sequence| sequence.scored()).sum::<usize>() as f64
}
