//! What is trained: examples, parameters, a loss and its gradients, and how a batch of them is gathered in micro-batches.

use serde_json::Value;
use tch::Tensor;

use super::AdamW;
use crate::error::Result;

/// What one micro-batch gave.
pub struct StepLoss {
    /// Sum (not mean) of the losses.
    pub loss: f64,
    /// What the sum is a sum over (tokens, pairs, texts): the step's loss is Σ loss / Σ weight over its micro-batches.
    pub weight: f64,
    /// Name, sum, and number of things summed.
    pub metrics: Vec<(&'static str, f64, f64)>,
    /// Real tokens read, padding not counted.
    pub tokens: usize,
}

/// Something that can be trained by example.
pub trait Task {
    fn examples(&self) -> usize;
    fn parameters(&self) -> Vec<(String, Tensor)>;
    /// What the step's learning rate is multiplied by for the parameter `name`.
    fn learning_rate_factor(&self, _name: &str) -> f64 {
        1.0
    }
    /// Adds the gradients of the summed loss of `examples` to the parameters'.
    fn accumulate(&mut self, examples: &[usize]) -> Result<StepLoss>;
    /// Values on held-out data; the first is the one to minimise. Empty where there is nothing to validate on.
    fn validate(&mut self) -> Result<Vec<(&'static str, f64)>>;
    /// What the loss is before anything has been learned, whatever the examples; `None` where it depends on them.
    fn loss_at_start(&self) -> Option<f64> {
        None
    }
    /// A text to look at, made by the model as it stands.
    fn sample(&mut self) -> Result<Option<String>> {
        Ok(None)
    }
    /// One training example as a person would want to see it.
    fn describe(&self, example: usize) -> Value;
}

/// The gradients of the summed loss of `batch`, in micro-batches, and the sums over all of them.
pub fn accumulate(task: &mut dyn Task, optimizer: &mut AdamW, batch: &[usize], micro_batch_size: usize) -> Result<StepLoss> {
    optimizer.zero_gradients();
    let mut total = StepLoss { loss: 0.0, weight: 0.0, metrics: Vec::new(), tokens: 0 };
    for micro_batch in batch.chunks(micro_batch_size) {
        let output = task.accumulate(micro_batch)?;
        if batch.len() > micro_batch.len() {
            optimizer.add_gradients()?;
        }
        total.loss += output.loss;
        total.weight += output.weight;
        total.tokens += output.tokens;
        for (name, sum, count) in output.metrics {
            match total.metrics.iter_mut().find(|(known, ..)| *known == name) {
                Some(entry) => (entry.1, entry.2) = (entry.1 + sum, entry.2 + count),
                None => total.metrics.push((name, sum, count)),
            }
        }
    }
    Ok(total)
}
