//! Token sequences of which a part is scored, and their log-probabilities under a model being trained.

use serde_json::{Value, json};
use tch::Tensor;

use super::TokenLogps;
use super::hidden_pass::HiddenPass;
use crate::error::{Error, Result};
use crate::models::{CausalLm, Packing, Span};
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

    /// The ids that are read and not scored.
    pub fn prompt(&self) -> &[i64] {
        &self.ids[..self.scored_from]
    }

    /// The ids that are scored.
    pub fn response(&self) -> &[i64] {
        &self.ids[self.scored_from..]
    }

    /// Ids and text, for people to look at.
    pub fn describe(&self, tokenizer: &Tokenizer) -> Value {
        let text = |ids: &[i64]| tokenizer.decode(ids).unwrap_or_default();
        json!({ "prompt": text(self.prompt()), "response": text(self.response()), "ids": self.ids, "scored_from": self.scored_from })
    }

    pub fn scored(&self) -> usize {
        self.ids.len() - self.scored_from
    }
}

/// What one forward pass over packed sequences gives.
pub(super) struct Packed<'a> {
    /// (tokens, hidden_size) in the weights' kind: the state that predicts each scored token, row after row.
    pub states: Tensor,
    pub pass: HiddenPass<'a>,
    /// The scored tokens.
    pub targets: Vec<i64>,
    /// The row of each.
    rows: Vec<i64>,
}

/// Log-probabilities of all scored tokens of all sequences, row after row, by one forward pass without padding, and the row number of each
/// (i64). The sequences of a group continue one prompt (the ids before `scored_from`), which is read once for all of them. With `recompute`
/// activations are not kept for the way back, but computed again.
///
/// # Errors
/// If a sequence does not fit the model's context, or the sequences of a group differ in their prompts.
pub fn sequence_logps<'a>(model: &'a CausalLm, groups: &[Vec<&Sequence>], recompute: bool) -> Result<(TokenLogps<'a>, Tensor)> {
    sequence_logps_at(model, groups, recompute, 1.0)
}

/// [`sequence_logps`] under softmax(logits / `temperature`).
pub fn sequence_logps_at<'a>(
    model: &'a CausalLm,
    groups: &[Vec<&Sequence>],
    recompute: bool,
    temperature: f64,
) -> Result<(TokenLogps<'a>, Tensor)> {
    let Packed { states, pass, targets, rows } = read_packed(model, groups, recompute)?;
    let rows = Tensor::from_slice(&rows).to_device(states.device());
    Ok((TokenLogps::new(model, pass, states, targets, temperature)?, rows))
}

/// The forward pass of [`sequence_logps`] without the head.
pub(super) fn read_packed<'a>(model: &'a CausalLm, groups: &[Vec<&Sequence>], recompute: bool) -> Result<Packed<'a>> {
    let (mut ids, mut packing) = (Vec::new(), Packing::default());
    let (mut places, mut targets, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    let mut row = 0;
    for group in groups {
        let Some(first) = group.first() else { continue };
        let prompt = first.prompt();
        if group.iter().any(|sequence| sequence.prompt() != prompt) {
            return Err(Error::failed("sequences of one group continue different prompts"));
        }
        let longest = group.iter().map(|sequence| sequence.ids.len()).max().unwrap_or(0) as i64;
        if longest > model.info().context {
            let context = model.info().context;
            return Err(Error::failed(format!("a sequence of {longest} tokens does not fit the model's context of {context}")));
        }
        let shared = (group.len() > 1).then(|| {
            ids.extend(prompt);
            packing.push(Span { tokens: prompt.len() as i64, after: None })
        });
        let last_of_prompt = ids.len() as i64 - 1;
        for sequence in group {
            let start = ids.len() as i64;
            let own = if shared.is_some() { sequence.response() } else { &sequence.ids };
            ids.extend(own);
            if !own.is_empty() {
                packing.push(Span { tokens: own.len() as i64, after: shared });
            }
            // The place whose hidden state predicts each scored token: that of the token before it.
            let scored = sequence.scored() as i64;
            match shared {
                Some(_) => places.extend((0..scored).map(|token| if token == 0 { last_of_prompt } else { start + token - 1 })),
                None => places.extend((0..scored).map(|token| start + sequence.scored_from as i64 + token - 1)),
            }
            targets.extend(sequence.response());
            rows.extend(std::iter::repeat_n(row, scored as usize));
            row += 1;
        }
    }
    let device = model.device();
    let tensor = |values: &[i64]| Tensor::from_slice(values).to_device(device);
    let (tokens, positions) = (tensor(&ids).unsqueeze(0), tensor(&packing.positions()).unsqueeze(0));
    let (hidden, pass) = HiddenPass::forward(model, tokens, positions, packing, recompute);
    let states = hidden.squeeze_dim(0).index_select(0, &tensor(&places));
    Ok(Packed { states, pass, targets, rows })
}

