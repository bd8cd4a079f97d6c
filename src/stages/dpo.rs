//! Direct preference optimisation of a model against its SFT reference; of the guide, the result is the tuned guide.

use std::path::Path;
use std::rc::Rc;

use serde_json::{Value, json};
use tch::{Kind, Tensor};
use tracing::info;

use super::context::Context;
use super::language_task::{SamplePrompt, sample_text};
use super::tasks::{Pupil, TRAIN, VALIDATION};
use super::tuning::{Trainable, warn_left_out};
use crate::error::{Error, Result};
use crate::losses::{DpoObjective, DpoOutput, dpo, kl, sum_by_row};
use crate::models::Lm;
use crate::models::weights::{read_tensors, write_tensors};
use crate::monitor::{Progress, glossary};
use crate::train::{Sequence, StepLoss, Task, TokenLogps, sequence_logps};

/// `name`: of the task, its metrics and its folder.
pub fn train(context: &Context, pupil: &Pupil, name: &str) -> Result<()> {
    let tuning = pupil.tuning(&context.plan)?;
    let (objective, training) = tuning.dpo.ok_or_else(|| Error::recipe("the recipe has no `[dpo]` table"))?;
    // What DPO starts from and keeps as its reference: the result of SFT, or else the model itself.
    let reference = match tuning.sft {
        Some(_) => context.run.path(&pupil.folder("sft")),
        None => context.models.folder(tuning.model)?,
    };
    let model = Trainable::open(context, tuning.model, &reference, name, training.lora.as_ref())?;
    let read = |file: &str| -> Result<Vec<PairSequences>> {
        let both = model.read(context, file, training.max_length)?;
        let pairs = both.len();
        let whole = both.into_iter().filter_map(|[chosen, rejected]| {
            chosen.zip(rejected).map(|(chosen, rejected)| PairSequences { chosen, rejected, reference: ReferenceLogps::default() })
        });
        let kept: Vec<PairSequences> = whole.collect();
        warn_left_out(name, file, "pairs", pairs - kept.len(), pairs);
        Ok(kept)
    };
    let (mut train, mut validation) = (read(TRAIN)?, read(VALIDATION)?);
    info!("{name}: {} training and {} validation pairs, {objective}", train.len(), validation.len());
    // The reference is the model as it stands now, and never changes: its log-probabilities are computed once.
    let file = context.run.checkpoint(name).reference();
    if !restore_reference(&file, train.iter_mut().chain(&mut validation))? {
        let mut progress = Progress::start(&format!("{name} reference"), (train.len() + validation.len()) as u64, 0);
        for pairs in [&mut train, &mut validation] {
            fill_reference(&model.lm, pairs, training.micro_batch_size, &mut progress)?;
        }
        progress.finish();
        keep_reference(&file, train.iter().chain(&validation))?;
    }
    let mut task = DpoTask {
        policy: model.lm.clone(),
        train,
        validation,
        objective,
        batch: training.micro_batch_size,
        activation_checkpointing: training.activation_checkpointing,
        sample: model.sample_prompt(context)?,
    };
    model.fit(context, name, training, &mut task)
}

pub(super) struct PairSequences {
    pub chosen: Sequence,
    pub rejected: Sequence,
    pub reference: ReferenceLogps,
}

/// Log-probabilities of a pair's responses under the reference.
#[derive(Default)]
pub(super) struct ReferenceLogps {
    chosen: f32,
    rejected: f32,
    /// Of each token of chosen, then of rejected.
    tokens: Vec<f32>,
}

/// Log-probabilities of the response tokens of all pairs, and their sums for chosen and rejected, (pairs) each, by one forward pass that
/// reads each prompt once.
fn pair_logps<'a>(lm: &'a Lm, pairs: &[&PairSequences], recompute: bool) -> Result<(TokenLogps<'a>, [Tensor; 2])> {
    let groups: Vec<Vec<&Sequence>> = pairs.iter().map(|pair| vec![&pair.chosen, &pair.rejected]).collect();
    let (tokens, rows) = sequence_logps(&lm.model, &groups, recompute)?;
    let summed = sum_by_row(&tokens.logps, &rows, 2 * pairs.len() as i64).view([-1, 2]);
    let sides = [0, 1].map(|side| summed.select(1, side));
    Ok((tokens, sides))
}

pub(super) fn fill_reference(reference: &Lm, pairs: &mut [PairSequences], batch: usize, progress: &mut Progress) -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    for batch in pairs.chunks_mut(batch) {
        let (tokens, [chosen, rejected]) = pair_logps(reference, &batch.iter().collect::<Vec<_>>(), false)?;
        let (chosen, rejected) = (Vec::<f32>::try_from(chosen)?, Vec::<f32>::try_from(rejected)?);
        let mut tokens = Vec::<f32>::try_from(&tokens.logps)?.into_iter();
        for (pair, (chosen, rejected)) in batch.iter_mut().zip(chosen.into_iter().zip(rejected)) {
            let scored = pair.chosen.scored() + pair.rejected.scored();
            pair.reference = ReferenceLogps { chosen, rejected, tokens: tokens.by_ref().take(scored).collect() };
        }
        progress.advance(batch.len() as u64);
    }
    Ok(())
}

