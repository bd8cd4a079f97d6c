//! What is trained: examples, parameters, a loss and its gradients, and how a batch of them is
//! gathered in micro-batches.

use serde_json::Value;
use tch::Tensor;

use super::adamw::AdamW;
use super::metrics::Metrics;
use crate::error::Result;

/// What one micro-batch gave.
#[derive(Debug, Default)]
pub struct StepLoss {
    /// Among them [`LOSS`](crate::monitor::glossary::LOSS): the sum (not the mean) of the losses,
    /// and what it is a sum over (tokens, pairs, texts). The step's loss is their mean over all of
    /// its micro-batches.
    pub metrics: Metrics,
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
    /// Means on held-out data, among them [`LOSS`](crate::monitor::glossary::LOSS), which is to be
    /// the least; none where there is nothing to validate on.
    fn validate(&mut self) -> Result<Metrics>;
    /// What the loss is before anything has been learned, whatever the examples; `None` where it
    /// depends on them.
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
pub fn accumulate(
    task: &mut dyn Task,
    optimizer: &mut AdamW,
    batch: &[usize],
    micro_batch_size: usize,
) -> Result<StepLoss> {
    optimizer.zero_gradients();
    let mut total = StepLoss::default();
    for micro_batch in batch.chunks(micro_batch_size) {
        let StepLoss { metrics, tokens } = task.accumulate(micro_batch)?;
        if batch.len() > micro_batch.len() {
            optimizer.add_gradients()?;
        }
        total.metrics.merge(metrics);
        total.tokens += tokens;
    }
    Ok(total)
}
