//! Speed of SFT and DPO on this machine, beside what its matrix products allow: each token of text
//! through the weights once forward and twice backward, each prompt once for both of its responses,
//! and for DPO once more forward through the reference.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use serde::Serialize;
use tch::{Device, Kind};

use super::refuse_long;
use crate::artifacts::interrupt;
use crate::error::{Error, Result};
use crate::losses::DpoObjective;
use crate::machine::rates::MachineRates;
use crate::machine::{memory, peak_rss_bytes};
use crate::models::{Lm, LmConfig, Work};
use crate::monitor::Progress;
use crate::monitor::glossary::LOSS;
use crate::sampling::Stream;
use crate::text::{PromptTemplate, Tokenizer, read_responses};
use crate::train::tasks::{DpoTask, LanguageTask, PairSequences, SampleText, fill_reference};
use crate::train::{AdamW, AdamWSettings, Sequence, Task, accumulate};

/// What is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingBenchSettings {
    pub dpo: bool,
    /// Preference pairs; without a file they are random tokens.
    pub pairs: Option<PathBuf>,
    /// Before the prompts of a file, as [`PromptTemplate::new`] takes it.
    pub bos: Option<bool>,
    pub prompt_tokens: usize,
    pub new_tokens: usize,
    /// Pairs, or responses in SFT, for each optimiser step.
    pub batch_size: usize,
    pub micro_batch_size: usize,
    pub activation_checkpointing: bool,
    /// Steps that are timed, after one that is not.
    pub steps: usize,
    pub device: Device,
    pub kind: Kind,
    /// The folder needs a config.json only (and a tokenizer to read pairs), and the model is filled
    /// with random numbers.
    pub random_weights: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainingBenchReport {
    pub what: &'static str,
    pub dtype: String,
    pub threads: i64,
    pub steps: usize,
    pub batch_size: usize,
    pub micro_batch_size: usize,
    pub seconds_per_step: f64,
    /// Tokens that went forward and backward: a prompt counts once for both of its responses, and
    /// nothing is padded.
    pub tokens: u64,
    pub tokens_per_s: f64,
    /// Prompt and response of each sequence, as other trainers read them, padding not counted.
    pub text_tokens: u64,
    pub text_tokens_per_s: f64,
    /// The reference's forward pass over all pairs in DPO, part of the time.
    pub reference_seconds: f64,
    pub peak_rss_bytes: u64,
    pub matmul_flops_per_s: f64,
    /// The library that reached it.
    pub matmul_kernel: &'static str,
    pub limit_seconds_per_step: f64,
    /// Share of the limit's speed that was reached; 1 is the machine's.
    pub limit_fraction: f64,
}

/// Trains the model in `folder` for some steps and counts.
pub fn train(folder: &Path, settings: &TrainingBenchSettings) -> Result<TrainingBenchReport> {
    let TrainingBenchSettings { dpo, batch_size, micro_batch_size, steps, device, kind, .. } =
        *settings;
    let rates = MachineRates::measure(device, kind);
    memory::return_unused();
    let lm = Rc::new(open(folder, settings)?);
    let mut pairs = pairs(folder, &lm, settings)?;
    let Work { blocks, head, .. } = lm.work();
    let texts = Texts::of(&pairs[batch_size..], dpo);
    let started = Instant::now();
    if dpo {
        let mut progress = Progress::start("bench reference", pairs.len() as u64, 0);
        fill_reference(&lm, &mut pairs, micro_batch_size, &mut progress)?;
        progress.finish();
    }
    // The first step is not counted, nor are its pairs.
    let reference_seconds = started.elapsed().as_secs_f64() * steps as f64 / (steps + 1) as f64;
    let tokenizer = Rc::new(Tokenizer::numbered(lm.model.info().vocab_size as usize, None)?);
    let mut task = task(settings, lm.clone(), tokenizer, pairs);
    let mut optimizer = AdamW::new(task.parameters(), AdamWSettings::with_decay(0.01));
    let mut progress = Progress::start("bench", steps as u64 + 1, 0);
    let mut started = Instant::now();
    for step in 0..=steps {
        interrupt::check()?;
        let batch: Vec<usize> = (step * batch_size..(step + 1) * batch_size).collect();
        let sums = accumulate(&mut *task, &mut optimizer, &batch, micro_batch_size)?;
        optimizer.finish_gradients(sums.metrics.sum(LOSS).1, 1.0)?;
        optimizer.step(1e-6)?;
        progress.advance(1);
        if step == 0 {
            started = Instant::now();
        }
    }
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
    let seconds = started.elapsed().as_secs_f64() + reference_seconds;
    progress.finish();
    let passes = if dpo { 8.0 } else { 6.0 };
    let limit = passes * (blocks * texts.tokens as f64 + head * texts.scored as f64)
        / rates.matmul_flops_per_s;
    let steps_f = steps as f64;
    Ok(TrainingBenchReport {
        what: if dpo { "dpo" } else { "sft" },
        dtype: crate::models::weights::dtype_name(kind).into_owned(),
        threads: i64::from(tch::get_num_threads()),
        steps,
        batch_size,
        micro_batch_size,
        seconds_per_step: seconds / steps_f,
        tokens: texts.tokens,
        tokens_per_s: texts.tokens as f64 / seconds,
        text_tokens: texts.text_tokens,
        text_tokens_per_s: texts.text_tokens as f64 / seconds,
        reference_seconds,
        peak_rss_bytes: peak_rss_bytes().unwrap_or(0),
        matmul_flops_per_s: rates.matmul_flops_per_s,
        matmul_kernel: rates.matmul_kernel,
        limit_seconds_per_step: limit / steps_f,
        limit_fraction: limit / seconds,
    })
}

