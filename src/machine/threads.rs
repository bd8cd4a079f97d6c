//! How libtorch's threads on the CPU wait for one another, and how many they are. Its threads are
//! OpenMP's (libgomp).
//!
//! Without work a thread spins, and sleeps after a while. Left alone, libgomp spins for some
//! milliseconds at every small operation; beside other work it so burns the time that the thread it
//! waits for is in need of, and a small search takes twenty times as long. A short spin is as fast
//! on a quiet machine. libgomp reads its settings when it is loaded, before `main`, so the
//! environment must be there before.

use std::fmt;
use std::sync::OnceLock;

/// Number of libtorch's threads, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Threads {
    pub count: usize,
    pub source: String,
}

/// What the user may have set, the one that counts first: libtorch asks MKL, which asks OpenMP.
const VARIABLES: [&str; 2] = ["MKL_NUM_THREADS", "OMP_NUM_THREADS"];

impl Threads {
    /// Gives libtorch its number: what the environment says, or else `asked`, or else one for each
    /// core that this process may use, within its CPU quota.
    pub fn set(asked: Option<usize>) -> Self {
        let threads = Self::choose(asked);
        let count = i32::try_from(threads.count).unwrap_or(i32::MAX);
        if count != tch::get_num_threads() {
            tch::set_num_threads(count);
        }
        threads
    }

    /// What [`Self::set`] sets.
    pub fn choose(asked: Option<usize>) -> Self {
        // libtorch's own choice, asked before it is told another: what the environment says, or
        // else each core that this process may use.
        static OWN: OnceLock<usize> = OnceLock::new();
        let count = *OWN.get_or_init(|| usize::try_from(tch::get_num_threads()).unwrap_or(1));
        let decides =
            |name: &&&str| std::env::var(name).is_ok_and(|text| is_number_of_threads(&text));
        match (VARIABLES.iter().find(decides), asked) {
            (Some(name), _) => Self { count, source: format!("`{name}`") },
            (None, Some(count)) => Self { count, source: "`run.threads`".to_owned() },
            (None, None) => {
                let cores = cores();
                let available =
                    std::thread::available_parallelism().map_or(count, std::num::NonZero::get);
                Self::within(count, available, cores_allowed().unwrap_or(cores), cores)
            }
        }
    }

    /// Those of libtorch's `count` threads that the quota of the control groups leaves, which
    /// allows whole cores. libtorch counts two hardware threads of a core as one.
    fn within(count: usize, available: usize, allowed: usize, cores: usize) -> Self {
        let source = if available < count {
            format!("the CPU quota of the control group; the machine has {cores} cores")
        } else if allowed < cores {
            format!("the cores that this process may use, of {cores}")
        } else {
            "all cores".to_owned()
        };
        Self { count: count.min(available), source }
    }
}

impl fmt::Display for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.count, self.source)
    }
}

/// As OpenMP reads its variable: a list, of which the outermost level counts; nonsense is as good
/// as nothing.
fn is_number_of_threads(text: &str) -> bool {
    text.split(',')
        .next()
        .is_some_and(|first| first.trim().parse::<u32>().is_ok_and(|count| count > 0))
}

/// Cores of the machine.
fn cores() -> usize {
    // SAFETY: asks for a number.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }).unwrap_or(1).max(1)
}

/// Those that the process is not kept from.
fn cores_allowed() -> Option<usize> {
    // SAFETY: the kernel fills the set, whose size it is told.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        (libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) == 0)
            .then(|| libc::CPU_COUNT(&set) as usize)
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod before_start {
    use std::ffi::{CStr, c_char, c_int};
    use std::ptr;

    /// Chosen with `benches/beside.py`: the shortest spin that costs nothing on a quiet machine.
    const SPIN: &CStr = c"GOMP_SPINCOUNT=2000";

    /// What decides how long threads spin; who sets one of them has decided.
    const DECISIONS: [&[u8]; 2] = [b"GOMP_SPINCOUNT=", b"OMP_WAIT_POLICY="];

    /// The loader calls it before any library starts: in every program that this library is part
    /// of, tests included.
    #[used]
    #[unsafe(link_section = ".preinit_array")]
    static FIRST: unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char) =
        spin_shortly;

    /// Executes the program once more with [`SPIN`] in its environment: before libc itself has
    /// started, which forgets what is set here, so there is no other way. It costs ten
    /// milliseconds, most of a start being libtorch's. Where it is refused, the program goes on as
    /// it is.
    ///
    /// Nothing has been started yet, Rust's own runtime neither: system calls on the caller's
    /// memory only.
    ///
    /// # Safety
    /// `environment` ends in a null pointer.
    unsafe extern "C" fn spin_shortly(
        _: c_int,
        arguments: *const *const c_char,
        environment: *const *const c_char,
    ) {
        // SAFETY: the loader hands over the vectors that the kernel made; all else is this
        // function's own.
        unsafe {
            let mut count = 0;
            while !(*environment.add(count)).is_null() {
                if DECISIONS.iter().any(|name| begins_with(*environment.add(count), name)) {
                    return;
                }
                count += 1;
            }
            // Started by naming the loader, the executable is the loader; started with more rights
            // than the caller's, nothing is taken for granted.
            if libc::getauxval(libc::AT_BASE) == 0 || libc::getauxval(libc::AT_SECURE) != 0 {
                return;
            }
            // By its own path, so that it keeps its name in lists of processes.
            let mut path = [0; libc::PATH_MAX as usize];
            if libc::readlink(c"/proc/self/exe".as_ptr(), path.as_mut_ptr(), path.len() - 1) <= 0 {
                return;
            }
            // Fresh memory is zeros, with which the vector ends.
            let bytes = (count + 2) * size_of::<*const c_char>();
            let memory = libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            if memory == libc::MAP_FAILED {
                return;
            }
            let extended = memory.cast::<*const c_char>();
            ptr::copy_nonoverlapping(environment, extended, count);
            extended.add(count).write(SPIN.as_ptr());
            libc::execve(path.as_ptr(), arguments, extended);
            libc::munmap(memory, bytes);
        }
    }

    /// # Safety
    /// `text` ends in a zero.
    unsafe fn begins_with(text: *const c_char, start: &[u8]) -> bool {
        // SAFETY: read up to the first difference, at the latest the closing zero.
        start
            .iter()
            .enumerate()
            .all(|(index, byte)| unsafe { *text.add(index) }.cast_unsigned() == *byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_told_with_its_reason() {
        assert_eq!(Threads::within(8, 8, 8, 8).to_string(), "8 (all cores)");
        assert_eq!(
            Threads::within(4, 8, 8, 8).to_string(),
            "4 (all cores)",
            "of two hardware threads each"
        );
        assert_eq!(
            Threads::within(3, 3, 3, 8).to_string(),
            "3 (the cores that this process may use, of 8)"
        );
        assert_eq!(
            Threads::within(3, 2, 3, 8).to_string(),
            "2 (the CPU quota of the control group; the machine has 8 cores)"
        );
        for (text, is_one) in
            [("3", true), (" 4,2", true), ("0", false), ("-1", false), ("many", false), ("", false)]
        {
            assert_eq!(is_number_of_threads(text), is_one, "{text}");
        }
    }

    /// This binary is a program of this library as any other.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn tests_spin_shortly_too() {
        let set = |name: &str| std::env::var_os(name).is_some();
        assert!(
            set("GOMP_SPINCOUNT") || set("OMP_WAIT_POLICY"),
            "the environment was not there before the start"
        );
    }
}
