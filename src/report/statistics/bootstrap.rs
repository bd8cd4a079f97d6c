//! The percentile bootstrap of a mean over prompts (Efron 1979): prompts are drawn anew, with
//! replacement, [`RESAMPLES`] times, and the interval holds the middle 95 % of the resampled means.
//! What is resampled is decided by those who ask.
//!
//! Draws are counted, not carried: draw i of resample r among n values takes output number
//! r · n + i of SplitMix64 (Steele et al. 2014) from the state 0. In numpy, of `values` in the
//! order of their prompts' ids:
//!
//! ```text
//! z = np.arange(1, 10_000 * n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
//! z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
//! z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
//! z = z ^ z >> np.uint64(31)
//! draws = ((z >> np.uint64(32)) * np.uint64(n) >> np.uint64(32)).reshape(10_000, n)
//! low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
//! ```
//!
//! So whatever has as many values is resampled alike, and the resampled means of paired
//! differences are the differences of the resampled means.

use super::quantile;

pub const RESAMPLES: usize = 10_000;

/// The means of all resamples of some values.
#[derive(Debug, Clone, PartialEq)]
pub struct Resampled(Vec<f64>);

impl Resampled {
    /// `None` of fewer than two values: one says nothing of its spread.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        if n < 2 {
            return None;
        }
        let mean_of = |resample: usize| {
            let drawn = (0..n).map(|i| values[draw((resample * n + i) as u64, n)]);
            drawn.sum::<f64>() / n as f64
        };
        Some(Self((0..RESAMPLES).map(mean_of).collect()))
    }

    /// Of the differences of two that were resampled from values of the same prompts.
    pub fn minus(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a - b).collect())
    }

    /// Between which 95 % of the means lie: the quantiles 0.025 and 0.975.
    pub fn interval(mut self) -> Option<[f64; 2]> {
        self.0.sort_unstable_by(f64::total_cmp);
        Some([quantile(&self.0, 0.025)?, quantile(&self.0, 0.975)?])
    }
}

/// An index below `n` (at most 2³²): output number `count` of SplitMix64, its high half scaled.
fn draw(count: u64, n: usize) -> usize {
    let mut z = count.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (((z >> 32) * n as u64) >> 32) as usize
}
