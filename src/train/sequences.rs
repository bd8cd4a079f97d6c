//! Log-probabilities of the scored parts of sequences under a model being trained, many sequences in
//! one pass. How texts become sequences is in `sequence.rs`.

use tch::Tensor;

use super::hidden_pass::HiddenPass;
use super::sequence::Sequence;
use super::token_logps::TokenLogps;
use crate::error::{Error, Result};
use crate::models::{CausalLm, Packing, Span};

/// Hidden states of one forward pass over packed sequences.
pub(super) struct PackedStates<'a> {
    /// (places, hidden_size) in the weights' kind.
    pub states: Tensor,
    pass: HiddenPass<'a>,
}

impl PackedStates<'_> {
    /// The backward pass of `loss`, a scalar made of the states, to the weights.
    pub fn learn(self, loss: &Tensor) -> Result<()> {
        loss.f_backward()?;
        self.pass.backward()
    }
}

/// A sequence in its row of tokens: where its prompt begins, which others may share, and where what
/// is its own.
struct Packed<'a> {
    sequence: &'a Sequence,
    prompt: i64,
    own: i64,
}

impl Packed<'_> {
    /// Where token `index` of the sequence stands.
    fn place(&self, index: usize) -> i64 {
        let behind = index as i64 - self.sequence.scored_from as i64;
        if behind < 0 { self.prompt + index as i64 } else { self.own + behind }
    }

    /// The places whose hidden states predict the scored tokens: those of the tokens before them.
    fn predicting(&self) -> Vec<i64> {
        (self.sequence.scored_from..self.sequence.ids.len())
            .map(|index| self.place(index - 1))
            .collect()
    }

    /// The place of the last token.
    fn last(&self) -> Vec<i64> {
        vec![self.place(self.sequence.ids.len() - 1)]
    }
}

/// Log-probabilities of all scored tokens of all sequences, row after row, by one forward pass
/// without padding, and the row number of each (i64). The sequences of a group continue one prompt
/// (the ids before `scored_from`), which is read once for all of them. With `recompute` activations
/// are not kept for the way back, but computed again.
///
/// # Errors
/// If a sequence does not fit the model's context, or the sequences of a group differ in their
/// prompts.
pub fn sequence_logps<'a>(
    model: &'a CausalLm,
    groups: &[Vec<&Sequence>],
    recompute: bool,
) -> Result<(TokenLogps<'a>, Tensor)> {
    sequence_logps_at(model, groups, recompute, 1.0)
}

/// [`sequence_logps`] under softmax(logits / `temperature`).
pub fn sequence_logps_at<'a>(
    model: &'a CausalLm,
    groups: &[Vec<&Sequence>],
    recompute: bool,
    temperature: f64,
) -> Result<(TokenLogps<'a>, Tensor)> {
    let PackedStates { states, pass } = read_predicting(model, groups, recompute)?;
    let scored = groups.iter().flatten().map(|sequence| sequence.scored());
    let rows: Vec<i64> =
        (0..).zip(scored).flat_map(|(row, scored)| std::iter::repeat_n(row, scored)).collect();
    let targets =
        groups.iter().flatten().flat_map(|sequence| sequence.response()).copied().collect();
    let rows = Tensor::from_slice(&rows).to_device(states.device());
    Ok((TokenLogps::new(model, pass, states, targets, temperature)?, rows))
}

/// The forward pass of [`sequence_logps`] without the head: the state that predicts each scored
/// token, row after row.
pub(super) fn read_predicting<'a>(
    model: &'a CausalLm,
    groups: &[Vec<&Sequence>],
    recompute: bool,
) -> Result<PackedStates<'a>> {
    read_states(model, groups, recompute, |packed| packed.predicting())
}

/// The state of the last token of each sequence, row after row, by such a pass.
pub(super) fn read_last<'a>(
    model: &'a CausalLm,
    groups: &[Vec<&Sequence>],
    recompute: bool,
) -> Result<PackedStates<'a>> {
    read_states(model, groups, recompute, |packed| packed.last())
}

/// The states at the `places` of each sequence.
fn read_states<'a>(
    model: &'a CausalLm,
    groups: &[Vec<&Sequence>],
    recompute: bool,
    places: impl Fn(&Packed) -> Vec<i64>,
) -> Result<PackedStates<'a>> {
    let (mut ids, mut packing, mut wanted) = (Vec::new(), Packing::default(), Vec::new());
    for group in groups {
        check_group(group, model.info().context)?;
        let packed = pack(group, &mut ids, &mut packing);
        wanted.extend(packed.iter().flat_map(&places));
    }
    let device = model.device();
    let tensor = |values: &[i64]| Tensor::from_slice(values).to_device(device);
    let (tokens, positions) =
        (tensor(&ids).unsqueeze(0), tensor(&packing.positions()).unsqueeze(0));
    let (hidden, pass) = HiddenPass::forward(model, tokens, positions, packing, recompute);
    Ok(PackedStates { states: hidden.squeeze_dim(0).index_select(0, &tensor(&wanted)), pass })
}

/// Refuses sequences that continue different prompts, or do not fit `context` tokens.
fn check_group(group: &[&Sequence], context: i64) -> Result<()> {
    if group.iter().any(|sequence| sequence.prompt() != group[0].prompt()) {
        return Err(Error::failed("sequences of one group continue different prompts"));
    }
    match group.iter().map(|sequence| sequence.ids.len() as i64).max() {
        Some(longest) if longest > context => Err(Error::failed(format!(
            "a sequence of {longest} tokens does not fit the model's context of {context}"
        ))),
        _ => Ok(()),
    }
}

