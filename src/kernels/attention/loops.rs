//! The loops themselves, over numbers at addresses.

use std::ops::Range;

use super::store::Reading;
use crate::kernels::lanes::Lanes;
#[cfg(target_arch = "x86_64")]
use crate::kernels::lanes::{Eight, Sixteen};
#[cfg(target_arch = "x86_64")]
use crate::kernels::simd::{self, Widest};
use crate::kernels::simd::{LANES, exp_of_negative, narrow, widen};

/// Fewer pairs of a query and a key are done before another thread is awake.
pub(super) const LEAST_PAIRS: usize = 4096;

/// Where a tensor (rows, heads, width, head_dim) lies whose last dimension is dense; for threads,
/// to which a tensor must not go.
pub(super) struct Numbers {
    pub at: usize,
    pub strides: [usize; 3],
}

impl Numbers {
    /// # Safety
    /// The tensor has numbers of type `T`, and `size` of them here.
    unsafe fn get<T>(&self, row: usize, head: usize, token: usize, size: usize) -> &[T] {
        let [rows, heads, tokens] = self.strides;
        // SAFETY: as this function's caller has it.
        unsafe {
            std::slice::from_raw_parts(
                (self.at as *const T).add(row * rows + head * heads + token * tokens),
                size,
            )
        }
    }
}

/// One call.
pub(super) struct Task<'a> {
    pub reading: &'a Reading<'a>,
    pub query: Numbers,
    /// Keys and values.
    pub new: [Numbers; 2],
    pub output: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub width: usize,
    pub head_dim: usize,
    pub scale: f32,
    pub window: usize,
}

/// A number as it lies in memory.
pub(super) trait Number: Copy {
    fn get(self) -> f32;
    fn of(x: f32) -> Self;
    /// # Safety
    /// As [`Lanes::load`].
    unsafe fn load<L: Lanes>(from: *const Self) -> L;
}

impl Number for f32 {
    #[inline(always)]
    fn get(self) -> f32 {
        self
    }

    #[inline(always)]
    fn of(x: f32) -> Self {
        x
    }

    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self) -> L {
        // SAFETY: as the caller has it.
        unsafe { L::load(from) }
    }
}

/// A bf16.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Bf16(u16);

impl Number for Bf16 {
    #[inline(always)]
    fn get(self) -> f32 {
        widen(self.0)
    }

    #[inline(always)]
    fn of(x: f32) -> Self {
        Self(narrow(x))
    }

    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self) -> L {
        // SAFETY: as the caller has it.
        unsafe { L::load_brain(from.cast()) }
    }
}

impl Task<'_> {
    /// Some of all rows' key heads, whose numbers are of type `T`, with the widest registers that
    /// there are.
    pub fn on_this_processor<T: Number>(&self, share: Range<usize>) {
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma")]
            fn wide<T: Number>(task: &Task, share: Range<usize>) {
                task.run::<T, Sixteen>(share);
            }
            #[target_feature(enable = "avx2,fma")]
            fn middle<T: Number>(task: &Task, share: Range<usize>) {
                task.run::<T, Eight>(share);
            }
            match simd::widest() {
                // SAFETY: the processor has these instructions.
                Widest::Avx512 => return unsafe { wide::<T>(self, share) },
                Widest::Avx2 => return unsafe { middle::<T>(self, share) },
                Widest::Neither => {}
            }
        }
        self.run::<T, f32>(share);
    }

    #[inline(always)]
    fn run<T: Number, L: Lanes>(&self, share: Range<usize>) {
        let task = self;
        let group = task.heads / task.kv_heads;
        let (mut query, mut sums) = (vec![0f32; task.head_dim], vec![0f32; task.head_dim]);
        let (mut scores, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for unit in share {
            let (row, kv_head) = (unit / task.kv_heads, unit % task.kv_heads);
            // SAFETY: `attend` and `Reading::push` have held all sizes against the tensors, which
            // live as long as the task; each unit writes the new tokens and the output of its own
            // row and heads alone, and nobody else reads those.
            unsafe {
                task.store_new::<T>(row, kv_head);
                task.find::<T>(0, row, kv_head, &mut keys);
                task.find::<T>(1, row, kv_head, &mut values);
                for head in kv_head * group..(kv_head + 1) * group {
                    for token in 0..task.width {
                        let numbers = task.query.get::<T>(row, head, token, task.head_dim);
                        for (to, from) in query.iter_mut().zip(numbers) {
                            *to = from.get() * task.scale;
                        }
                        let end = task.reading.rows[row].tokens + token + 1;
                        let seen = end.saturating_sub(task.window)..end;
                        score::<T, L>(&query, &keys[seen.clone()], &mut scores);
                        let total = softmax(&mut scores);
                        sum::<T, L>(&values[seen], &scores, &mut sums);
                        let place =
                            ((row * task.width + token) * task.heads + head) * task.head_dim;
                        let output = std::slice::from_raw_parts_mut(
                            (task.output as *mut T).add(place),
                            task.head_dim,
                        );
                        for (to, sum) in output.iter_mut().zip(&sums) {
                            *to = T::of(sum / total);
                        }
                    }
                }
            }
        }
    }
    /// # Safety
    /// The numbers are of type `T`, and nobody reads the new tokens of this row and head yet.
    #[inline(always)]
    unsafe fn store_new<T: Number>(&self, row: usize, kv_head: usize) {
        for (from, to) in self.new.iter().zip(self.reading.rows[row].new) {
            for token in 0..self.width {
                // SAFETY: as this function's caller has it.
                unsafe {
                    let numbers = from.get::<T>(row, kv_head, token, self.head_dim);
                    let to = (to as *mut T).add((token * self.kv_heads + kv_head) * self.head_dim);
                    std::ptr::copy_nonoverlapping(numbers.as_ptr(), to, self.head_dim);
                }
            }
        }
    }

    /// Where a row has its keys (0) or values (1) of one head, token by token.
    #[inline(always)]
    fn find<T>(&self, which: usize, row: usize, kv_head: usize, found: &mut Vec<*const T>) {
        let (stride, head) = (self.kv_heads * self.head_dim, kv_head * self.head_dim);
        found.clear();
        for stretch in &self.reading.stretches[self.reading.rows[row].stretches.clone()] {
            for token in 0..stretch.tokens {
                found.push((stretch.at[which] as *const T).wrapping_add(token * stride + head));
            }
        }
    }
}

