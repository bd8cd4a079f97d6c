//! Pairs of responses, and what a reference model says of them, which never changes: it is computed
//! once, and kept for a training that is killed and continued.

use std::path::Path;

use tch::Tensor;

use super::super::sequence::Sequence;
use super::super::sequences::sequence_logps;
use super::super::token_logps::TokenLogps;
use crate::error::Result;
use crate::losses::sum_by_row;
use crate::models::Lm;
use crate::models::weights::{read_tensors, write_tensors};
use crate::monitor::Progress;

/// A preference pair as a model reads it: both responses after one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct PairSequences {
    pub chosen: Sequence,
    pub rejected: Sequence,
    pub(super) reference: ReferenceLogps,
}

/// Log-probabilities of a pair's responses under the reference.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ReferenceLogps {
    pub chosen: f32,
    pub rejected: f32,
    /// Those of each token of chosen, then of rejected.
    pub tokens: Vec<f32>,
}

impl PairSequences {
    /// A pair of which the reference has not been asked.
    pub fn new(chosen: Sequence, rejected: Sequence) -> Self {
        Self { chosen, rejected, reference: ReferenceLogps::default() }
    }

    fn scored(&self) -> usize {
        self.chosen.scored() + self.rejected.scored()
    }
}

/// Log-probabilities of the response tokens of all pairs, and their sums for chosen and rejected,
/// (pairs) each, by one forward pass that reads each prompt once.
pub(super) fn pair_logps<'a>(
    lm: &'a Lm,
    pairs: &[&PairSequences],
    recompute: bool,
) -> Result<(TokenLogps<'a>, [Tensor; 2])> {
    let groups: Vec<Vec<&Sequence>> =
        pairs.iter().map(|pair| vec![&pair.chosen, &pair.rejected]).collect();
    let (tokens, rows) = sequence_logps(&lm.model, &groups, recompute)?;
    let summed = sum_by_row(&tokens.logps, &rows, 2 * pairs.len() as i64).view([-1, 2]);
    let sides = [0, 1].map(|side| summed.select(1, side));
    Ok((tokens, sides))
}

/// Gives the pairs of all `splits` what `reference` says of them: as `file` has it where an earlier
/// attempt kept it there, else computed, `batch` pairs at once, and kept there. The task is called
/// `name`.
pub fn reference_of(
    reference: &Lm,
    splits: [&mut [PairSequences]; 2],
    batch: usize,
    name: &str,
    file: &Path,
) -> Result<()> {
    let [train, validation] = splits;
    if restore(file, train.iter_mut().chain(&mut *validation))? {
        return Ok(());
    }
    let mut progress =
        Progress::start(&format!("{name} reference"), (train.len() + validation.len()) as u64, 0);
    for pairs in [&mut *train, &mut *validation] {
        fill_reference(reference, pairs, batch, &mut progress)?;
    }
    progress.finish();
    keep(file, train.iter().chain(&*validation))
}

/// Asks `reference` of all pairs, `batch` at once.
pub fn fill_reference(
    reference: &Lm,
    pairs: &mut [PairSequences],
    batch: usize,
    progress: &mut Progress,
) -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    for batch in pairs.chunks_mut(batch) {
        let (tokens, [chosen, rejected]) =
            pair_logps(reference, &batch.iter().collect::<Vec<_>>(), false)?;
        let (chosen, rejected) = (Vec::<f32>::try_from(chosen)?, Vec::<f32>::try_from(rejected)?);
        let mut tokens = Vec::<f32>::try_from(&tokens.logps)?.into_iter();
        for (pair, (chosen, rejected)) in batch.iter_mut().zip(chosen.into_iter().zip(rejected)) {
            pair.reference = ReferenceLogps {
                chosen,
                rejected,
                tokens: tokens.by_ref().take(pair.scored()).collect(),
            };
        }
        progress.advance(batch.len() as u64);
    }
    Ok(())
}

/// In the name of the one tensor of a file of reference log-probabilities.
const REFERENCE: &str = "reference";

/// Writes down what [`fill_reference`] found.
fn keep<'a>(file: &Path, pairs: impl Iterator<Item = &'a PairSequences>) -> Result<()> {
    let of_pair = |reference: &'a ReferenceLogps| {
        [reference.chosen, reference.rejected].into_iter().chain(reference.tokens.iter().copied())
    };
    let values: Vec<f32> = pairs.flat_map(|pair| of_pair(&pair.reference)).collect();
    write_tensors(file, &[(REFERENCE.to_owned(), Tensor::from_slice(&values))], &[])
}

/// Takes from `file` what [`keep`] wrote; false where there is none for just these pairs.
fn restore<'a>(file: &Path, pairs: impl Iterator<Item = &'a mut PairSequences>) -> Result<bool> {
    if !file.is_file() {
        return Ok(false);
    }
    let Some(tensor) = read_tensors(file)?.remove(REFERENCE) else { return Ok(false) };
    let values = Vec::<f32>::try_from(tensor)?;
    let pairs: Vec<&mut PairSequences> = pairs.collect();
    if pairs.iter().map(|pair| 2 + pair.scored()).sum::<usize>() != values.len() {
        return Ok(false);
    }
    let mut values = values.into_iter();
    for pair in pairs {
        let mut take = |count: usize| values.by_ref().take(count).collect::<Vec<f32>>();
        let (sums, tokens) = (take(2), take(pair.scored()));
        pair.reference = ReferenceLogps { chosen: sums[0], rejected: sums[1], tokens };
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(scored: &[(usize, usize)]) -> Vec<PairSequences> {
        let sequence = |scored: usize| Sequence { ids: vec![7; scored + 2], scored_from: 2 };
        let pair = |&(chosen, rejected): &(usize, usize)| {
            PairSequences::new(sequence(chosen), sequence(rejected))
        };
        scored.iter().map(pair).collect()
    }

    #[test]
    fn what_the_reference_says_is_kept_for_just_these_pairs() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state/dpo.reference.safetensors");
        let mut before = pairs(&[(2, 1), (0, 3)]);
        assert!(!restore(&file, before.iter_mut()).unwrap());
        for (number, pair) in before.iter_mut().enumerate() {
            let number = number as f32;
            pair.reference = ReferenceLogps {
                chosen: -0.1 - number,
                rejected: -0.7 - number,
                tokens: vec![0.3 + number, -1.7, 2.9],
            };
        }
        keep(&file, before.iter()).unwrap();
        let mut after = pairs(&[(2, 1), (0, 3)]);
        assert!(restore(&file, after.iter_mut()).unwrap());
        let all = |pairs: &[PairSequences]| -> Vec<Vec<f32>> {
            pairs
                .iter()
                .map(|pair| {
                    [&[pair.reference.chosen, pair.reference.rejected][..], &pair.reference.tokens]
                        .concat()
                })
                .collect()
        };
        assert_eq!(all(&before), all(&after));
        assert!(!restore(&file, pairs(&[(2, 1), (0, 4)]).iter_mut()).unwrap(), "other pairs");
    }
}
