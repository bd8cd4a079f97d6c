//! Log lines on stderr, printed between the progress bars. The level comes from `W2S_LOG` (default
//! `info`).

use std::io::{self, Write};
use std::time::Instant;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::{color, progress};
use crate::error::{Error, Result};

/// Sets up logging for the process; once, from `main`. Fails on a `W2S_LOG` that is no filter.
pub fn init() -> Result<()> {
    let wanted = std::env::var("W2S_LOG").unwrap_or_default();
    let subscriber = tracing_subscriber::fmt()
        .compact()
        .with_env_filter(filter(&wanted)?)
        .with_timer(Elapsed(Instant::now()))
        .with_target(false)
        .with_ansi(color::on_stderr())
        .with_writer(BetweenBars)
        .finish();
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|_| Error::failed("logging was set up twice"))
}

fn filter(wanted: &str) -> Result<EnvFilter> {
    let wanted = if wanted.trim().is_empty() { "info" } else { wanted };
    EnvFilter::try_new(wanted).map_err(|error| {
        let hint = "hint: use `error`, `warn`, `info`, `debug` or `trace`";
        Error::recipe(format!("W2S_LOG = `{wanted}`: {error}\n\n{hint}"))
    })
}

/// Seconds since the program started: short, and what one wants to know of a long run.
struct Elapsed(Instant);

impl tracing_subscriber::fmt::time::FormatTime for Elapsed {
    fn format_time(
        &self,
        writer: &mut tracing_subscriber::fmt::format::Writer<'_>,
    ) -> std::fmt::Result {
        write!(writer, "{:7.1}s", self.0.elapsed().as_secs_f64())
    }
}

#[derive(Clone, Copy)]
struct BetweenBars;

impl MakeWriter<'_> for BetweenBars {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

impl Write for BetweenBars {
    /// tracing-subscriber hands over a whole event at once. A closed stderr must not end the work,
    /// so failures stay unsaid.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = progress::suspend(|| io::stderr().write_all(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_and_nonsense_is_refused() {
        assert_eq!(filter("").unwrap().to_string(), "info");
        assert_eq!(filter("debug").unwrap().to_string(), "debug");
        let error = filter("w2s=loud").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(
            error.to_string().contains("W2S_LOG = `w2s=loud`: ")
                && error.to_string().contains("hint: "),
            "{error}"
        );
    }
}