/// In the name of the one tensor of a file of reference log-probabilities.
const REFERENCE: &str = "reference";

/// Writes down what [`fill_reference`] found, for a training that is killed and continued.
fn keep_reference<'a>(file: &Path, pairs: impl Iterator<Item = &'a PairSequences>) -> Result<()> {
    let of_pair =
        |reference: &'a ReferenceLogps| [reference.chosen, reference.rejected].into_iter().chain(reference.tokens.iter().copied());
    let values: Vec<f32> = pairs.flat_map(|pair| of_pair(&pair.reference)).collect();
    write_tensors(file, &[(REFERENCE.to_owned(), Tensor::from_slice(&values))], &[])
}

/// Takes from `file` what [`keep_reference`] wrote; false where there is none for just these pairs.
fn restore_reference<'a>(file: &Path, pairs: impl Iterator<Item = &'a mut PairSequences>) -> Result<bool> {
    if !file.is_file() {
        return Ok(false);
    }
    let Some(tensor) = read_tensors(file)?.remove(REFERENCE) else { return Ok(false) };
    let values = Vec::<f32>::try_from(tensor)?;
    let pairs: Vec<&mut PairSequences> = pairs.collect();
    let scored = |pair: &PairSequences| pair.chosen.scored() + pair.rejected.scored();
    if pairs.iter().map(|pair| 2 + scored(pair)).sum::<usize>() != values.len() {
        return Ok(false);
    }
    let mut values = values.into_iter();
    for pair in pairs {
        let mut take = |count: usize| values.by_ref().take(count).collect::<Vec<f32>>();
        let (sums, tokens) = (take(2), take(scored(pair)));
        pair.reference = ReferenceLogps { chosen: sums[0], rejected: sums[1], tokens };
    }
    Ok(true)
}

pub(super) struct DpoTask {
    pub policy: Rc<Lm>,
    pub train: Vec<PairSequences>,
    pub validation: Vec<PairSequences>,
    pub objective: DpoObjective,
    pub batch: usize,
    pub activation_checkpointing: bool,
    pub sample: SamplePrompt,
}

impl DpoTask {
    fn forward(&self, pairs: &[&PairSequences], recompute: bool) -> Result<Forward<'_>> {
        let (tokens, [chosen, rejected]) = pair_logps(&self.policy, pairs, recompute)?;
        let tensor = |values: Vec<f32>| Tensor::from_slice(&values).to_device(chosen.device());
        let of_pairs = |of: &dyn Fn(&PairSequences) -> f32| tensor(pairs.iter().map(|pair| of(pair)).collect());
        let reference = [of_pairs(&|pair| pair.reference.chosen), of_pairs(&|pair| pair.reference.rejected)];
        let counts = [of_pairs(&|pair| pair.chosen.scored() as f32), of_pairs(&|pair| pair.rejected.scored() as f32)];
        let output = dpo(&self.objective, [&chosen, &rejected], reference.each_ref(), counts.each_ref());
        // In f64: small differences keep their digits.
        let reference_tokens = tensor(pairs.iter().flat_map(|pair| pair.reference.tokens.iter().copied()).collect());
        let kl = sum(&kl(&tokens.logps.detach().to_kind(Kind::Double), &reference_tokens.to_kind(Kind::Double)));
        Ok(Forward { output, logps: [sum(&chosen), sum(&rejected)], kl, tokens })
    }
}

struct Forward<'a> {
    output: DpoOutput,
    /// Σ of log π over chosen and over rejected.
    logps: [f64; 2],
    /// Σ over the tokens.
    kl: f64,
    /// What all comes from.
    tokens: TokenLogps<'a>,
}

impl Forward<'_> {
    /// Tokens that `kl` is a sum over.
    fn scored(&self) -> f64 {
        self.tokens.logps.numel() as f64
    }
}

fn sum(values: &Tensor) -> f64 {
    values.detach().sum(Kind::Double).double_value(&[])
}

/// Names in the order of [`measures`].
const TRAIN_NAMES: [&str; 6] = [
    glossary::REWARDS_CHOSEN,
    glossary::REWARDS_REJECTED,
    glossary::REWARDS_MARGINS,
    glossary::REWARDS_ACCURACIES,
    glossary::LOGPS_CHOSEN,
    glossary::LOGPS_REJECTED,
];
const VALIDATION_NAMES: [&str; 6] = [
    glossary::VALIDATION_REWARDS_CHOSEN,
    glossary::VALIDATION_REWARDS_REJECTED,
    glossary::VALIDATION_REWARDS_MARGINS,
    glossary::VALIDATION_REWARDS_ACCURACIES,
    glossary::VALIDATION_LOGPS_CHOSEN,
    glossary::VALIDATION_LOGPS_REJECTED,
];

