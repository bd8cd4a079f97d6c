//! Cross-entropy training of a causal language model on sequences: pretraining and SFT differ only in what the sequences are.

use std::rc::Rc;

use serde_json::Value;
use tch::Kind;

use crate::error::Result;
use crate::models::Lm;
use crate::monitor::glossary;
use crate::policy::LocalPolicy;
use crate::sampling::{Sampling, Stream};
use crate::search::{Extend, Proposer};
use crate::text::{PromptTemplate, Tokenizer};
use crate::train::{Sequence, StepLoss, Task, length_batches, sequence_logps};

/// What the model is asked to continue at each validation, for people to look at.
pub struct SamplePrompt {
    pub tokenizer: Rc<Tokenizer>,
    pub template: PromptTemplate,
    pub prompt: String,
    pub max_new_tokens: usize,
}

pub struct LanguageTask {
    pub lm: Rc<Lm>,
    pub train: Vec<Sequence>,
    pub validation: Vec<Sequence>,
    pub batch: usize,
    pub activation_checkpointing: bool,
    pub sample: SamplePrompt,
}

impl Task for LanguageTask {
    fn examples(&self) -> usize {
        self.train.len()
    }

    fn parameters(&self) -> Vec<(String, tch::Tensor)> {
        self.lm.trainable_parameters()
    }

    fn accumulate(&mut self, examples: &[usize]) -> Result<StepLoss> {
        let sequences: Vec<&Sequence> = examples.iter().map(|&i| &self.train[i]).collect();
        let (tokens, _) = sequence_logps(&self.lm.model, &alone(&sequences), self.activation_checkpointing)?;
        let loss = -tokens.logps.sum(Kind::Float);
        loss.f_backward()?;
        tokens.backward()?;
        let scored: usize = sequences.iter().map(|sequence| sequence.scored()).sum();
        let tokens = sequences.iter().map(|sequence| sequence.ids.len()).sum();
        Ok(StepLoss { loss: loss.double_value(&[]), weight: scored as f64, metrics: Vec::new(), tokens })
    }

    fn describe(&self, example: usize) -> Value {
        self.train[example].describe(&self.sample.tokenizer)
    }

    fn validate(&mut self) -> Result<Vec<(&'static str, f64)>> {
        let _no_grad = tch::no_grad_guard();
        let (mut loss, mut scored) = (0.0, 0);
        for batch in length_batches(&self.validation, self.batch) {
            let sequences: Vec<&Sequence> = batch.iter().map(|&i| &self.validation[i]).collect();
            let (tokens, _) = sequence_logps(&self.lm.model, &alone(&sequences), false)?;
            loss -= tokens.logps.sum(Kind::Double).double_value(&[]);
            scored += sequences.iter().map(|sequence| sequence.scored()).sum::<usize>();
        }
        Ok(if scored == 0 { Vec::new() } else { vec![(glossary::VALIDATION_LOSS, loss / scored as f64)] })
    }

    fn sample(&mut self) -> Result<Option<String>> {
        sample_text(&self.lm, &self.sample)
    }
}

/// Each sequence a group of its own.
fn alone<'a>(sequences: &[&'a Sequence]) -> Vec<Vec<&'a Sequence>> {
    sequences.iter().map(|sequence| vec![*sequence]).collect()
}

/// One continuation at temperature 0.7, top-k 50, the same random numbers each time, of as many tokens as the context has room for; `None`
/// where it has none.
pub fn sample_text(lm: &Rc<Lm>, sample: &SamplePrompt) -> Result<Option<String>> {
    let SamplePrompt { tokenizer, template, prompt, max_new_tokens } = sample;
    let room = (lm.model.info().context as usize).saturating_sub(template.encode(tokenizer, prompt)?.len());
    if room == 0 {
        return Ok(None);
    }
    let mut policy = LocalPolicy::new(lm.clone(), tokenizer.clone(), template.clone(), Sampling::new(0.7, 50, 1.0), Vec::new());
    let node = policy.open(&[prompt])?.remove(0);
    let stream = Stream::new(0, "sample", prompt);
    let extended = policy.extend(&[Extend { node, stream, slot: 0, max_tokens: room.min(*max_new_tokens) }])?;
    Ok(Some(format!("{prompt}{}", extended[0].response.text)))
}
