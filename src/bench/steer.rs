//! Speed of the engine on this machine, beside what the machine could do: the work that no method
//! can avoid (each sampled token once through the base and once through each guide, each prompt
//! once through each model) at the measured rate of a matrix product, or at which the weights come
//! from memory, whichever takes longer.

use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use serde::Serialize;
use tch::{Device, Kind};

use super::refuse_long;
use crate::artifacts::{Journal, interrupt};
use crate::engine::{Desk, Engine, SteerLine, SteerSettings};
use crate::error::{Error, Result};
use crate::machine::rates::MachineRates;
use crate::machine::{memory, peak_rss_bytes};
use crate::models::{Lm, LmConfig, check_lm_folders, open_with_tokenizer};
use crate::policy::LocalPolicy;
use crate::prompt::Prompt;
use crate::recipe::Method;
use crate::sampling::{Sampling, Stream};
use crate::score::GuidePair;
use crate::search::Semantics;
use crate::text::{PromptTemplate, Tokenizer};

/// What is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct BenchSettings {
    pub method: Method,
    /// As [`PromptTemplate::new`] takes them.
    pub base_bos: Option<bool>,
    pub guide_bos: Option<bool>,
    /// Tokens of the text, before which BOS may stand.
    pub prompt_tokens: usize,
    pub new_tokens: usize,
    pub prompts: usize,
    pub prompts_in_flight: usize,
    pub device: Device,
    pub kind: Kind,
    /// The folders need a config.json only, and every model is filled with random numbers.
    pub random_weights: bool,
    /// Search trees are written to a temporary file, as a run writes them to its journal.
    pub trace: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchReport {
    pub what: &'static str,
    pub settings: serde_json::Value,
    pub dtype: String,
    pub threads: i64,
    pub prompts: usize,
    pub prompts_in_flight: usize,
    pub prompt_tokens: usize,
    pub new_tokens: usize,
    /// Wall time of all prompts by their number.
    pub seconds_per_prompt: f64,
    pub sampled_tokens: u64,
    pub sampled_tokens_per_s: f64,
    /// Response tokens through one guide.
    pub guide_tokens: u64,
    pub guide_tokens_per_s: f64,
    /// 0 where the kernel does not tell.
    pub peak_rss_bytes: u64,
    pub matmul_flops_per_s: f64,
    /// The library that reached it.
    pub matmul_kernel: &'static str,
    pub memory_bytes_per_s: f64,
    pub memory_work: &'static str,
    pub limit_seconds_per_prompt: f64,
    /// Share of the limit's speed that was reached; 1 is the machine's.
    pub limit_fraction: f64,
}

/// Models of a bench: the base, and the guides where the method compares.
pub struct BenchModels {
    base: (Rc<Lm>, Rc<Tokenizer>),
    guide: Option<Rc<GuidePair>>,
}

impl BenchModels {
    pub fn open(
        base: &Path,
        guides: Option<(&Path, &Path)>,
        settings: &BenchSettings,
    ) -> Result<Self> {
        let open = |folder: &Path, seed: i64| -> Result<(Rc<Lm>, Rc<Tokenizer>)> {
            if !settings.random_weights {
                return open_with_tokenizer(folder, settings.device, settings.kind)
                    .map(|(lm, tokenizer)| (Rc::new(lm), Rc::new(tokenizer)));
            }
            let lm = Lm::with_random_weights(
                LmConfig::read(folder)?,
                settings.device,
                settings.kind,
                seed,
            )?
            .packed();
            let tokenizer = Tokenizer::numbered(
                lm.model.info().vocab_size as usize,
                lm.model.info().eos_token_ids.first().copied(),
            )?;
            Ok((Rc::new(lm), Rc::new(tokenizer)))
        };
        if !settings.random_weights {
            check_lm_folders(
                guides.into_iter().flat_map(|(tuned, untuned)| [tuned, untuned]).chain([base]),
            )?;
        }
        let guide = match guides {
            Some((tuned, untuned)) => {
                let ((tuned, tokenizer), (untuned, _)) = (open(tuned, 2)?, open(untuned, 3)?);
                let template = PromptTemplate::new("{prompt}", settings.guide_bos);
                template.before(&tokenizer)?;
                Some(Rc::new(GuidePair { tuned, untuned, tokenizer, template }))
            }
            None => None,
        };
        Ok(Self { base: open(base, 1)?, guide })
    }
}

