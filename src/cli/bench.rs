//! `w2s bench`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::settings::Settings;
use super::steer::DtypeName;
use super::{hub, print, to_json};
use crate::artifacts::interrupt;
use crate::bench::{
    self, BenchModels, BenchReport, BenchSettings, TrainingBenchReport, TrainingBenchSettings,
};
use crate::error::{Error, Result};
use crate::machine::device;
use crate::recipe::{Method, MethodTable, bytes_in_words};

#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub struct BenchCommand {
    /// generate: plain sampling of the base; steer: chunk-level beam search; score: best-of-N,
    /// where guides read whole responses; sft and dpo: training of the base on pairs
    what: What,
    /// The model that is sampled or trained: a folder, or a hub id
    #[arg(long, value_name = "MODEL")]
    base: String,
    /// The tuned guide, for steer and score
    #[arg(long, value_name = "MODEL", requires = "untuned")]
    tuned: Option<String>,
    /// The untuned guide
    #[arg(long, value_name = "MODEL", requires = "tuned")]
    untuned: Option<String>,
    /// The folders need a config.json only; every model is filled with random numbers
    #[arg(long)]
    random_weights: bool,
    /// Whether BOS stands before what the base reads [default: as its tokenizer has it]
    #[arg(long, value_name = "BOOL")]
    base_bos: Option<bool>,
    /// Whether BOS stands before what the guides read [default: as their tokenizer has it]
    #[arg(long, value_name = "BOOL", requires = "tuned")]
    guide_bos: Option<bool>,
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    prompt_tokens: u32,
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    new_tokens: u32,
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    prompts: u32,
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    prompts_in_flight: u32,
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    beam_width: u32,
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    successors: u32,
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    chunk_len: u32,
    /// Preference pairs for sft and dpo, a file with `prompt`, `chosen` and `rejected`; random
    /// tokens by default
    #[arg(long, value_name = "FILE")]
    pairs: Option<PathBuf>,
    /// Pairs of an optimiser step of dpo, responses of sft
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Rows of one forward and backward pass; divides the batch [default: the whole batch, up to 8]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    micro_batch_size: Option<u32>,
    /// Compute activations again on the way back instead of keeping them, in sft and dpo
    #[arg(long)]
    activation_checkpointing: bool,
    /// Optimiser steps of sft and dpo that are timed
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// N of score
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    n: u32,
    #[arg(long, default_value = "cpu")]
    device: String,
    #[arg(long, value_enum, default_value = "auto")]
    dtype: DtypeName,
    /// Write the search trees too
    #[arg(long)]
    trace: bool,
    /// One JSON object instead of lines
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum What {
    Generate,
    Steer,
    Score,
    Sft,
    Dpo,
}

impl BenchCommand {
    pub fn execute(self) -> Result<()> {
        let (what, kind) = match self.what {
            What::Sft | What::Dpo => return self.train(),
            What::Generate => ("generate", "base"),
            What::Score => ("score", "best_of_n"),
            What::Steer => ("steer", "cbs"),
        };
        let method = self.method(what, kind)?;
        let device = device::parse(&self.device)?;
        let settings = BenchSettings {
            method,
            base_bos: self.base_bos,
            guide_bos: self.guide_bos,
            prompt_tokens: self.prompt_tokens as usize,
            new_tokens: self.new_tokens as usize,
            prompts: self.prompts as usize,
            prompts_in_flight: self.prompts_in_flight as usize,
            device,
            kind: device::inference_kind(self.dtype.dtype(), device),
            random_weights: self.random_weights,
            trace: self.trace,
        };
        interrupt::install()?;
        let base = hub::model(&self.base)?;
        let guides = match (&self.tuned, &self.untuned) {
            (Some(tuned), Some(untuned)) if self.what != What::Generate => {
                Some((hub::model(tuned)?, hub::model(untuned)?))
            }
            _ => None,
        };
        let models = BenchModels::open(
            &base,
            guides.as_ref().map(|(tuned, untuned): &(PathBuf, PathBuf)| (&**tuned, &**untuned)),
            &settings,
        )?;
        let report = bench::steer(what, &models, &settings)?;
        print(&if self.json { to_json(&report)? } else { lines(&report) })
    }

