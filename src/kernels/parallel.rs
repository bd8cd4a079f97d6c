//! Loops shared by libtorch's own threads, which are OpenMP's: a second pool beside theirs would
//! fight them for the cores, and starting threads anew takes longer than most loops here.

use std::any::Any;
use std::ffi::{CStr, c_uint, c_void};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// `work` on shares of `0 .. count`, one for each of libtorch's threads, of at least `least` each;
/// the answers in order.
pub fn in_parallel<T: Send>(
    count: usize,
    least: usize,
    work: impl Fn(Range<usize>) -> T + Sync,
) -> Vec<T> {
    let parts =
        usize::try_from(tch::get_num_threads()).unwrap_or(1).min(count / least.max(1)).max(1);
    if parts == 1 {
        return vec![work(0..count)];
    }
    let share = count.div_ceil(parts);
    let range = |part: usize| (part * share).min(count)..((part + 1) * share).min(count);
    let (next, answers) = (
        AtomicUsize::new(0),
        Mutex::new((0..parts).map(|_| None).collect::<Vec<Option<Caught<T>>>>()),
    );
    // There may be fewer threads than parts, down to one inside of another parallel region.
    let take_parts = || {
        loop {
            let part = next.fetch_add(1, Ordering::Relaxed);
            if part >= parts {
                return;
            }
            let answer = catch_unwind(AssertUnwindSafe(|| work(range(part))));
            answers.lock().unwrap_or_else(PoisonError::into_inner)[part] = Some(answer);
        }
    };
    run_team(parts, &take_parts);
    let answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
    answers
        .into_iter()
        .flatten()
        .map(|answer| answer.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        .collect()
}

type Caught<T> = Result<T, Box<dyn Any + Send>>;

/// `work` on up to `threads` threads at once, this one among them; it must not unwind.
fn run_team<W: Fn() + Sync>(threads: usize, work: &W) {
    unsafe extern "C" fn call<W: Fn() + Sync>(work: *mut c_void) {
        // SAFETY: the pointer is to the work of `run_team`, which waits for all calls.
        (unsafe { &*work.cast::<W>() })();
    }
    match open_mp() {
        // SAFETY: libgomp's entry to a parallel region, which returns once every thread has left
        // `call`.
        Some(parallel) => unsafe {
            parallel(call::<W>, std::ptr::from_ref(work).cast_mut().cast(), threads as c_uint, 0)
        },
        None => work(),
    }
}

type GompParallel =
    unsafe extern "C" fn(unsafe extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint);

/// That of the OpenMP library that libtorch has loaded; one that is not GNU's may have no such
/// entry, and there is one thread then.
fn open_mp() -> Option<GompParallel> {
    static FOUND: OnceLock<Option<GompParallel>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        const ENTRY: &CStr = c"GOMP_parallel";
        // SAFETY: looks a name up; the function of this name has this type in every libgomp
        // (libgomp/libgomp_g.h), and in LLVM's OpenMP too.
        unsafe {
            let found = libc::dlsym(libc::RTLD_DEFAULT, ENTRY.as_ptr());
            (!found.is_null()).then(|| std::mem::transmute::<*mut c_void, GompParallel>(found))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_everything_once_and_in_order() {
        for (count, least) in [(0, 1), (1, 1), (7, 1), (1000, 3), (5, 100)] {
            let all: Vec<usize> = in_parallel(count, least, |share| share.collect::<Vec<_>>())
                .into_iter()
                .flatten()
                .collect();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn shares_within_shares_and_panics_come_back() {
        assert!(open_mp().is_some(), "libtorch's OpenMP library");
        let sums = in_parallel(64, 1, |outer| {
            outer
                .map(|i| in_parallel(i, 1, |inner| inner.sum::<usize>()).iter().sum::<usize>())
                .sum::<usize>()
        });
        assert_eq!(
            sums.iter().sum::<usize>(),
            (0..64).map(|i| i * (i - usize::from(i > 0)) / 2).sum::<usize>()
        );
        let panic =
            catch_unwind(|| in_parallel(100, 1, |share| assert!(!share.contains(&99), "this one")))
                .unwrap_err();
        assert!(
            panic.downcast_ref::<&str>().is_some_and(|message| *message == "this one")
                || panic.is::<String>()
        );
    }
}
