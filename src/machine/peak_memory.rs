//! The most main memory that the process has had.

use std::time::{Duration, Instant};

/// Asks the kernel at most once a second, so that every training step can.
#[derive(Default)]
pub struct PeakMemory {
    read: Option<(Instant, Option<u64>)>,
}

impl PeakMemory {
    /// Bytes, up to a second old; `None` where the kernel does not tell.
    pub fn bytes(&mut self) -> Option<u64> {
        match self.read {
            Some((when, bytes)) if when.elapsed() < Duration::from_secs(1) => bytes,
            _ => self.read.insert((Instant::now(), peak_rss_bytes())).1,
        }
    }
}

/// Peak resident set size of this process, of the kernel.
pub fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_peak_counts_what_is_held_and_is_read_once_a_second() {
        let held = vec![1u8; 64 << 20];
        let peak = PeakMemory::default().bytes().unwrap();
        assert!(peak > held.len() as u64 && peak < 1 << 40, "{peak}");
        let fresh = PeakMemory { read: Some((Instant::now(), Some(7))) }.bytes();
        let stale = PeakMemory {
            read: Instant::now().checked_sub(Duration::from_secs(2)).map(|when| (when, Some(7))),
        }
        .bytes();
        assert!(fresh == Some(7) && stale.unwrap() >= peak, "{fresh:?} {stale:?}");
    }
}
