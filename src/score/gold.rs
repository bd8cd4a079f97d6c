//! The gold reward: r = log p(positive) − log p(negative) of a sentiment classifier on prompt + response.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::models::Classifier;
use crate::text::Tokenizer;

pub struct GoldReward {
    classifier: Classifier,
    tokenizer: Tokenizer,
    positive: i64,
}

impl GoldReward {
    pub fn open(folder: &Path, device: Device) -> Result<Self> {
        let classifier = Classifier::open(folder, device, Kind::Float)?;
        let positive = classifier.positive_label();
        Ok(Self { classifier, tokenizer: Tokenizer::open(folder)?, positive })
    }

    /// One reward for each text, by one padded forward pass over all of them; tokens beyond the classifier's context are cut.
    pub fn rewards(&self, texts: &[String]) -> Result<Vec<f64>> {
        let _no_grad = tch::no_grad_guard();
        let logits = classify(&self.classifier, &self.tokenizer, texts, self.classifier.config.max_position_embeddings as usize)?;
        // log p − log (1 − p): the softmax's denominators cancel, for two labels as for more.
        let logits = logits.to_kind(Kind::Float);
        let others =
            logits.slice_scatter(&logits.narrow(1, self.positive, 1).full_like(f64::NEG_INFINITY), 1, self.positive, self.positive + 1, 1);
        let difference = logits.select(1, self.positive) - others.logsumexp([-1], false);
        Ok(Vec::<f64>::try_from(difference.to_kind(Kind::Double))?)
    }

    /// Share of (text, label) that the sign of the reward gets right; label 1 is positive.
    pub fn accuracy(&self, texts: &[String], labels: &[u8], batch: usize) -> Result<f64> {
        let mut right = 0;
        for (texts, labels) in texts.chunks(batch).zip(labels.chunks(batch)) {
            right += self.rewards(texts)?.iter().zip(labels).filter(|&(reward, label)| (*reward > 0.0) == (*label == 1)).count();
        }
        Ok(right as f64 / texts.len().max(1) as f64)
    }
}

/// Logits (texts, num_labels) of `texts` padded to the longest and cut at `max_length` tokens.
pub fn classify(classifier: &Classifier, tokenizer: &Tokenizer, texts: &[String], max_length: usize) -> Result<Tensor> {
    let rows: Vec<Vec<i64>> = texts.iter().map(|text| tokenizer.encode_classifier(text, max_length)).collect::<Result<_>>()?;
    let width = rows.iter().map(Vec::len).max().unwrap_or(0);
    let pad = tokenizer.pad_id().unwrap_or(0);
    let (mut ids, mut mask) = (Vec::new(), Vec::new());
    for row in &rows {
        ids.extend(row.iter().copied().chain(std::iter::repeat_n(pad, width - row.len())));
        mask.extend((0..width).map(|i| i < row.len()));
    }
    let shape = [rows.len() as i64, width as i64];
    let device = classifier.device();
    Ok(classifier.logits(&Tensor::from_slice(&ids).view(shape).to_device(device), &Tensor::from_slice(&mask).view(shape).to_device(device)))
}
