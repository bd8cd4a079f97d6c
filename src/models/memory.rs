//! How much memory a device has left.

use std::fs;
use std::path::Path;

use tch::Device;

/// Bytes that can still be had on `device`; `None` where nobody tells.
pub fn free_bytes(device: Device) -> Option<u64> {
    match device {
        Device::Cpu => main_memory(),
        Device::Cuda(index) => cuda_memory(index),
        _ => None,
    }
}

/// What the kernel counts as available, or the room below the limit of a control group, whichever is less.
fn main_memory() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let available = line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024;
    Some(control_group_room(Path::new("/sys/fs/cgroup")).map_or(available, |room| room.min(available)))
}

/// Of the group that a container sees as the root. Caches of files count as used there, but give way.
fn control_group_room(folder: &Path) -> Option<u64> {
    let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let cached = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.trim().parse::<u64>().ok()).unwrap_or(0);
    Some(number("memory.max")?.saturating_sub(number("memory.current")?.saturating_sub(cached)))
}

/// Of the CUDA runtime that libtorch has loaded.
fn cuda_memory(index: usize) -> Option<u64> {
    type SetDevice = unsafe extern "C" fn(i32) -> i32;
    type MemGetInfo = unsafe extern "C" fn(*mut usize, *mut usize) -> i32;
    let (mut free, mut total) = (0, 0);
    // SAFETY: the library is loaded already, and these are the signatures of the CUDA runtime since its first release.
    unsafe {
        let library = ["libcudart.so.13", "libcudart.so.12"].into_iter().find_map(|name| libloading::Library::new(name).ok())?;
        let set_device: libloading::Symbol<SetDevice> = library.get(b"cudaSetDevice").ok()?;
        let memory: libloading::Symbol<MemGetInfo> = library.get(b"cudaMemGetInfo").ok()?;
        (set_device(i32::try_from(index).ok()?) == 0 && memory(&mut free, &mut total) == 0).then_some(free as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_memory_is_known_and_a_group_s_limit_counts_without_its_file_cache() {
        assert!(main_memory().is_some_and(|bytes| bytes > 1 << 20));
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(control_group_room(folder.path()), None);
        write("memory.max", "max\n");
        write("memory.current", "700\n");
        assert_eq!(control_group_room(folder.path()), None, "no limit");
        write("memory.max", "1000\n");
        assert_eq!(control_group_room(folder.path()), Some(300));
        write("memory.stat", "anon 5\ninactive_file 250\n");
        assert_eq!(control_group_room(folder.path()), Some(550));
    }
}
