//! What a judge says of a response, the gold reward among it: r = log p(positive) − log p(negative)
//! of a sentiment classifier on prompt + response, or what a reward model says of the text that its
//! `text` template makes of both.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::Reading;
use crate::error::{Error, Result};
use crate::models::config::{self, CLASSIFIER_TYPES};
use crate::models::{
    Classifier, ClassifierConfig, LmConfig, RewardHead, RewardModel, base_of_adapter,
    check_vocabulary,
};
use crate::prompt::PromptText;
use crate::text::Tokenizer;

/// A classifier or a reward model that tells how good responses are.
pub struct JudgeModel {
    network: Network,
    tokenizer: Tokenizer,
    reading: Reading,
}

#[expect(clippy::large_enum_variant, reason = "there is one in a run")]
enum Network {
    Classifier(Classifier),
    RewardModel(RewardModel),
}

/// Starling-RM reads no more.
const VALUE_HEAD_CONTEXT: i64 = 2048;

impl JudgeModel {
    /// Opens a classifier (always in f32) or a reward model (in `kind`). `text` replaces the layout
    /// that the judge was trained with: prompt and response as they follow each other, UltraRM's
    /// `Human: … Assistant: …`, or Starling-RM's chat turns.
    pub fn open(folder: &Path, device: Device, kind: Kind, text: Option<&str>) -> Result<Self> {
        let network = if Self::is_classifier_folder(folder)? {
            Network::Classifier(Classifier::open(folder, device, Kind::Float)?.packed())
        } else {
            Network::RewardModel(RewardModel::open(folder, device, kind)?.packed())
        };
        let own = match &network {
            Network::RewardModel(reward) => reward.head.layout(),
            Network::Classifier(_) => "{prompt}{response}",
        };
        let tokenizer = Tokenizer::open(folder)?;
        let vocab_size = match &network {
            Network::Classifier(classifier) => classifier.config.vocab_size(),
            Network::RewardModel(reward) => reward.info().vocab_size,
        };
        check_vocabulary(folder, &tokenizer, vocab_size)?;
        Ok(Self { network, tokenizer, reading: Reading::new(own, text) })
    }

    /// Whether the folder holds a judge that can be opened, as far as config, tokenizer and the
    /// headers of the weights tell.
    pub fn check_folder(folder: &Path) -> Result<()> {
        let model = if Self::is_classifier_folder(folder)? {
            Classifier::check_folder(folder)
        } else {
            RewardModel::check_folder(folder)
        };
        check_tokenizer(folder, model)
    }

    /// The same of a folder whose weights are not there yet.
    pub fn check_config(folder: &Path) -> Result<()> {
        check_tokenizer(folder, vocab_size(folder).map(drop))
    }

    /// Whether the folder holds a classifier, or an adapter of one; else it can only hold a reward
    /// model.
    pub fn is_classifier_folder(folder: &Path) -> Result<bool> {
        let base = base_of_adapter(folder)?;
        Ok(CLASSIFIER_TYPES
            .contains(&config::model_type(base.as_deref().unwrap_or(folder))?.as_str()))
    }

    /// Whether the sign of the reward says positive or negative; a reward model's zero means
    /// nothing.
    pub fn is_classifier(&self) -> bool {
        matches!(self.network, Network::Classifier(_))
    }

    /// One reward for each (prompt, response), by one padded forward pass over all of them. A
    /// classifier's text is cut after its context, a reward model's before, where the response is
    /// not.
    pub fn rewards(&self, answers: &[(&PromptText, &str)]) -> Result<Vec<f64>> {
        let _no_grad = tch::no_grad_guard();
        // The layout says what ends a text; an end token in the response would be another one.
        let ends: Vec<i64> = self
            .tokenizer
            .eos_id()
            .into_iter()
            .chain(self.tokenizer.added()?[1].iter().copied())
            .collect();
        let said = |response| self.tokenizer.split_end(response, &ends).0;
        let rewards = match &self.network {
            Network::Classifier(classifier) => {
                let rows = answers.iter().map(|&(prompt, response)| {
                    let text = self.reading.text(&self.tokenizer, prompt, said(response))?;
                    self.tokenizer.encode_classifier(&text, classifier.config.context() as usize)
                });
                log_odds(classifier, &self.tokenizer, &rows.collect::<Result<Vec<_>>>()?)
            }
            Network::RewardModel(reward) => {
                let rows = answers.iter().map(|&(prompt, response)| {
                    self.reading.ids(&self.tokenizer, prompt, said(response))
                });
                self.model_rewards(reward, rows.collect::<Result<Vec<_>>>()?)?
            }
        };
        let rewards = Vec::<f64>::try_from(rewards.to_kind(Kind::Double))?;
        match rewards.iter().position(|reward| !reward.is_finite()) {
            None => Ok(rewards),
            Some(row) => Err(Error::failed(format!(
                "the gold reward is {} for the text {:?}",
                rewards[row],
                self.reading.text(&self.tokenizer, answers[row].0, answers[row].1)?
            ))),
        }
    }

