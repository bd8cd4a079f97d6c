//! The command line: one file a subcommand; translates words into calls, owns no logic.

mod bench;
mod check;
mod compare;
mod doctor;
mod export;
mod hub;
mod recipe_file;
mod run;
mod search_flags;
mod settings;
mod steer;

use clap::{Parser, Subcommand};

use crate::error::Result;
use crate::machine::threads::Threads;
use crate::monitor::progress;

/// Weak-to-strong search: tune a small guide pair, steer larger frozen language models with it at
/// test time.
#[derive(Debug, Parser)]
#[command(name = "w2s", version, about, max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Plain log lines instead of progress bars
    #[arg(long, global = true)]
    no_progress: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a recipe's stages; continues where an earlier run stopped
    Run(run::RunCommand),
    /// Report every problem of a recipe, and its plan; of weights it reads the headers only
    Check(check::CheckCommand),
    /// Answer prompts from the shell
    Steer(Box<steer::SteerCommand>),
    /// Tables over runs: rewards, texts and cost, differences, weak to strong
    Compare(compare::CompareCommand),
    /// A run's responses in files of other programs: alpaca_eval, Inspect
    Export(export::ExportCommand),
    /// What this machine offers, what a model is, what a server can do
    Doctor(doctor::DoctorCommand),
    /// Speed of the engine, beside what this machine could do
    Bench(Box<bench::BenchCommand>),
}

impl Cli {
    pub fn execute(self) -> Result<()> {
        progress::set_enabled(!self.no_progress);
        Threads::set(None);
        match self.command {
            Command::Run(command) => command.execute(),
            Command::Check(command) => command.execute(),
            Command::Steer(command) => command.execute(),
            Command::Compare(command) => command.execute(),
            Command::Export(command) => command.execute(),
            Command::Doctor(command) => command.execute(),
            Command::Bench(command) => command.execute(),
        }
    }
}

/// Writes data to stdout; a reader that went away is no error.
fn print(text: &str) -> Result<()> {
    use std::io::Write;
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(crate::error::Error::io("stdout", "writing")(error))
        }
        _ => Ok(()),
    }
}

fn to_json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| crate::error::Error::failed(error.to_string()))
}