/// Sums over the pairs.
fn measures(Forward { output, logps, .. }: &Forward) -> [f64; 6] {
    let (chosen, rejected) = (sum(&output.chosen_rewards), sum(&output.rejected_rewards));
    [chosen, rejected, chosen - rejected, sum(&output.accuracies), logps[0], logps[1]]
}

impl Task for DpoTask {
    fn examples(&self) -> usize {
        self.train.len()
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.policy.trainable_parameters()
    }

    fn accumulate(&mut self, examples: &[usize]) -> Result<StepLoss> {
        let pairs: Vec<&PairSequences> = examples.iter().map(|&i| &self.train[i]).collect();
        let forward = self.forward(&pairs, self.activation_checkpointing)?;
        let count = pairs.len() as f64;
        let of_pairs = TRAIN_NAMES.into_iter().zip(measures(&forward)).map(|(name, sum)| (name, sum, count));
        let metrics = of_pairs.chain([(glossary::KL, forward.kl, forward.scored())]).collect();
        let loss = forward.output.losses.sum(Kind::Float);
        loss.f_backward()?;
        forward.tokens.backward()?;
        let tokens = pairs.iter().map(|pair| pair.chosen.ids.len() + pair.rejected.ids.len()).sum();
        Ok(StepLoss { loss: loss.double_value(&[]), weight: count, metrics, tokens })
    }

    fn loss_at_start(&self) -> Option<f64> {
        Some(self.objective.loss_at_start())
    }

    fn describe(&self, example: usize) -> Value {
        let PairSequences { chosen, rejected, .. } = &self.train[example];
        let tokenizer = &self.sample.tokenizer;
        json!({ "chosen": chosen.describe(tokenizer), "rejected": rejected.describe(tokenizer) })
    }

    fn validate(&mut self) -> Result<Vec<(&'static str, f64)>> {
        let _no_grad = tch::no_grad_guard();
        if self.validation.is_empty() {
            return Ok(Vec::new());
        }
        let (mut loss, mut sums, mut kl, mut scored) = (0.0, [0.0; 6], 0.0, 0.0);
        let pairs: Vec<&PairSequences> = self.validation.iter().collect();
        for batch in pairs.chunks(self.batch) {
            let forward = self.forward(batch, false)?;
            loss += sum(&forward.output.losses);
            kl += forward.kl;
            scored += forward.scored();
            for (total, value) in sums.iter_mut().zip(measures(&forward)) {
                *total += value;
            }
        }
        let count = pairs.len() as f64;
        let mut values = vec![(glossary::VALIDATION_LOSS, loss / count)];
        values.extend(VALIDATION_NAMES.into_iter().zip(sums).map(|(name, sum)| (name, sum / count)));
        values.push((glossary::VALIDATION_KL, kl / scored));
        Ok(values)
    }

    fn sample(&mut self) -> Result<Option<String>> {
        sample_text(&self.policy, &self.sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(scored: &[(usize, usize)]) -> Vec<PairSequences> {
        let sequence = |scored: usize| Sequence { ids: vec![7; scored + 2], scored_from: 2 };
        let pair = |&(chosen, rejected): &(usize, usize)| PairSequences {
            chosen: sequence(chosen),
            rejected: sequence(rejected),
            reference: ReferenceLogps::default(),
        };
        scored.iter().map(pair).collect()
    }

    #[test]
    fn what_the_reference_says_is_kept_for_just_these_pairs() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state/dpo.reference.safetensors");
        let mut before = pairs(&[(2, 1), (0, 3)]);
        assert!(!restore_reference(&file, before.iter_mut()).unwrap());
        for (number, pair) in before.iter_mut().enumerate() {
            let number = number as f32;
            pair.reference = ReferenceLogps { chosen: -0.1 - number, rejected: -0.7 - number, tokens: vec![0.3 + number, -1.7, 2.9] };
        }
        keep_reference(&file, before.iter()).unwrap();
        let mut after = pairs(&[(2, 1), (0, 3)]);
        assert!(restore_reference(&file, after.iter_mut()).unwrap());
        let all = |pairs: &[PairSequences]| -> Vec<Vec<f32>> {
            pairs.iter().map(|pair| [&[pair.reference.chosen, pair.reference.rejected][..], &pair.reference.tokens].concat()).collect()
        };
        assert_eq!(all(&before), all(&after));
        assert!(!restore_reference(&file, pairs(&[(2, 1), (0, 4)]).iter_mut()).unwrap(), "other pairs");
    }
}