    /// [`Self::rewards`] of any number of answers, `batch` of like length in one pass, so that
    /// little of it is padding.
    pub fn rewards_by_length(
        &self,
        answers: &[(&PromptText, &str)],
        batch: usize,
    ) -> Result<Vec<f64>> {
        let mut order: Vec<usize> = (0..answers.len()).collect();
        order.sort_by_key(|&answer| answers[answer].0.len() + answers[answer].1.len());
        let mut rewards = vec![0.0; answers.len()];
        for batch in order.chunks(batch) {
            let texts: Vec<(&PromptText, &str)> =
                batch.iter().map(|&answer| answers[answer]).collect();
            for (&answer, found) in batch.iter().zip(self.rewards(&texts)?) {
                rewards[answer] = found;
            }
        }
        Ok(rewards)
    }

    /// Share of (text, label) that the sign of the reward gets right; label 1 is positive.
    pub fn accuracy(&self, texts: &[String], labels: &[u8], batch: usize) -> Result<f64> {
        let (mut right, nothing) = (0, PromptText::default());
        for (texts, labels) in texts.chunks(batch).zip(labels.chunks(batch)) {
            let answers = texts.iter().map(|text| (&nothing, text.as_str()));
            right += self
                .rewards(&answers.collect::<Vec<_>>())?
                .iter()
                .zip(labels)
                .filter(|&(reward, label)| (*reward > 0.0) == (*label == 1))
                .count();
        }
        Ok(right as f64 / texts.len().max(1) as f64)
    }

    /// One reward for each row of ids, which is cut before where it does not fit the context.
    fn model_rewards(&self, reward: &RewardModel, mut rows: Vec<Vec<i64>>) -> Result<Tensor> {
        let mut context = reward.info().context;
        if reward.head == RewardHead::Value {
            context = context.min(VALUE_HEAD_CONTEXT);
        }
        for row in &mut rows {
            row.drain(..row.len().saturating_sub(context as usize));
            if row.is_empty() {
                return Err(Error::failed("an empty text has no reward"));
            }
            // Starling-RM looks for its padding, id 0, to find the end, also where the text itself
            // holds it.
            if let Some(end) =
                row.iter().position(|&id| id == 0).filter(|_| reward.head == RewardHead::Value)
            {
                let text = self.tokenizer.decode_with_special(row)?;
                row.truncate(end);
                if row.is_empty() {
                    return Err(Error::failed(format!(
                        "the text begins with the token 0, which ends it: {text:?}"
                    )));
                }
            }
        }
        Ok(reward.rewards_of(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>()))
    }
}

fn vocab_size(folder: &Path) -> Result<i64> {
    Ok(if JudgeModel::is_classifier_folder(folder)? {
        ClassifierConfig::read(folder)?.vocab_size()
    } else {
        LmConfig::read(base_of_adapter(folder)?.as_deref().unwrap_or(folder))?.vocab_size()
    })
}

/// What is wrong with the judge's tokenizer, beside what is wrong with its `model`.
fn check_tokenizer(folder: &Path, model: Result<()>) -> Result<()> {
    let tokenizer = Tokenizer::open(folder);
    let vocabulary = match (&tokenizer, vocab_size(folder)) {
        (Ok(tokenizer), Ok(vocab_size)) => check_vocabulary(folder, tokenizer, vocab_size).err(),
        _ => None,
    };
    Error::and_all(folder, model, tokenizer.err().into_iter().chain(vocabulary))
}

/// log p(positive) − log (1 − p(positive)): the softmax's denominators cancel, for two labels as
/// for more.
fn log_odds(classifier: &Classifier, tokenizer: &Tokenizer, rows: &[Vec<i64>]) -> Tensor {
    let positive = classifier.positive_label();
    let logits = logits_of(classifier, tokenizer, rows).to_kind(Kind::Float);
    let nothing = logits.narrow(1, positive, 1).full_like(f64::NEG_INFINITY);
    let others = logits.slice_scatter(&nothing, 1, positive, positive + 1, 1);
    logits.select(1, positive) - others.logsumexp([-1], false)
}

/// Logits (texts, num_labels) of `texts` padded to the longest and cut at `max_length` tokens.
pub fn classify(
    classifier: &Classifier,
    tokenizer: &Tokenizer,
    texts: &[String],
    max_length: usize,
) -> Result<Tensor> {
    let rows: Vec<Vec<i64>> = texts
        .iter()
        .map(|text| tokenizer.encode_classifier(text, max_length))
        .collect::<Result<_>>()?;
    Ok(logits_of(classifier, tokenizer, &rows))
}

/// Logits (rows, num_labels) of rows padded to the longest.
fn logits_of(classifier: &Classifier, tokenizer: &Tokenizer, rows: &[Vec<i64>]) -> Tensor {
    let pad = tokenizer.pad_id().filter(|&id| id < classifier.config.vocab_size());
    let (ids, mask) = padded(rows, pad.unwrap_or(0));
    let device = classifier.device();
    classifier.logits(&ids.to_device(device), &mask.to_device(device))
}

/// Right-padded ids and what of them is real, both (rows, longest).
fn padded(rows: &[Vec<i64>], pad: i64) -> (Tensor, Tensor) {
    let width = rows.iter().map(Vec::len).max().unwrap_or(0);
    let (mut ids, mut real) = (Vec::new(), Vec::new());
    for row in rows {
        ids.extend(row.iter().copied().chain(std::iter::repeat_n(pad, width - row.len())));
        real.extend((0..width).map(|column| column < row.len()));
    }
    let shape = [rows.len() as i64, width as i64];
    (Tensor::from_slice(&ids).view(shape), Tensor::from_slice(&real).view(shape))
}
