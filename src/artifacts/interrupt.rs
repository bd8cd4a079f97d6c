//! Ctrl-C, SIGTERM, SIGHUP and the limit of processor time: long work asks here at its safe points,
//! finishes the write under way, and stops with `Error::Interrupted`. Whoever works long asks;
//! nothing here ends a thread.

use std::ffi::c_int;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};

static REQUESTS: AtomicUsize = AtomicUsize::new(0);

const STOPPING: &[u8] = b"stopping at the next safe point; once more to stop at once\n";
const OUT_OF_TIME: &[u8] =
    b"the limit of processor time (ulimit -t) is reached: stopping at the next safe point\n";

/// A file that would grow beyond its limit (`ulimit -f`) is an error of its write, which names it
/// and cleans up, and not the end of the process without a word.
pub fn outlive_file_limits() {
    // SAFETY: no handler is installed; the signal is ignored, as SIGPIPE is from the start.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Installs the handler; a second signal ends the process at once. A signal that is ignored stays
/// so: by `nohup` and `trap '' HUP` somebody wants the run to outlive a terminal, and a shell
/// script's `w2s run … &` a Ctrl-C that is meant for others.
pub fn install() -> Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGXCPU] {
        // SAFETY: the structures are this function's own, and the handler does only what a handler
        // may.
        let done = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            let told = libc::sigaction(signal, ptr::null(), &mut action) == 0;
            if told && action.sa_sigaction == libc::SIG_IGN {
                continue;
            }
            action = std::mem::zeroed();
            action.sa_sigaction = on_signal as extern "C" fn(c_int) as libc::sighandler_t;
            action.sa_flags = libc::SA_RESTART;
            told && libc::sigaction(signal, &action, ptr::null_mut()) == 0
        };
        if !done {
            return Err(Error::failed(format!(
                "no handler for signal {signal}: {}",
                io::Error::last_os_error()
            )));
        }
    }
    Ok(())
}

/// In whatever thread and place the signal found: no allocation, no locks, and `errno` as it was.
extern "C" fn on_signal(signal: c_int) {
    let is_limit = signal == libc::SIGXCPU;
    // SAFETY: calls that POSIX allows in a handler, and the thread's own `errno`.
    unsafe {
        if REQUESTS.fetch_add(1, Ordering::SeqCst) > 0 {
            // That of a limit comes again every second until the hard one.
            if is_limit {
                return;
            }
            libc::_exit(130);
        }
        let errno = libc::__errno_location();
        let before = *errno;
        let message = if is_limit { OUT_OF_TIME } else { STOPPING };
        libc::write(libc::STDERR_FILENO, message.as_ptr().cast(), message.len());
        *errno = before;
    }
}

/// Whether a stop was asked for.
pub fn requested() -> bool {
    REQUESTS.load(Ordering::SeqCst) > 0
}

/// `Err(Interrupted)` once a stop was asked for.
pub fn check() -> Result<()> {
    if requested() { Err(Error::Interrupted) } else { Ok(()) }
}