fn open(folder: &Path, settings: &TrainingBenchSettings) -> Result<Lm> {
    if settings.random_weights {
        return Ok(Lm::with_random_weights(
            LmConfig::read(folder)?,
            settings.device,
            settings.kind,
            1,
        )?
        .trainable());
    }
    Lm::open_trainable(folder, settings.device, settings.kind)
}

/// What is trained, on `pairs`.
fn task(
    settings: &TrainingBenchSettings,
    lm: Rc<Lm>,
    tokenizer: Rc<Tokenizer>,
    pairs: Vec<PairSequences>,
) -> Box<dyn Task> {
    let TrainingBenchSettings { dpo, micro_batch_size, activation_checkpointing, .. } = settings;
    let sample: SampleText = Box::new(|| Ok(None));
    if *dpo {
        Box::new(DpoTask {
            policy: lm,
            tokenizer,
            train: pairs,
            validation: Vec::new(),
            objective: DpoObjective::plain(0.1),
            batch: *micro_batch_size,
            activation_checkpointing: *activation_checkpointing,
            sample,
        })
    } else {
        let train = pairs.into_iter().map(|pair| pair.chosen).collect();
        let (validation, batch) = (Vec::new(), *micro_batch_size);
        Box::new(LanguageTask {
            lm,
            tokenizer,
            train,
            validation,
            batch,
            activation_checkpointing: *activation_checkpointing,
            sample,
        })
    }
}

/// As many pairs as the steps take; a file that has fewer is read again from its start.
fn pairs(folder: &Path, lm: &Lm, settings: &TrainingBenchSettings) -> Result<Vec<PairSequences>> {
    let info = lm.model.info();
    let count = (settings.steps + 1) * settings.batch_size;
    let pair = |[chosen, rejected]: [Sequence; 2]| PairSequences::new(chosen, rejected);
    let Some(file) = &settings.pairs else {
        refuse_long(lm, settings.prompt_tokens, settings.new_tokens)?;
        let stream = Stream::new(1, "bench", "pairs");
        let draw = |slot: usize, place: usize| {
            (stream.uniform(slot as u64, place as u64) * info.vocab_size as f64) as i64
        };
        let random = |index: usize| {
            let prompt: Vec<i64> =
                (0..settings.prompt_tokens).map(|place| draw(3 * index, place)).collect();
            pair([1, 2].map(|side| {
                Sequence {
                    ids: prompt
                        .iter()
                        .copied()
                        .chain((0..settings.new_tokens).map(|place| draw(3 * index + side, place)))
                        .collect(),
                    scored_from: settings.prompt_tokens,
                }
            }))
        };
        return Ok((0..count).map(random).collect());
    };
    let tokenizer = Tokenizer::open(folder)?;
    let template = PromptTemplate::new("{prompt}", settings.bos);
    let mut pairs = Vec::new();
    for (prompt, [chosen, rejected]) in &read_responses(file)? {
        let (eos, context) = (tokenizer.eos_id(), info.context as usize);
        let sequence = |response: &str| {
            Sequence::of_response(
                &tokenizer,
                &template,
                prompt,
                (response, true),
                eos.as_slice(),
                context,
            )
        };
        if let (Some(chosen), Some(rejected)) = (sequence(chosen)?, sequence(rejected)?) {
            pairs.push((chosen, rejected));
        }
        if pairs.len() == count {
            break;
        }
    }
    if pairs.is_empty() {
        let context = info.context;
        return Err(Error::data(
            file,
            None,
            format!("no pair with two responses that fit the model's context of {context} tokens"),
        ));
    }
    Ok((0..count)
        .map(|index| pairs[index % pairs.len()].clone())
        .map(|(chosen, rejected)| pair([chosen, rejected]))
        .collect())
}

struct Texts {
    tokens: u64,
    scored: u64,
    text_tokens: u64,
}

impl Texts {
    fn of(pairs: &[PairSequences], dpo: bool) -> Self {
        let (mut tokens, mut scored, mut text_tokens) = (0, 0, 0);
        for PairSequences { chosen, rejected, .. } in pairs {
            tokens += chosen.ids.len();
            scored += chosen.scored();
            text_tokens += chosen.ids.len();
            if dpo {
                tokens += rejected.scored();
                scored += rejected.scored();
                text_tokens += rejected.ids.len();
            }
        }
        Self { tokens: tokens as u64, scored: scored as u64, text_tokens: text_tokens as u64 }
    }
}
