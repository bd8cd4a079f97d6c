//! How the next token is drawn: legal settings, and random streams that depend on what is drawn,
//! never on batch or shard layout.

use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// Temperature, then top-k, then top-p, then a draw; or the arg-max.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    Greedy,
    /// `top_k = 0` keeps every token, `top_p = 1` keeps the whole mass.
    Random {
        temperature: f64,
        top_k: usize,
        top_p: f64,
    },
}

impl Sampling {
    /// Temperature 0 is greedy.
    pub fn new(temperature: f64, top_k: usize, top_p: f64) -> Self {
        if temperature == 0.0 { Self::Greedy } else { Self::Random { temperature, top_k, top_p } }
    }

    /// How many of the largest logits a draw can need; `None` for all of them.
    pub fn needed_logits(&self) -> Option<usize> {
        match self {
            Self::Greedy => Some(1),
            Self::Random { top_k: 0, .. } => None,
            Self::Random { top_k, .. } => Some(*top_k),
        }
    }

    /// Index into `logits` (descending where `needed_logits` is some) of the token that the uniform
    /// number `u` in [0, 1) selects, by inversion of the cumulative distribution. `logits` must
    /// hold at least one number; NaN never wins.
    pub fn pick(&self, logits: &[f32], u: f64) -> usize {
        match *self {
            Self::Greedy => arg_max(logits),
            Self::Random { temperature, top_k, top_p } => {
                let mut order: Vec<usize> = (0..logits.len()).collect();
                let by_logit =
                    |a: &usize, b: &usize| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b));
                if top_k > 0 && top_k < order.len() {
                    order.select_nth_unstable_by(top_k - 1, by_logit);
                    order.truncate(top_k);
                }
                if top_p < 1.0 || top_k > 0 {
                    order.sort_unstable_by(by_logit);
                }
                let highest = logits[arg_max(logits)] as f64;
                let mut weights: Vec<f64> = order
                    .iter()
                    .map(|&i| ((logits[i] as f64 - highest) / temperature).exp())
                    .collect();
                if top_p < 1.0 {
                    keep_nucleus(&mut weights, top_p);
                }
                order[invert(&weights, u)]
            }
        }
    }
}

fn arg_max(logits: &[f32]) -> usize {
    let mut best = 0;
    for (i, &logit) in logits.iter().enumerate() {
        if logit > logits[best] || logits[best].is_nan() {
            best = i;
        }
    }
    best
}

/// Keeps the shortest prefix of the descending `weights` whose share of the mass reaches `top_p`;
/// at least one.
fn keep_nucleus(weights: &mut Vec<f64>, top_p: f64) {
    let total: f64 = weights.iter().sum();
    let mut mass = 0.0;
    let kept = weights.iter().position(|weight| {
        mass += weight;
        mass >= top_p * total
    });
    weights.truncate(kept.map_or(weights.len(), |last| last + 1));
}

fn invert(weights: &[f64], u: f64) -> usize {
    let target = u * weights.iter().sum::<f64>();
    let mut mass = 0.0;
    for (i, weight) in weights.iter().enumerate() {
        mass += weight;
        if mass > target {
            return i;
        }
    }
    weights.iter().rposition(|&weight| weight > 0.0).unwrap_or(0)
}

/// The random numbers of one (seed, purpose, item): number (step, slot) is a pure function of all
/// five.
///
/// ChaCha8 keyed by the SHA-256 of the names, its stream id the slot and its position the step, so
/// any number is had in O(1).
#[derive(Debug, Clone)]
pub struct Stream {
    key: [u8; 32],
}

impl Stream {
    pub fn new(seed: u64, purpose: &str, item: &str) -> Self {
        let mut hash = Sha256::new();
        for part in [
            &seed.to_le_bytes()[..],
            &(purpose.len() as u64).to_le_bytes(),
            purpose.as_bytes(),
            item.as_bytes(),
        ] {
            hash.update(part);
        }
        Self { key: hash.finalize().into() }
    }

    /// Uniform in [0, 1) with 53 bits.
    pub fn uniform(&self, step: u64, slot: u64) -> f64 {
        let mut rng = self.rng();
        rng.set_stream(slot);
        rng.set_word_pos(u128::from(step) * 2);
        (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The generator itself, for code that draws many numbers in a fixed order (a shuffle, an
    /// initialisation).
    pub fn rng(&self) -> ChaCha8Rng {
        ChaCha8Rng::from_seed(self.key)
    }

    /// A seed for code that makes its own stream of one.
    pub fn seed(&self) -> u64 {
        self.rng().next_u64()
    }

    /// 0..n in a random order (Fisher–Yates).
    pub fn permutation(&self, n: usize) -> Vec<usize> {
        let mut rng = self.rng();
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            let j = (u128::from(rng.next_u64()) * (i as u128 + 1)) >> 64;
            order.swap(i, j as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_reproducible_and_distinct() {
        let stream = Stream::new(1, "steer", "test-3");
        let first = stream.uniform(7, 2);
        assert_eq!(first, Stream::new(1, "steer", "test-3").uniform(7, 2));
        for other in [
            stream.uniform(7, 3),
            stream.uniform(8, 2),
            Stream::new(2, "steer", "test-3").uniform(7, 2),
        ] {
            assert_ne!(first, other);
        }
        assert_ne!(
            Stream::new(1, "ab", "c").uniform(0, 0),
            Stream::new(1, "a", "bc").uniform(0, 0)
        );
    }

    #[test]
    fn draws_follow_the_tempered_truncated_distribution() {
        // p ∝ exp(logit / T): with T = 2 and these logits 4 : 2 : 1 after top-3.
        let logits = [0.0, (4f32).ln() * 2.0, f32::NEG_INFINITY, (2f32).ln() * 2.0, -50.0];
        let how = Sampling::new(2.0, 3, 1.0);
        let stream = Stream::new(0, "test", "sampler");
        let mut counts = [0usize; 5];
        let draws = 70_000;
        for step in 0..draws {
            counts[how.pick(&logits, stream.uniform(step, 0))] += 1;
        }
        for (index, share) in [(1, 4.0 / 7.0), (3, 2.0 / 7.0), (0, 1.0 / 7.0)] {
            let got = counts[index] as f64 / draws as f64;
            let deviation = (share * (1.0 - share) / draws as f64).sqrt();
            assert!((got - share).abs() < 4.0 * deviation, "{index}: {got} for {share}");
        }
        assert_eq!(counts[2] + counts[4], 0, "{counts:?}");
    }

    #[test]
    fn top_p_keeps_the_smallest_set_that_reaches_it() {
        let logits = [(0.5f32).ln(), (0.3f32).ln(), (0.2f32).ln()];
        let how = Sampling::new(1.0, 0, 0.75);
        let picked: Vec<usize> =
            [0.0, 0.62, 0.63, 0.999].iter().map(|&u| how.pick(&logits, u)).collect();
        assert_eq!(picked, [0, 0, 1, 1]); // 0.5 : 0.3 renormalised, the third is cut
        assert_eq!(Sampling::new(0.0, 50, 1.0).pick(&[1.0, 3.0, f32::NAN, 2.0], 0.99), 1);
    }

    #[test]
    fn permutations_are_uniform_enough_and_complete() {
        let mut firsts = [0usize; 4];
        for seed in 0..4000 {
            let order = Stream::new(seed, "test", "order").permutation(4);
            let mut sorted = order.clone();
            sorted.sort();
            assert_eq!(sorted, [0, 1, 2, 3]);
            firsts[order[0]] += 1;
        }
        assert!(firsts.iter().all(|&count| (850..1150).contains(&count)), "{firsts:?}");
    }
}
