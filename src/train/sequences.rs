//! Token sequences of which a part is scored, and their log-probabilities under a model being trained.

use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::losses::token_logps;
use crate::models::{CausalLm, Input};
use crate::text::{PromptTemplate, Tokenizer};

/// Ids, of which those from `scored_from` (at least 1) on are predicted and scored.
#[derive(Debug, Clone, PartialEq)]
pub struct Sequence {
    pub ids: Vec<i64>,
    pub scored_from: usize,
}

impl Sequence {
    /// Prompt, response, and EOS if the response is complete: just what search feeds and scores. `None` where the response is empty and
    /// incomplete, or the whole does not fit `max_length` tokens.
    pub fn of_response(
        tokenizer: &Tokenizer,
        template: &PromptTemplate,
        prompt: &str,
        response: &str,
        eos: Option<i64>,
        max_length: usize,
    ) -> Result<Option<Self>> {
        let mut ids = template.encode(tokenizer, prompt)?;
        let scored_from = ids.len();
        ids.extend(tokenizer.encode_continuation(response)?);
        ids.extend(eos);
        Ok((ids.len() > scored_from && ids.len() <= max_length).then_some(Self { ids, scored_from }))
    }

    /// A document cut into windows of at most `max_length` tokens: BOS before the first, EOS after the last. Windows of fewer than 8
    /// tokens are dropped unless they are all there is.
    pub fn windows(document: &[i64], bos: Option<i64>, eos: Option<i64>, max_length: usize) -> Vec<Self> {
        let ids: Vec<i64> = bos.into_iter().chain(document.iter().copied()).chain(eos).collect();
        (ids.chunks(max_length).enumerate())
            .filter(|(i, window)| window.len() >= if *i == 0 { 2 } else { 8 })
            .map(|(_, window)| Self { ids: window.to_vec(), scored_from: 1 })
            .collect()
    }

    pub fn scored(&self) -> usize {
        self.ids.len() - self.scored_from
    }
}

/// Log-probabilities (f32, with a graph where grad mode is on) of all scored tokens of `sequences`, row after row, and the row number of
/// each (i64). One forward pass, padded on the right: a causal model never sees that padding.
pub fn sequence_logps(model: &CausalLm, sequences: &[&Sequence]) -> Result<(Tensor, Tensor)> {
    let width = sequences.iter().map(|sequence| sequence.ids.len()).max().unwrap_or(0);
    if width > model.info().context as usize {
        return Err(Error::failed(format!("a sequence of {width} tokens does not fit the model's context of {}", model.info().context)));
    }
    let (mut ids, mut places, mut targets, mut rows) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (row, sequence) in sequences.iter().enumerate() {
        for place in sequence.scored_from..sequence.ids.len() {
            places.push((row * width + place - 1) as i64);
            targets.push(sequence.ids[place]);
            rows.push(row as i64);
        }
        ids.extend(sequence.ids.iter().copied().chain(std::iter::repeat_n(0, width - sequence.ids.len())));
    }
    let device = model.device();
    let tensor = |values: &[i64]| Tensor::from_slice(values).to_device(device);
    let shape = [sequences.len() as i64, width as i64];
    let positions = Tensor::arange(width as i64, (Kind::Int64, device)).unsqueeze(0).expand(shape, false);
    let hidden = model.hidden(&Input { ids: &tensor(&ids).view(shape), positions: &positions, valid: None });
    let predicting = hidden.flatten(0, 1).index_select(0, &tensor(&places));
    Ok((token_logps(&model.logits(&predicting), &tensor(&targets)), tensor(&rows)))
}

/// Places of `sequences` grouped into batches of similar length, so that little is padded; for validation, where order does not matter.
pub fn length_batches(sequences: &[Sequence], batch: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..sequences.len()).collect();
    order.sort_by_key(|&i| sequences[i].ids.len());
    order.chunks(batch.max(1)).map(<[usize]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_become_windows_with_bos_and_eos_at_the_ends() {
        let document: Vec<i64> = (10..27).collect();
        let windows = Sequence::windows(&document, Some(1), Some(2), 10);
        assert_eq!(windows.len(), 2);
        assert_eq!(windows[0].ids, [1, 10, 11, 12, 13, 14, 15, 16, 17, 18]);
        assert_eq!(windows[1].ids, [19, 20, 21, 22, 23, 24, 25, 26, 2]);
        assert_eq!(Sequence::windows(&document[..10], Some(1), Some(2), 10).len(), 1, "a tail of two tokens is dropped");
    }
}
