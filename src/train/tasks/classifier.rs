//! The training of a sentiment classifier on labelled texts. Its texts come from the stage.

use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::super::metrics::Metrics;
use super::super::task::{StepLoss, Task};
use super::rewards::sum;
use crate::error::Result;
use crate::losses::{ClassificationOutput, classification};
use crate::models::Classifier;
use crate::monitor::glossary;
use crate::score::classify;
use crate::text::Tokenizer;

/// Texts in one forward pass where nothing is learned.
const BATCH: usize = 64;

pub struct ClassifierTask {
    pub classifier: Classifier,
    pub tokenizer: Tokenizer,
    /// Texts and their labels.
    pub train: Vec<(String, u8)>,
    pub validation: Vec<(String, u8)>,
    /// Tokens that are read of a text.
    pub max_length: usize,
}

impl ClassifierTask {
    /// Losses and accuracies, (texts) each.
    fn classify(&self, examples: &[&(String, u8)]) -> Result<ClassificationOutput> {
        let texts: Vec<String> = examples.iter().map(|(text, _)| text.clone()).collect();
        let labels: Vec<i64> = examples.iter().map(|(_, label)| i64::from(*label)).collect();
        let logits = classify(&self.classifier, &self.tokenizer, &texts, self.max_length)?;
        Ok(classification(&logits, &Tensor::from_slice(&labels).to_device(logits.device())))
    }
}

impl Task for ClassifierTask {
    fn examples(&self) -> usize {
        self.train.len()
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.classifier.parameters()
    }

    fn accumulate(&mut self, examples: &[usize]) -> Result<StepLoss> {
        let batch: Vec<&(String, u8)> = examples.iter().map(|&i| &self.train[i]).collect();
        let (output, count) = (self.classify(&batch)?, batch.len() as f64);
        let loss = output.losses.sum(Kind::Float);
        loss.f_backward()?;
        let mut metrics = Metrics::default();
        metrics.add(glossary::LOSS, loss.double_value(&[]), count);
        metrics.add(glossary::ACCURACY, sum(&output.accuracies), count);
        Ok(StepLoss {
            metrics,
            tokens: batch.iter().map(|(text, _)| text.split_whitespace().count()).sum(),
        })
    }

    fn describe(&self, example: usize) -> Value {
        let (text, label) = &self.train[example];
        json!({ "text": text, "label": label })
    }

    fn validate(&mut self) -> Result<Metrics> {
        let _no_grad = tch::no_grad_guard();
        let mut metrics = Metrics::default();
        let examples: Vec<&(String, u8)> = self.validation.iter().collect();
        for batch in examples.chunks(BATCH) {
            let output = self.classify(batch)?;
            metrics.add(glossary::LOSS, sum(&output.losses), batch.len() as f64);
            metrics.add(glossary::ACCURACY, sum(&output.accuracies), batch.len() as f64);
        }
        Ok(metrics)
    }
}
