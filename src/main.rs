//! Parse, logging, panic hook, exit code. Everything else is the library's.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory, FromArgMatches};
use w2s::artifacts::interrupt;
use w2s::cli::Cli;
use w2s::error::Error;
use w2s::monitor::{color, logging, progress};

fn main() -> ExitCode {
    keep_memory();
    interrupt::outlive_file_limits();
    let cli = parse();
    // libtorch reports through panics what tch's plain operations cannot return (out of memory
    // above all): one line, not a stack.
    std::panic::set_hook(Box::new(|info| {
        progress::clear_for_panic();
        tracing::debug!("{info}");
    }));
    let result = catch_unwind(AssertUnwindSafe(|| logging::init().and_then(|()| cli.execute())))
        .unwrap_or_else(|panic| Err(Error::Torch(panic_message(&*panic))));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where stderr is gone, as with a terminal that was closed, the exit code still tells.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// The command line, read as `Cli::parse` does; its help and its complaints are coloured as all
/// else is.
fn parse() -> Cli {
    let choice = match color::decided() {
        Some(true) => ColorChoice::Always,
        Some(false) => ColorChoice::Never,
        None => ColorChoice::Auto,
    };
    let matches = Cli::command().color(choice).get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// Freed blocks stay with the process: activations come and go by the hundred megabytes, and by
/// default each goes back to the kernel, which clears every page of the next one.
fn keep_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: these set numbers of the allocator before there is another thread; a refusal changes
    // nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    let text = text.unwrap_or("the program stopped unexpectedly");
    // `unwrap` on a tch error prints its Debug form, with the line breaks escaped.
    text.replace("\\n", "\n")
        .replace("called `Result::unwrap()` on an `Err` value: ", "")
        .replace("Torch(\"", "")
}