    /// By the rules of recipes.
    fn method(&self, what: &str, kind: &str) -> Result<Method> {
        let mut settings = Settings::new(kind);
        let of = |method: &str, count: u32| Some(i64::from(count)).filter(|_| method == kind);
        settings.flag("--n", "steer.method.0.n", of("best_of_n", self.n));
        settings.flag("--beam-width", "steer.method.0.beam_width", of("cbs", self.beam_width));
        settings.flag("--successors", "steer.method.0.successors", of("cbs", self.successors));
        settings.flag("--chunk-len", "steer.method.0.chunk_len", of("cbs", self.chunk_len));
        settings.flag("--new-tokens", "steer.max_new_tokens", Some(self.new_tokens));
        settings.flag(
            "--prompts-in-flight",
            "steer.prompts_in_flight",
            Some(self.prompts_in_flight),
        );
        settings.flag("--device", "run.device", Some(self.device.as_str()));
        settings.flag(format!("`bench {what}`"), "steer.method.0", None::<bool>);
        settings.put("models.base.prompt", "{prompt}".into());
        // Which guides they are changes no speed, so they may be one model.
        for which in ["tuned", "untuned"].into_iter().filter(|_| self.tuned.is_some()) {
            settings.put(&format!("models.{which}.prompt"), "{prompt}".into());
            settings.put(&format!("steer.{which}"), which.into());
        }
        let (recipe, problems, _) = settings.check()?;
        let tables =
            recipe.steer.iter().flat_map(|steer| &steer.method).flat_map(MethodTable::methods);
        tables
            .map(|(_, method)| method)
            .next()
            .filter(|_| problems.is_empty())
            .ok_or(Error::Recipe(problems))
    }

    fn train(self) -> Result<()> {
        let micro_batch_size = self.micro_batch_size.unwrap_or_else(|| {
            (1..=8).rev().find(|size| self.batch_size.is_multiple_of(*size)).unwrap_or(1)
        });
        if !self.batch_size.is_multiple_of(micro_batch_size) {
            return Err(Error::recipe(format!(
                "--micro-batch-size {micro_batch_size} does not divide --batch-size {}",
                self.batch_size
            )));
        }
        let device = device::parse(&self.device)?;
        let settings = TrainingBenchSettings {
            dpo: self.what == What::Dpo,
            pairs: self.pairs,
            bos: self.base_bos,
            prompt_tokens: self.prompt_tokens as usize,
            new_tokens: self.new_tokens as usize,
            batch_size: self.batch_size as usize,
            micro_batch_size: micro_batch_size as usize,
            activation_checkpointing: self.activation_checkpointing,
            steps: self.steps as usize,
            device,
            kind: device::training_kind(device::inference_kind(self.dtype.dtype(), device)),
            random_weights: self.random_weights,
        };
        interrupt::install()?;
        let report = bench::train(&hub::model(&self.base)?, &settings)?;
        print(&if self.json { to_json(&report)? } else { training_lines(&report) })
    }
}

fn training_lines(report: &TrainingBenchReport) -> String {
    let TrainingBenchReport { what, dtype, threads, steps, batch_size, micro_batch_size, .. } =
        report;
    let giga = |rate: f64| rate / 1e9;
    format!(
        "{what}, {dtype}, {threads} threads, {steps} steps of {batch_size}, {micro_batch_size} at \
         once\n\
         seconds per step     {:.3}\n\
         at the limit         {:.3} ({:.0} GFLOP/s in matrix products by {}): {:.0} % of it \
         reached\n\
         tokens               {} ({:.0}/s)\n\
         tokens of text       {} ({:.0}/s)\n\
         peak memory          {}",
        report.seconds_per_step,
        report.limit_seconds_per_step,
        giga(report.matmul_flops_per_s),
        report.matmul_kernel,
        100.0 * report.limit_fraction,
        report.tokens,
        report.tokens_per_s,
        report.text_tokens,
        report.text_tokens_per_s,
        bytes_in_words(report.peak_rss_bytes),
    )
}

fn lines(report: &BenchReport) -> String {
    let BenchReport { what, dtype, threads, prompts, prompts_in_flight, .. } = report;
    let giga = |rate: f64| rate / 1e9;
    format!(
        "{what}{}, {dtype}, {threads} threads, {prompts} prompts of {} tokens, {prompts_in_flight} \
         in flight, {} new tokens\n\
         seconds per prompt   {:.3}\n\
         at the limit         {:.3} ({:.0} GFLOP/s in matrix products by {}, {:.1} GB/s of memory \
         {}): {:.0} % of it reached\n\
         sampled tokens       {} ({:.0}/s)\n\
         guide tokens         {} through each ({:.0}/s)\n\
         peak memory          {}",
        if report.settings == serde_json::json!({}) {
            String::new()
        } else {
            format!(" {}", report.settings)
        },
        report.prompt_tokens,
        report.new_tokens,
        report.seconds_per_prompt,
        report.limit_seconds_per_prompt,
        giga(report.matmul_flops_per_s),
        report.matmul_kernel,
        giga(report.memory_bytes_per_s),
        report.memory_work,
        100.0 * report.limit_fraction,
        report.sampled_tokens,
        report.sampled_tokens_per_s,
        report.guide_tokens,
        report.guide_tokens_per_s,
        bytes_in_words(report.peak_rss_bytes),
    )
}
