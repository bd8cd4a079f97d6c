//! Ctrl-C and SIGTERM: long work asks here at its safe points, finishes the write under way, and stops with `Error::Interrupted`.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};

static REQUESTS: AtomicUsize = AtomicUsize::new(0);

/// Installs the handler; a second signal ends the process at once.
pub fn install() -> Result<()> {
    ctrlc::set_handler(|| {
        if REQUESTS.fetch_add(1, Ordering::SeqCst) > 0 {
            std::process::exit(130);
        }
        eprintln!("stopping at the next safe point; once more to stop at once");
    })
    .map_err(|error| Error::failed(format!("no signal handler: {error}")))
}

/// Whether a stop was asked for.
pub fn requested() -> bool {
    REQUESTS.load(Ordering::SeqCst) > 0
}

/// `Err(Interrupted)` once a stop was asked for.
pub fn check() -> Result<()> {
    if requested() { Err(Error::Interrupted) } else { Ok(()) }
}
