//! Direct preference optimisation of the guide against its SFT reference; the result is the tuned guide.

use std::path::PathBuf;
use std::rc::Rc;

use tch::{Kind, Tensor};
use tracing::{info, warn};

use super::context::{Context, write_json};
use super::language_task::{SamplePrompt, sample_text};
use super::preferences::{self, TRAIN, VALIDATION};
use crate::error::{Error, Result};
use crate::losses::{DpoOutput, dpo, sum_by_row};
use crate::models::{Lm, open_trainable_with_tokenizer};
use crate::monitor::{Progress, glossary};
use crate::recipe::{Dpo, GuideSource};
use crate::text::read_pairs;
use crate::train::{Fit, Sequence, StepLoss, Task, sequence_logps};

pub fn run(context: &Context) -> Result<()> {
    context.task("dpo", &fingerprint(context)?, &["dpo"], |_| train(context))
}

pub fn fingerprint(context: &Context) -> Result<String> {
    let reference = context.guide_fingerprint(&reference(context)?)?;
    context.fingerprint(
        "dpo",
        (settings(context)?.beta, &context.plan.training.dpo, context.seed()),
        &[reference, preferences::fingerprint(context)?],
    )
}

fn settings(context: &Context) -> Result<&Dpo> {
    context.recipe().dpo.as_ref().ok_or_else(|| Error::recipe("the recipe has no `[dpo]` table"))
}

fn reference(context: &Context) -> Result<GuideSource> {
    context.plan.reference().ok_or_else(|| Error::recipe("the recipe has no model to tune"))
}

fn train(context: &Context) -> Result<()> {
    let training = context.plan.training.dpo.clone().ok_or_else(|| Error::recipe("the recipe has no `[dpo]` table"))?;
    let beta = settings(context)?.beta;
    let source: PathBuf = context.guide_folder(&reference(context)?)?;
    let model = context.recipe().guide_model().ok_or_else(|| Error::recipe("the recipe has no model to tune"))?;
    let template = context.template(model)?;
    let device = context.placement(model)?.device;
    let (policy, tokenizer) = open_trainable_with_tokenizer(&source, device)?;
    let (policy, tokenizer) = (Rc::new(policy), Rc::new(tokenizer));
    let eos = policy.model.info().eos_token_ids.first().copied();
    let mut first_prompt = String::new();
    let mut read = |file: &str| -> Result<Vec<PairSequences>> {
        let mut kept = Vec::new();
        let pairs = read_pairs(&context.path(file))?;
        for pair in &pairs {
            let sequence = |response: &str, complete: bool| {
                Sequence::of_response(&tokenizer, &template, &pair.prompt, response, eos.filter(|_| complete), training.max_length)
            };
            if let (Some(chosen), Some(rejected)) =
                (sequence(&pair.chosen, pair.chosen_complete)?, sequence(&pair.rejected, pair.rejected_complete)?)
            {
                kept.push(PairSequences { chosen, rejected, reference: (0.0, 0.0) });
            }
            if first_prompt.is_empty() {
                first_prompt = pair.prompt.clone();
            }
        }
        if kept.len() < pairs.len() {
            warn!("{file}: {} of {} pairs are empty or longer than `max_length` and left out", pairs.len() - kept.len(), pairs.len());
        }
        Ok(kept)
    };
    let (mut train, mut validation) = (read(TRAIN)?, read(VALIDATION)?);
    info!("dpo: {} training and {} validation pairs, beta {beta}", train.len(), validation.len());
    // The reference never changes, so its log-probabilities are computed once, and the model is gone before training starts.
    let reference = Lm::open(&source, device, Kind::Float)?;
    for pairs in [&mut train, &mut validation] {
        fill_reference(&reference, pairs, training.micro_batch_size)?;
    }
    drop(reference);
    let mut task = DpoTask {
        policy,
        train,
        validation,
        beta,
        batch: training.micro_batch_size,
        sample: SamplePrompt { tokenizer: tokenizer.clone(), template, prompt: first_prompt, max_new_tokens: 48 },
    };
    let checkpoint = context.checkpoint("dpo");
    let fit = Fit { stage: "dpo", training: &training, seed: context.seed(), run_dir: context.run_dir(), checkpoint: &checkpoint };
    let report = fit.run(&mut task)?;
    let folder = context.path("dpo");
    tokenizer.save(&folder)?;
    task.policy.save(&folder)?;
    write_json(&folder.join("training.json"), &report)
}

