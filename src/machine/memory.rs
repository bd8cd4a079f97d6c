//! How much memory a device has left.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use tch::Device;

use super::control_group;
use crate::recipe::bytes_in_words;

/// Bytes that can still be had on `device`; `None` where nobody tells.
pub fn free_bytes(device: Device) -> Option<u64> {
    match device {
        Device::Cpu => Some(MainMemory::now()?.free),
        Device::Cuda(index) => cuda_memory(index),
        _ => None,
    }
}

/// Gives back to the kernel what was freed in this process and kept for later (see `main.rs`), so
/// that it counts as free.
pub fn return_unused() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator guards itself.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// What this process may use of the main memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MainMemory {
    /// Bytes that can still be had.
    pub free: u64,
    /// Bytes that whoever bounds it allows.
    pub limit: u64,
    pub bound: Bound,
}

/// Who leaves the least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    Machine,
    /// The folder of a control group.
    ControlGroup(PathBuf),
    /// `ulimit -v`, as batch systems set it.
    AddressSpace,
}

impl MainMemory {
    /// `None` where the kernel does not tell.
    pub fn now() -> Option<Self> {
        Self::below(Path::new("/"), address_space())
    }

    /// The least of what the kernel counts as available, of the room below the limits of the
    /// control groups, and of the room in the address space (limit, free).
    fn below(root: &Path, address_space: Option<(u64, u64)>) -> Option<Self> {
        let meminfo = fs::read_to_string(root.join("proc/meminfo")).ok()?;
        let machine = Self {
            free: kilobytes(&meminfo, "MemAvailable:")?,
            limit: kilobytes(&meminfo, "MemTotal:")?,
            bound: Bound::Machine,
        };
        let group = control_group::memory_limit(root).map(|found| Self {
            free: found.room,
            limit: found.limit,
            bound: Bound::ControlGroup(found.group),
        });
        let space =
            address_space.map(|(limit, free)| Self { free, limit, bound: Bound::AddressSpace });
        [Some(machine), group, space].into_iter().flatten().min_by_key(|memory| memory.free)
    }
}

impl fmt::Display for MainMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} free of {}", bytes_in_words(self.free), bytes_in_words(self.limit))?;
        match &self.bound {
            Bound::Machine => write!(f, " of the machine"),
            Bound::ControlGroup(folder) => {
                write!(f, ", the limit of the control group {}", folder.display())
            }
            Bound::AddressSpace => write!(f, ", the limit of the address space (`ulimit -v`)"),
        }
    }
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}

/// The limit of this process's address space and what is left of it.
fn address_space() -> Option<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills the structure.
    let told = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) } == 0;
    if !told || limit.rlim_cur == libc::RLIM_INFINITY {
        return None;
    }
    let used = kilobytes(&fs::read_to_string("/proc/self/status").ok()?, "VmSize:")?;
    Some((limit.rlim_cur, limit.rlim_cur.saturating_sub(used)))
}

/// Free bytes of a device, by the CUDA runtime that libtorch has loaded.
fn cuda_memory(index: usize) -> Option<u64> {
    type SetDevice = unsafe extern "C" fn(i32) -> i32;
    type MemGetInfo = unsafe extern "C" fn(*mut usize, *mut usize) -> i32;
    let (mut free, mut total) = (0, 0);
    // SAFETY: the library is loaded already, and these are the signatures of the CUDA runtime since
    // its first release.
    unsafe {
        let library = ["libcudart.so.13", "libcudart.so.12"]
            .into_iter()
            .find_map(|name| libloading::Library::new(name).ok())?;
        let set_device: libloading::Symbol<SetDevice> = library.get(b"cudaSetDevice").ok()?;
        let memory: libloading::Symbol<MemGetInfo> = library.get(b"cudaMemGetInfo").ok()?;
        (set_device(i32::try_from(index).ok()?) == 0 && memory(&mut free, &mut total) == 0)
            .then_some(free as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_the_least_of_main_memory_counts() {
        assert!(free_bytes(Device::Cpu).is_some_and(|bytes| bytes > 1 << 20));
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let now = |space| MainMemory::below(root.path(), space).map(|memory| memory.to_string());
        assert_eq!(now(None), None);
        write(
            "proc/meminfo",
            "MemTotal:       8000000 kB\nMemFree:         100 kB\nMemAvailable:    6000000 kB\n",
        );
        assert_eq!(now(None).unwrap(), "5.7 GiB free of 7.6 GiB of the machine");
        write("proc/self/cgroup", "0::/job\n");
        write("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        write("sys/fs/cgroup/job/memory.max", "2000000000\n");
        write("sys/fs/cgroup/job/memory.current", "500000000\n");
        assert_eq!(
            now(None).unwrap(),
            "1.4 GiB free of 1.9 GiB, the limit of the control group /sys/fs/cgroup/job"
        );
        assert_eq!(
            now(Some((3 << 30, 1 << 30))).unwrap(),
            "1.0 GiB free of 3.0 GiB, the limit of the address space (`ulimit -v`)"
        );
        write("sys/fs/cgroup/job/memory.max", "9000000000\n");
        assert_eq!(
            now(None).unwrap(),
            "5.7 GiB free of 7.6 GiB of the machine",
            "other processes have the rest"
        );
    }
}