/// Steers prompts of random words and counts.
pub fn steer(
    what: &'static str,
    models: &BenchModels,
    settings: &BenchSettings,
) -> Result<BenchReport> {
    let (lm, tokenizer) = &models.base;
    let guides = models.guide.iter().flat_map(|guide| [&*guide.tuned, &*guide.untuned]);
    guides
        .chain([&**lm])
        .try_for_each(|lm| refuse_long(lm, settings.prompt_tokens, settings.new_tokens))?;
    let sampling = Sampling::new(0.7, 50, 1.0);
    let steer = SteerSettings {
        sampling,
        max_new_tokens: settings.new_tokens,
        stop: Vec::new(),
        semantics: Semantics::Paper,
        trace: settings.trace,
        prompts_in_flight: settings.prompts_in_flight,
    };
    let template = PromptTemplate::new("{prompt}", settings.base_bos);
    let base = LocalPolicy::new(lm.clone(), tokenizer.clone(), template, sampling, Vec::new());
    let pairs = models.guide.iter().map(|guide| (1.0, guide.clone())).collect();
    let mut engine = Engine::open(settings.method.clone(), steer, Box::new(base), pairs)?;
    let prompts = random_prompts(tokenizer, settings)?;
    let rates = MachineRates::measure(settings.device, settings.kind);
    memory::return_unused();
    // Not counted: the first passes make libtorch choose its kernels.
    engine.settings.max_new_tokens = settings.new_tokens.min(6);
    timed(&mut engine, &prompts[..prompts.len().min(settings.prompts_in_flight)])?;
    engine.settings.max_new_tokens = settings.new_tokens;
    let (seconds, Counted { sampled, fed, .. }) = timed(&mut engine, &prompts)?;
    let guides: Vec<&Lm> =
        models.guide.iter().flat_map(|guide| [&*guide.tuned, &*guide.untuned]).collect();
    let per_prompt = |count: u64| count as f64 / settings.prompts as f64;
    let limit = Limit {
        rates,
        prompt_tokens: settings.prompt_tokens as f64,
        in_flight: settings.prompts_in_flight.min(settings.prompts) as f64,
    };
    let chunks =
        settings.new_tokens.div_ceil(settings.method.search.settings().chunk(settings.new_tokens));
    let base_limit = limit.seconds(lm, per_prompt(sampled), settings.new_tokens as f64);
    let limit_seconds = base_limit
        + guides.iter().map(|lm| limit.seconds(lm, per_prompt(fed), chunks as f64)).sum::<f64>();
    let seconds_per_prompt = seconds / settings.prompts as f64;
    Ok(BenchReport {
        what,
        settings: settings.method.settings(),
        dtype: crate::models::weights::dtype_name(settings.kind).into_owned(),
        threads: i64::from(tch::get_num_threads()),
        prompts: settings.prompts,
        prompts_in_flight: settings.prompts_in_flight,
        prompt_tokens: settings.prompt_tokens,
        new_tokens: settings.new_tokens,
        seconds_per_prompt,
        sampled_tokens: sampled,
        sampled_tokens_per_s: sampled as f64 / seconds,
        guide_tokens: fed,
        guide_tokens_per_s: fed as f64 / seconds,
        peak_rss_bytes: peak_rss_bytes().unwrap_or(0),
        matmul_flops_per_s: rates.matmul_flops_per_s,
        matmul_kernel: rates.matmul_kernel,
        memory_bytes_per_s: rates.memory_bytes_per_s,
        memory_work: rates.memory_work,
        limit_seconds_per_prompt: limit_seconds,
        limit_fraction: limit_seconds / seconds_per_prompt,
    })
}

/// Seconds that the answers to these prompts take, and what they cost.
fn timed<'a>(engine: &mut Engine, prompts: &'a [Prompt]) -> Result<(f64, Counted<'a>)> {
    let folder = tempfile::tempdir().map_err(Error::io("", "making a temporary folder"))?;
    let (journal, _) = Journal::<SteerLine>::open(folder.path().join("steer.jsonl"))?;
    let mut counted = Counted { due: prompts.iter(), journal, sampled: 0, fed: 0 };
    let started = Instant::now();
    let in_flight = engine.plan(prompts)?;
    engine.answer(1, in_flight, &mut counted)?;
    Ok((started.elapsed().as_secs_f64(), counted))
}

/// Prompts in their order, whose answers are written as a run writes them.
struct Counted<'a> {
    due: std::slice::Iter<'a, Prompt>,
    journal: Journal<SteerLine>,
    /// Tokens of the base, and of each guide.
    sampled: u64,
    fed: u64,
}

impl Desk for Counted<'_> {
    fn next(&mut self, _in_flight: usize) -> Result<Option<Prompt>> {
        Ok(self.due.next().cloned())
    }

    fn pause(&mut self) -> Result<()> {
        interrupt::check()
    }

    fn done(&mut self, _number: usize, line: SteerLine) -> Result<()> {
        self.sampled += line.tokens.base;
        self.fed += line.tokens.guide;
        self.journal.append(&line)
    }

    fn lost(&mut self, _number: usize, _prompt: Prompt, error: Error) -> Result<()> {
        Err(error)
    }
}

/// The work that no engine avoids.
struct Limit {
    rates: MachineRates,
    prompt_tokens: f64,
    in_flight: f64,
}

impl Limit {
    /// Least seconds of one model for one prompt of which `tokens` response tokens go through it in
    /// `passes` forward passes, each of which reads the weights once for all prompts in flight.
    fn seconds(&self, lm: &Lm, tokens: f64, passes: f64) -> f64 {
        let work = lm.work();
        let flops = 2.0 * work.products(self.prompt_tokens, tokens);
        let bytes =
            (work.blocks + work.head) * lm.kind().elt_size_in_bytes() as f64 * (passes + 1.0)
                / self.in_flight;
        (flops / self.rates.matmul_flops_per_s).max(bytes / self.rates.memory_bytes_per_s)
    }
}

fn random_prompts(tokenizer: &Tokenizer, settings: &BenchSettings) -> Result<Vec<Prompt>> {
    let vocabulary = tokenizer.vocab_size();
    let prompt = |number: usize| -> Result<Prompt> {
        let stream = Stream::new(1, "bench", &number.to_string());
        let draw = |j: usize| {
            ((stream.uniform(j as u64, 0) * vocabulary as f64) as usize).min(vocabulary - 1) as i64
        };
        // A tokenizer may join what was drawn apart: drawn longer and cut.
        let mut ids: Vec<i64> = (0..4 * settings.prompt_tokens)
            .map(draw)
            .filter(|id| Some(*id) != tokenizer.eos_id())
            .collect();
        for _ in 0..8 {
            ids = tokenizer.encode(&tokenizer.decode(&ids)?)?;
            ids.truncate(settings.prompt_tokens);
        }
        Ok(Prompt::new(format!("prompt-{number}"), tokenizer.decode(&ids)?))
    };
    (0..settings.prompts).map(prompt).collect()
}