/// Adds a group to the row: the prompt of several sequences once.
fn pack<'a>(group: &[&'a Sequence], ids: &mut Vec<i64>, packing: &mut Packing) -> Vec<Packed<'a>> {
    let prompt = ids.len() as i64;
    let shared = (group.len() > 1).then(|| {
        ids.extend(group[0].prompt());
        packing.push(Span { tokens: group[0].scored_from as i64, after: None })
    });
    let mut packed = Vec::with_capacity(group.len());
    for &sequence in group {
        let start = ids.len() as i64;
        let (prompt, own) = if shared.is_some() {
            (prompt, start)
        } else {
            (start, start + sequence.scored_from as i64)
        };
        let added = if shared.is_some() { sequence.response() } else { &sequence.ids };
        ids.extend(added);
        if !added.is_empty() {
            packing.push(Span { tokens: added.len() as i64, after: shared });
        }
        packed.push(Packed { sequence, prompt, own });
    }
    packed
}

/// Each sequence a group of its own.
pub(super) fn alone<'a>(sequences: &[&'a Sequence]) -> Vec<Vec<&'a Sequence>> {
    sequences.iter().map(|sequence| vec![*sequence]).collect()
}

/// Places of `sequences` grouped into batches of similar length, so that little is padded; for
/// validation, where order does not matter.
pub(super) fn length_batches(sequences: &[Sequence], batch: usize) -> Vec<Vec<usize>> {
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

    fn model(name: &str) -> Lm {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        Lm::open_trainable(&folder, Device::Cpu, Kind::Float).unwrap()
    }

    /// Two continuations of one prompt and one of another, each scored with its own sign and size.
    fn groups() -> Vec<Vec<Sequence>> {
        let sequence =
            |ids: &[i64], scored_from: usize| Sequence { ids: ids.to_vec(), scored_from };
        let shared = vec![
            sequence(&[5, 6, 7, 8, 9, 10, 11], 4),
            sequence(&[5, 6, 7, 8, 20, 21, 22, 23, 24, 25], 4),
        ];
        vec![shared, vec![sequence(&[40, 41, 42, 43, 44], 1)]]
    }

    fn gradients(lm: &Lm) -> Vec<(String, Tensor)> {
        lm.parameters()
            .into_iter()
            .map(|(name, parameter)| (name, parameter.grad().copy()))
            .collect()
    }

    /// Values and gradients by one plain forward pass for each sequence and libtorch's own
    /// log-softmax.
    fn expected(
        lm: &Lm,
        groups: &[Vec<Sequence>],
        factors: &Tensor,
    ) -> (Tensor, Vec<(String, Tensor)>) {
        let rows = groups.iter().flatten().map(|sequence| {
            let ids = Tensor::from_slice(&sequence.ids).unsqueeze(0);
            let positions =
                Tensor::arange(sequence.ids.len() as i64, (Kind::Int64, Device::Cpu)).unsqueeze(0);
            let hidden = lm.model.hidden(&crate::models::Input {
                ids: &ids,
                positions: &positions,
                valid: None,
                packing: None,
            });
            let logps = lm.model.logits(&hidden).squeeze_dim(0).log_softmax(-1, Kind::Float);
            let (from, count) = (sequence.scored_from as i64, sequence.scored() as i64);
            logps
                .narrow(0, from - 1, count)
                .gather(1, &ids.squeeze_dim(0).narrow(0, from, count).unsqueeze(-1), false)
                .squeeze_dim(-1)
        });
        let logps = Tensor::cat(&rows.collect::<Vec<_>>(), 0);
        (&logps * factors).sum(Kind::Float).backward();
        (logps.detach(), gradients(lm))
    }

    #[test]
    fn packed_log_probabilities_and_gradients_are_those_of_plain_forward_passes() {
        for name in ["gpt2", "llama", "mistral", "qwen2"] {
            let (groups, factors) =
                (groups(), Tensor::linspace(-1.0, 2.0, 13, (Kind::Float, Device::Cpu)));
            let (values, exact) = expected(&model(name), &groups, &factors);
            let asked: Vec<Vec<&Sequence>> =
                groups.iter().map(|group| group.iter().collect()).collect();
            for recompute in [false, true] {
                let lm = model(name);
                let (tokens, rows) = sequence_logps(&lm.model, &asked, recompute).unwrap();
                assert_eq!(
                    Vec::<i64>::try_from(rows).unwrap(),
                    [0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2]
                );
                let error = (tokens.logps.detach() - &values).abs().max().double_value(&[]);
                assert!(error < 1e-5, "{name}: {error}");
                let loss = (&tokens.logps * &factors).sum(Kind::Float);
                tokens.learn(&loss).unwrap();
                for ((name, found), (_, exact)) in gradients(&lm).iter().zip(&exact) {
                    let error = (found - exact).abs().max().double_value(&[]);
                    assert!(
                        error < 2e-5 * (1.0 + exact.abs().max().double_value(&[])),
                        "{name}, recompute {recompute}: {error}"
                    );
                }
            }
        }
    }

    #[test]
    fn sequences_of_a_group_must_share_their_prompt() {
        let lm = model("gpt2");
        let [first, second] =
            [vec![1, 2, 3], vec![1, 5, 3]].map(|ids| Sequence { ids, scored_from: 2 });
        let error =
            sequence_logps(&lm.model, &[vec![&first, &second]], false).err().unwrap().to_string();
        assert!(error.contains("different prompts"), "{error}");
    }
}