/// Places of `sequences` grouped into batches of similar length, so that little is padded; for validation, where order does not matter.
pub fn length_batches(sequences: &[Sequence], batch: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..sequences.len()).collect();
    order.sort_by_key(|&i| sequences[i].ids.len());
    order.chunks(batch.max(1)).map(<[usize]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tch::{Device, Kind};

    use super::*;
    use crate::models::Lm;

    #[test]
    fn documents_become_windows_with_bos_and_eos_at_the_ends() {
        let document: Vec<i64> = (10..27).collect();
        let windows = Sequence::windows(&document, Some(1), Some(2), 10);
        assert_eq!(windows.len(), 2);
        assert_eq!(windows[0].ids, [1, 10, 11, 12, 13, 14, 15, 16, 17, 18]);
        assert_eq!(windows[1].ids, [19, 20, 21, 22, 23, 24, 25, 26, 2]);
        assert_eq!(Sequence::windows(&document[..10], Some(1), Some(2), 10).len(), 1, "a tail of two tokens is dropped");
    }

    fn model(name: &str) -> Lm {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        Lm::open_trainable(&folder, Device::Cpu, Kind::Float).unwrap()
    }

    /// Two continuations of one prompt and one of another, each scored with its own sign and size.
    fn groups() -> Vec<Vec<Sequence>> {
        let sequence = |ids: &[i64], scored_from: usize| Sequence { ids: ids.to_vec(), scored_from };
        let shared = vec![sequence(&[5, 6, 7, 8, 9, 10, 11], 4), sequence(&[5, 6, 7, 8, 20, 21, 22, 23, 24, 25], 4)];
        vec![shared, vec![sequence(&[40, 41, 42, 43, 44], 1)]]
    }

    fn gradients(lm: &Lm) -> Vec<(String, Tensor)> {
        lm.parameters().into_iter().map(|(name, parameter)| (name, parameter.grad().copy())).collect()
    }

    /// Values and gradients by one plain forward pass for each sequence and libtorch's own log-softmax.
    fn expected(lm: &Lm, groups: &[Vec<Sequence>], factors: &Tensor) -> (Tensor, Vec<(String, Tensor)>) {
        let rows = groups.iter().flatten().map(|sequence| {
            let ids = Tensor::from_slice(&sequence.ids).unsqueeze(0);
            let positions = Tensor::arange(sequence.ids.len() as i64, (Kind::Int64, Device::Cpu)).unsqueeze(0);
            let hidden = lm.model.hidden(&crate::models::Input { ids: &ids, positions: &positions, valid: None, packing: None });
            let logps = lm.model.logits(&hidden).squeeze_dim(0).log_softmax(-1, Kind::Float);
            let (from, count) = (sequence.scored_from as i64, sequence.scored() as i64);
            logps.narrow(0, from - 1, count).gather(1, &ids.squeeze_dim(0).narrow(0, from, count).unsqueeze(-1), false).squeeze_dim(-1)
        });
        let logps = Tensor::cat(&rows.collect::<Vec<_>>(), 0);
        (&logps * factors).sum(Kind::Float).backward();
        (logps.detach(), gradients(lm))
    }

    #[test]
    fn packed_log_probabilities_and_gradients_are_those_of_plain_forward_passes() {
        for name in ["gpt2", "llama", "mistral", "qwen2"] {
            let (groups, factors) = (groups(), Tensor::linspace(-1.0, 2.0, 13, (Kind::Float, Device::Cpu)));
            let (values, exact) = expected(&model(name), &groups, &factors);
            let asked: Vec<Vec<&Sequence>> = groups.iter().map(|group| group.iter().collect()).collect();
            for recompute in [false, true] {
                let lm = model(name);
                let (tokens, rows) = sequence_logps(&lm.model, &asked, recompute).unwrap();
                assert_eq!(Vec::<i64>::try_from(rows).unwrap(), [0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2]);
                let error = (tokens.logps.detach() - &values).abs().max().double_value(&[]);
                assert!(error < 1e-5, "{name}: {error}");
                (&tokens.logps * &factors).sum(Kind::Float).backward();
                tokens.backward().unwrap();
                for ((name, found), (_, exact)) in gradients(&lm).iter().zip(&exact) {
                    let error = (found - exact).abs().max().double_value(&[]);
                    assert!(error < 2e-5 * (1.0 + exact.abs().max().double_value(&[])), "{name}, recompute {recompute}: {error}");
                }
            }
        }
    }

    #[test]
    fn sequences_of_a_group_must_share_their_prompt() {
        let lm = model("gpt2");
        let [first, second] = [vec![1, 2, 3], vec![1, 5, 3]].map(|ids| Sequence { ids, scored_from: 2 });
        let error = sequence_logps(&lm.model, &[vec![&first, &second]], false).err().unwrap().to_string();
        assert!(error.contains("different prompts"), "{error}");
    }
}
