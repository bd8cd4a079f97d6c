//! `w2s export`: a run's responses for other programs. What is written is in `stages`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::print;
use crate::error::Result;
use crate::stages::{ExportFormat, Exported, export};

#[derive(Debug, Args)]
pub struct ExportCommand {
    /// A run directory, whether the run is finished or not
    run: PathBuf,
    /// The folder to write into
    #[arg(long)]
    to: PathBuf,
    /// `alpaca-eval`: model_outputs.json of each base, method and seed, whole or not at all;
    /// `inspect`: a log of each base and method, of what is there
    #[arg(long, value_enum)]
    format: Format,
    /// Only this base; may be given several times
    #[arg(long)]
    base: Vec<String>,
    /// Only this method, by its name in the summary; may be given several times
    #[arg(long)]
    method: Vec<String>,
    /// Only this seed; may be given several times
    #[arg(long)]
    seed: Vec<u64>,
    /// Reference outputs of alpaca_eval, whose instructions must be the run's prompts and give the
    /// order [default: those of the recipe's `evaluate.alpaca_eval`]
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    AlpacaEval,
    Inspect,
}

impl ExportCommand {
    pub fn execute(self) -> Result<()> {
        let Self { run, to, format, base, method, seed, reference } = self;
        let format = match format {
            Format::AlpacaEval => ExportFormat::AlpacaEval,
            Format::Inspect => ExportFormat::Inspect,
        };
        let which = Exported { bases: base, methods: method, seeds: seed, reference };
        let written = export(&run, &to, format, &which)?;
        let paths: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
        print(&paths.join("\n"))
    }
}