/// The products of a query with each of the keys.
///
/// # Safety
/// A key has as many numbers as the query, and the processor has the registers.
#[inline(always)]
unsafe fn score<T: Number, L: Lanes>(query: &[f32], keys: &[*const T], scores: &mut Vec<f32>) {
    scores.clear();
    let whole = query.len() - query.len() % L::WIDTH;
    for four in keys.chunks(4) {
        // Four at once, as one waits for its own sums.
        let last = four.len() - 1;
        let four = [four[0], four[last.min(1)], four[last.min(2)], four[last]];
        let mut sums = [L::zero(); 4];
        for place in (0..whole).step_by(L::WIDTH) {
            // SAFETY: as this function's caller has it.
            unsafe {
                let query = L::load(query.as_ptr().add(place));
                sums[0] = sums[0].plus(query, T::load(four[0].add(place)));
                sums[1] = sums[1].plus(query, T::load(four[1].add(place)));
                sums[2] = sums[2].plus(query, T::load(four[2].add(place)));
                sums[3] = sums[3].plus(query, T::load(four[3].add(place)));
            }
        }
        let mut products = [sums[0].sum(), sums[1].sum(), sums[2].sum(), sums[3].sum()];
        for (place, query) in query.iter().enumerate().skip(whole) {
            for (product, key) in products.iter_mut().zip(four) {
                // SAFETY: as above.
                *product += query * unsafe { *key.add(place) }.get();
            }
        }
        scores.extend_from_slice(&products[..=last]);
    }
}

/// The sum of all values, each times its weight.
///
/// # Safety
/// A value has as many numbers as there are sums, and the processor has the registers.
#[inline(always)]
unsafe fn sum<T: Number, L: Lanes>(values: &[*const T], weights: &[f32], sums: &mut [f32]) {
    let mut first = 0;
    while first + 4 * L::WIDTH <= sums.len() {
        // In registers over all tokens.
        let mut block = [L::zero(); 4];
        for (&value, &weight) in values.iter().zip(weights) {
            // SAFETY: as this function's caller has it.
            unsafe {
                let (weight, value) = (L::all(weight), value.add(first));
                block[0] = block[0].plus(weight, T::load(value));
                block[1] = block[1].plus(weight, T::load(value.add(L::WIDTH)));
                block[2] = block[2].plus(weight, T::load(value.add(2 * L::WIDTH)));
                block[3] = block[3].plus(weight, T::load(value.add(3 * L::WIDTH)));
            }
        }
        for (index, part) in block.into_iter().enumerate() {
            // SAFETY: within the sums.
            unsafe { part.store(sums.as_mut_ptr().add(first + index * L::WIDTH)) };
        }
        first += 4 * L::WIDTH;
    }
    let rest = &mut sums[first..];
    rest.fill(0.0);
    if !rest.is_empty() {
        for (&value, &weight) in values.iter().zip(weights) {
            for (place, sum) in rest.iter_mut().enumerate() {
                // SAFETY: as above.
                *sum += weight * unsafe { *value.add(first + place) }.get();
            }
        }
    }
}

/// e^(score - highest) in the place of each score, and their sum; NaN where one is NaN or none is
/// finite.
#[inline(always)]
fn softmax(scores: &mut [f32]) -> f32 {
    let mut highest = f32::NEG_INFINITY;
    let mut broken = false;
    for &score in scores.iter() {
        broken |= score.is_nan();
        highest = if score > highest { score } else { highest };
    }
    if broken || !highest.is_finite() {
        return f32::NAN;
    }
    let mut sums = [0f32; LANES];
    let mut chunks = scores.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for (sum, score) in sums.iter_mut().zip(chunk) {
            *score = exp_of_negative(*score - highest);
            *sum += *score;
        }
    }
    let mut total = 0.0;
    for score in chunks.into_remainder() {
        *score = exp_of_negative(*score - highest);
        total += *score;
    }
    for sum in sums {
        total += sum;
    }
    total
}