struct PairSequences {
    chosen: Sequence,
    rejected: Sequence,
    /// Reference log-probabilities of the two responses.
    reference: (f32, f32),
}

/// Summed response log-probabilities of chosen and rejected, (pairs) each, by one forward pass over both.
fn pair_logps(lm: &Lm, pairs: &[&PairSequences]) -> Result<(Tensor, Tensor)> {
    let sequences: Vec<&Sequence> = pairs.iter().map(|pair| &pair.chosen).chain(pairs.iter().map(|pair| &pair.rejected)).collect();
    let (logps, rows) = sequence_logps(&lm.model, &sequences)?;
    let summed = sum_by_row(&logps, &rows, sequences.len() as i64);
    let count = pairs.len() as i64;
    Ok((summed.narrow(0, 0, count), summed.narrow(0, count, count)))
}

fn fill_reference(reference: &Lm, pairs: &mut [PairSequences], batch: usize) -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    let mut progress = Progress::start("dpo reference", pairs.len() as u64, 0);
    for batch in pairs.chunks_mut(batch) {
        let (chosen, rejected) = pair_logps(reference, &batch.iter().collect::<Vec<_>>())?;
        let (chosen, rejected) = (Vec::<f32>::try_from(chosen)?, Vec::<f32>::try_from(rejected)?);
        for (pair, logps) in batch.iter_mut().zip(chosen.into_iter().zip(rejected)) {
            pair.reference = logps;
        }
        progress.advance(batch.len() as u64);
    }
    progress.finish();
    Ok(())
}

struct DpoTask {
    policy: Rc<Lm>,
    train: Vec<PairSequences>,
    validation: Vec<PairSequences>,
    beta: f64,
    batch: usize,
    sample: SamplePrompt,
}

impl DpoTask {
    /// The losses of some pairs, and Σ of log π over chosen and rejected.
    fn forward(&self, pairs: &[&PairSequences]) -> Result<(DpoOutput, [f64; 2])> {
        let (chosen, rejected) = pair_logps(&self.policy, pairs)?;
        let reference = |of: &dyn Fn(&PairSequences) -> f32| {
            Tensor::from_slice(&pairs.iter().map(|pair| of(pair)).collect::<Vec<_>>()).to_device(chosen.device())
        };
        let output = dpo(&chosen, &rejected, &reference(&|pair| pair.reference.0), &reference(&|pair| pair.reference.1), self.beta);
        Ok((output, [sum(&chosen), sum(&rejected)]))
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
fn measures(output: &DpoOutput, logps: [f64; 2]) -> [f64; 6] {
    let (chosen, rejected) = (sum(&output.chosen_rewards), sum(&output.rejected_rewards));
    [chosen, rejected, chosen - rejected, sum(&output.accuracies), logps[0], logps[1]]
}

impl Task for DpoTask {
    fn examples(&self) -> usize {
        self.train.len()
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.policy.parameters()
    }

    fn loss(&mut self, examples: &[usize]) -> Result<StepLoss> {
        let pairs: Vec<&PairSequences> = examples.iter().map(|&i| &self.train[i]).collect();
        let (output, logps) = self.forward(&pairs)?;
        let count = pairs.len() as f64;
        let metrics = TRAIN_NAMES.into_iter().zip(measures(&output, logps)).map(|(name, sum)| (name, sum, count)).collect();
        let tokens = pairs.iter().map(|pair| pair.chosen.ids.len() + pair.rejected.ids.len()).sum();
        Ok(StepLoss { loss: output.losses.sum(Kind::Float), weight: count, metrics, tokens })
    }

    fn validate(&mut self) -> Result<Vec<(&'static str, f64)>> {
        let _no_grad = tch::no_grad_guard();
        if self.validation.is_empty() {
            return Ok(Vec::new());
        }
        let (mut loss, mut sums) = (0.0, [0.0; 6]);
        let pairs: Vec<&PairSequences> = self.validation.iter().collect();
        for batch in pairs.chunks(self.batch) {
            let (output, logps) = self.forward(batch)?;
            loss += sum(&output.losses);
            for (total, value) in sums.iter_mut().zip(measures(&output, logps)) {
                *total += value;
            }
        }
        let count = pairs.len() as f64;
        let mut values = vec![(glossary::VALIDATION_LOSS, loss / count)];
        values.extend(VALIDATION_NAMES.into_iter().zip(sums).map(|(name, sum)| (name, sum / count)));
        Ok(values)
    }

    fn sample(&mut self) -> Result<Option<String>> {
        sample_text(&self.policy, &self.sample).map(Some)
    }
}
