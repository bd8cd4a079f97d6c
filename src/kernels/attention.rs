//! Attention of new tokens to all that their rows have read, in main memory: scores, softmax and the sum of values of one query at a time, each
//! row over its own keys wherever they lie. What a row gets depends on nothing but that row.
//!
//! libtorch's operators need all keys of a call in one tensor, masks over the padding between rows of unequal length, and several passes
//! over small matrices, each a call of MKL's.

use std::marker::PhantomData;
use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::parallel::in_parallel;
use super::simd::{Work, dispatch, exp_of_negative, narrow, widen};

/// Room for keys and values, both (rows, capacity, kv_heads, head_dim).
#[derive(Debug)]
pub struct Store {
    pub key: Tensor,
    pub value: Tensor,
    rows: usize,
    capacity: usize,
    /// Where they lie in memory.
    at: [usize; 2],
    /// Bytes of one token.
    token: usize,
}

impl Store {
    pub fn new(key: Tensor, value: Tensor) -> Self {
        let (rows, capacity, kv_heads, head_dim) = key.size4().expect("keys are (rows, capacity, kv_heads, head_dim)");
        assert!(key.is_contiguous() && value.is_contiguous() && key.size() == value.size() && key.kind() == value.kind());
        let token = (kv_heads * head_dim) as usize * key.kind().elt_size_in_bytes();
        let at = [&key, &value].map(|of| of.data_ptr() as usize);
        Self { rows: rows as usize, capacity: capacity as usize, at, token, key, value }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Where `row` has its key and its value at `column`.
    fn place(&self, row: usize, column: usize) -> [usize; 2] {
        assert!(row < self.rows && column <= self.capacity);
        self.at.map(|at| at + (row * self.capacity + column) * self.token)
    }

    /// Copies the first `tokens` of a row of `from` to `column` of `row`; both lie in main memory.
    pub fn copy(&mut self, row: usize, column: usize, from: &Self, from_row: usize, tokens: usize) {
        assert!(column + tokens <= self.capacity && tokens <= from.capacity && self.token == from.token);
        for (to, from) in self.place(row, column).into_iter().zip(from.place(from_row, 0)) {
            // SAFETY: both within tensors of their own, as was asserted.
            unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, tokens * self.token) };
        }
    }
}

/// What the rows of one call read, row after row.
#[derive(Debug, Default)]
pub struct Reading<'a> {
    stretches: Vec<Stretch>,
    rows: Vec<ReadRow>,
    stores: PhantomData<&'a [usize]>,
}

/// Neighbouring keys and values.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    at: [usize; 2],
    tokens: usize,
}

#[derive(Debug)]
struct ReadRow {
    stretches: Range<usize>,
    /// Without the new ones.
    tokens: usize,
    /// Where the new keys and values go.
    new: [usize; 2],
}

impl<'a> Reading<'a> {
    /// Adds a row that has read the first tokens of some rows, `(store, row, tokens)` in the order of positions. Its `width` new ones go
    /// behind the last of these, which no other row reads there.
    pub fn push(&mut self, read: impl IntoIterator<Item = (&'a Store, usize, usize)>, width: usize) {
        let first = self.stretches.len();
        let (mut total, mut room) = (0, None);
        for (store, row, tokens) in read {
            assert!(tokens <= store.capacity);
            self.stretches.push(Stretch { at: store.place(row, 0), tokens });
            total += tokens;
            room = Some((store, row, tokens));
        }
        let (store, row, tokens) = room.expect("a row has room for its new tokens");
        assert!(tokens + width <= store.capacity, "{tokens} and {width} tokens in room for {}", store.capacity);
        if let Some(last) = self.stretches.last_mut() {
            last.tokens += width;
        }
        self.rows.push(ReadRow { stretches: first..self.stretches.len(), tokens: total, new: store.place(row, tokens) });
    }
}

/// Whether the loops here can read tensors of this kind.
pub fn reads(device: Device, kind: Kind) -> bool {
    device == Device::Cpu && matches!(kind, Kind::Float | Kind::BFloat16)
}

/// Puts the new keys and values, (rows, kv_heads, width, head_dim), where `reading` has room for them, and gives softmax(scale · q kᵀ) v for the
/// new tokens, query (rows, heads, width, head_dim): (rows, width, heads · head_dim). A token sees what precedes it and itself, no further
/// back than `window` positions.
pub fn attend(query: &Tensor, key: &Tensor, value: &Tensor, reading: &Reading, scale: f64, window: Option<i64>) -> Tensor {
    let (rows, heads, width, head_dim) = query.size4().expect("queries are (rows, heads, width, head_dim)");
    let (_, kv_heads, _, _) = key.size4().expect("keys are (rows, kv_heads, width, head_dim)");
    assert!(rows as usize == reading.rows.len() && reads(query.device(), query.kind()) && heads % kv_heads == 0);
    assert!(key.size() == [rows, kv_heads, width, head_dim] && value.size() == key.size());
    assert!(key.kind() == query.kind() && value.kind() == query.kind());
    let output = Tensor::empty([rows, width, heads * head_dim], (query.kind(), query.device()));
    let tensors = [query, key, value].map(dense);
    let [query, key, value] = [0, 1, 2].map(|which| Strided::of(&tensors[which]));
    let task = Task {
        reading,
        query: &query,
        new: [&key, &value],
        output: output.data_ptr() as usize,
        heads: heads as usize,
        kv_heads: kv_heads as usize,
        width: width as usize,
        head_dim: head_dim as usize,
        scale: scale as f32,
        window: window.map_or(usize::MAX, |window| window as usize),
    };
    let units = reading.rows.len() * task.kv_heads;
    let pairs = reading.rows.iter().map(|row| row.tokens + task.width).sum::<usize>() * task.width * task.heads;
    let least = (LEAST_PAIRS * units).div_ceil(pairs.max(1));
    let kind = output.kind();
    in_parallel(units, least, |share| match kind {
        Kind::Float => dispatch(Share::<f32> { task: &task, share, numbers: PhantomData }),
        _ => dispatch(Share::<Brain> { task: &task, share, numbers: PhantomData }),
    });
    output
}

/// Fewer pairs of a query and a key are done before another thread is awake.
const LEAST_PAIRS: usize = 4096;

/// (rows, heads, width, head_dim) with its last dimension dense.
fn dense(tensor: &Tensor) -> Tensor {
    if tensor.stride()[3] == 1 { tensor.shallow_clone() } else { tensor.contiguous() }
}

/// Where the numbers of a [`dense`] tensor lie.
struct Strided {
    at: usize,
    strides: [usize; 3],
}

impl Strided {
    fn of(tensor: &Tensor) -> Self {
        let strides = tensor.stride();
        Self { at: tensor.data_ptr() as usize, strides: [0, 1, 2].map(|dim| strides[dim] as usize) }
    }

    /// # Safety
    /// The tensor has numbers of type `T`, and `size` of them here.
    unsafe fn numbers<T>(&self, row: usize, head: usize, token: usize, size: usize) -> &[T] {
        let [rows, heads, tokens] = self.strides;
        // SAFETY: as this function's caller has it.
        unsafe { std::slice::from_raw_parts((self.at as *const T).add(row * rows + head * heads + token * tokens), size) }
    }
}

struct Task<'a> {
    reading: &'a Reading<'a>,
    query: &'a Strided,
    /// Keys and values.
    new: [&'a Strided; 2],
    output: usize,
    heads: usize,
    kv_heads: usize,
    width: usize,
    head_dim: usize,
    scale: f32,
    window: usize,
}

/// A number as it lies in memory.
trait Number: Copy {
    fn get(self) -> f32;
    fn of(x: f32) -> Self;
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
}

/// A bf16.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Brain(u16);

impl Number for Brain {
    #[inline(always)]
    fn get(self) -> f32 {
        widen(self.0)
    }

    #[inline(always)]
    fn of(x: f32) -> Self {
        Self(narrow(x))
    }
}

/// Some of all rows' key heads.
struct Share<'a, T> {
    task: &'a Task<'a>,
    share: Range<usize>,
    numbers: PhantomData<T>,
}

impl<T: Number> Work for Share<'_, T> {
    type Answer = ();

    #[inline(always)]
    fn run(self) {
        let task = self.task;
        let group = task.heads / task.kv_heads;
        let (mut query, mut sums) = (vec![0f32; task.head_dim], vec![0f32; task.head_dim]);
        let mut scores: Vec<f32> = Vec::new();
        for unit in self.share {
            let (row, kv_head) = (unit / task.kv_heads, unit % task.kv_heads);
            // SAFETY: `attend` and `Reading::push` have held all sizes against the tensors, which live as long as the task; each unit writes
            // the new tokens and the output of its own row and heads alone, and nobody else reads those.
            unsafe {
                task.store_new::<T>(row, kv_head);
                for head in kv_head * group..(kv_head + 1) * group {
                    for token in 0..task.width {
                        let numbers = task.query.numbers::<T>(row, head, token, task.head_dim);
                        query.iter_mut().zip(numbers).for_each(|(to, from)| *to = from.get() * task.scale);
                        task.score::<T>(row, kv_head, token, &query, &mut scores);
                        let total = softmax(&mut scores);
                        task.sum_values::<T>(row, kv_head, token, &scores, &mut sums);
                        let place = ((row * task.width + token) * task.heads + head) * task.head_dim;
                        let output = std::slice::from_raw_parts_mut((task.output as *mut T).add(place), task.head_dim);
                        output.iter_mut().zip(&sums).for_each(|(to, sum)| *to = T::of(sum / total));
                    }
                }
            }
        }
    }
}

impl Task<'_> {
    /// # Safety
    /// The numbers are of type `T`, and nobody reads the new tokens of this row and head yet.
    #[inline(always)]
    unsafe fn store_new<T: Number>(&self, row: usize, kv_head: usize) {
        for (from, to) in self.new.iter().zip(self.reading.rows[row].new) {
            for token in 0..self.width {
                // SAFETY: as this function's caller has it.
                unsafe {
                    let numbers = from.numbers::<T>(row, kv_head, token, self.head_dim);
                    let to = (to as *mut T).add((token * self.kv_heads + kv_head) * self.head_dim);
                    std::ptr::copy_nonoverlapping(numbers.as_ptr(), to, self.head_dim);
                }
            }
        }
    }

    /// What the new token `token` of a row sees: keys (0) or values (1) of one head, stretch by stretch, the first number and how many tokens.
    #[inline(always)]
    fn seen<T: Number>(&self, which: usize, row: usize, kv_head: usize, token: usize) -> impl Iterator<Item = (*const T, usize)> {
        let row = &self.reading.rows[row];
        let end = row.tokens + token + 1;
        let start = end.saturating_sub(self.window);
        let (stride, head) = (self.kv_heads * self.head_dim, kv_head * self.head_dim);
        let mut before = 0;
        self.reading.stretches[row.stretches.clone()].iter().map(move |stretch| {
            let first = before;
            before += stretch.tokens;
            let (from, to) = (start.clamp(first, before) - first, end.clamp(first, before) - first);
            ((stretch.at[which] as *const T).wrapping_add(from * stride + head), to - from)
        })
    }

    /// The scores of all that a token sees.
    ///
    /// # Safety
    /// The numbers are of type `T`.
    #[inline(always)]
    unsafe fn score<T: Number>(&self, row: usize, kv_head: usize, token: usize, query: &[f32], scores: &mut Vec<f32>) {
        let stride = self.kv_heads * self.head_dim;
        scores.clear();
        for (keys, count) in self.seen::<T>(0, row, kv_head, token) {
            // SAFETY: a stretch has that many tokens.
            let key = |index: usize| unsafe { std::slice::from_raw_parts(keys.add(index * stride), self.head_dim) };
            let whole = count - count % 4;
            for index in (0..whole).step_by(4) {
                scores.extend(dots(query, [key(index), key(index + 1), key(index + 2), key(index + 3)]));
            }
            scores.extend((whole..count).map(|index| dots(query, [key(index)])[0]));
        }
    }

    /// The sum of all values that a token sees, each times its weight.
    ///
    /// # Safety
    /// The numbers are of type `T`.
    #[inline(always)]
    unsafe fn sum_values<T: Number>(&self, row: usize, kv_head: usize, token: usize, weights: &[f32], sums: &mut [f32]) {
        let stride = self.kv_heads * self.head_dim;
        let whole = self.head_dim - self.head_dim % BLOCK;
        sums[whole..].fill(0.0);
        for first in (0..whole).step_by(BLOCK) {
            // In registers over all tokens.
            let mut block = [0f32; BLOCK];
            let mut weights = weights.iter();
            for (values, count) in self.seen::<T>(1, row, kv_head, token) {
                for index in 0..count {
                    let weight = weights.next().copied().unwrap_or(0.0);
                    // SAFETY: a stretch has that many tokens.
                    let value = unsafe { std::slice::from_raw_parts(values.add(index * stride + first), BLOCK) };
                    block.iter_mut().zip(value).for_each(|(sum, value)| *sum += weight * value.get());
                }
            }
            sums[first..first + BLOCK].copy_from_slice(&block);
        }
        let mut weights = weights.iter();
        for (values, count) in self.seen::<T>(1, row, kv_head, token).filter(|_| whole < self.head_dim) {
            for index in 0..count {
                let weight = weights.next().copied().unwrap_or(0.0);
                // SAFETY: as above.
                let value = unsafe { std::slice::from_raw_parts(values.add(index * stride + whole), self.head_dim - whole) };
                sums[whole..].iter_mut().zip(value).for_each(|(sum, value)| *sum += weight * value.get());
            }
        }
    }
}

/// Numbers of a head whose sums stay in registers.
const BLOCK: usize = 64;
/// Of a vector register.
const WIDTH: usize = 16;

/// The products of a query and some keys.
#[inline(always)]
fn dots<T: Number, const KEYS: usize>(query: &[f32], keys: [&[T]; KEYS]) -> [f32; KEYS] {
    let mut sums = [[0f32; WIDTH]; KEYS];
    let whole = query.len() - query.len() % WIDTH;
    for first in (0..whole).step_by(WIDTH) {
        let query = &query[first..first + WIDTH];
        for (sums, key) in sums.iter_mut().zip(keys) {
            let key = &key[first..first + WIDTH];
            for lane in 0..WIDTH {
                sums[lane] += query[lane] * key[lane].get();
            }
        }
    }
    let mut answers = [0f32; KEYS];
    for ((answer, sums), key) in answers.iter_mut().zip(&mut sums).zip(keys) {
        for half in [8, 4, 2, 1] {
            for lane in 0..half {
                sums[lane] += sums[lane + half];
            }
        }
        *answer = sums[0] + query[whole..].iter().zip(&key[whole..]).map(|(query, key)| query * key.get()).sum::<f32>();
    }
    answers
}

/// e^(score - highest) in the place of each score, and their sum; NaN where one is NaN or none is finite.
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
    let mut sums = [0f32; WIDTH];
    let mut chunks = scores.chunks_exact_mut(WIDTH);
    for chunk in &mut chunks {
        for (sum, score) in sums.iter_mut().zip(chunk) {
            *score = exp_of_negative(*score - highest);
            *sum += *score;
        }
    }
    let rest = chunks.into_remainder();
    rest.iter_mut().for_each(|score| *score = exp_of_negative(*score - highest));
    sums.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of several stretches, of different lengths, against one softmax over all keys by libtorch in double precision.
    #[test]
    fn rows_get_what_one_softmax_over_all_their_keys_gives() {
        let wave = |shape: &[i64], seed: f64, kind: Kind| {
            let count = shape.iter().product::<i64>();
            ((Tensor::arange(count, (Kind::Double, Device::Cpu)) * 0.37 + seed).sin() * 1.5).view(shape).to_kind(kind)
        };
        for (kind, bound) in [(Kind::Float, 2e-6), (Kind::BFloat16, 6e-3)] {
            for (heads, kv_heads, head_dim, width, window) in
                [(4, 2, 80, 3, None), (4, 2, 80, 3, Some(4)), (2, 2, 64, 1, None), (6, 1, 7, 2, Some(1)), (3, 3, 16, 5, Some(6))]
            {
                let store = |rows: i64, capacity: i64, seed: f64| {
                    let shape = [rows, capacity, kv_heads, head_dim];
                    Store::new(wave(&shape, seed, kind), wave(&shape, seed + 0.5, kind))
                };
                let (prompt, chunk, own) = (store(1, 9, 1.0), store(2, 5, 2.0), store(3, 8, 3.0));
                // What each row has read: of the prompt, of the chunk, of its own.
                let read: [Vec<(&Store, usize, usize)>; 3] =
                    [vec![(&prompt, 0, 9), (&chunk, 1, 5), (&own, 0, 0)], vec![(&prompt, 0, 6), (&own, 1, 3)], vec![(&own, 2, 2)]];
                let [query, key, value] =
                    [(heads, 5.0), (kv_heads, 6.0), (kv_heads, 7.0)].map(|(heads, seed)| wave(&[3, width, heads, head_dim], seed, kind));
                // What lies beyond must not matter.
                let before: Vec<[Tensor; 2]> = read
                    .iter()
                    .map(|row| {
                        let part = |of: &Tensor, row: usize, tokens: usize| of.get(row as i64).narrow(0, 0, tokens as i64).copy();
                        let join = |which: fn(&Store) -> &Tensor| {
                            Tensor::cat(&row.iter().map(|(store, row, tokens)| part(which(store), *row, *tokens)).collect::<Vec<_>>(), 0)
                        };
                        [join(|store| &store.key), join(|store| &store.value)]
                    })
                    .collect();
                let mut reading = Reading::default();
                read.into_iter().for_each(|row| reading.push(row, width as usize));
                let turned = |of: &Tensor| of.transpose(1, 2);
                let found = attend(&turned(&query), &turned(&key), &turned(&value), &reading, 0.3, window);
                assert_eq!(found.size(), [3, width, heads * head_dim]);
                for (row, [keys, values]) in before.iter().enumerate() {
                    let whole = |old: &Tensor, new: &Tensor| {
                        let all = Tensor::cat(&[old, &new.get(row as i64)], 0).to_kind(Kind::Double).transpose(0, 1);
                        all.repeat_interleave_self_int(heads / kv_heads, 0, None) // (heads, tokens, head_dim)
                    };
                    let (keys, values) = (whole(keys, &key), whole(values, &value));
                    let total = keys.size()[1];
                    let scores = query.get(row as i64).to_kind(Kind::Double).transpose(0, 1).matmul(&keys.transpose(1, 2)) * 0.3;
                    let column = Tensor::arange(total, (Kind::Int64, Device::Cpu)).unsqueeze(0);
                    let place = Tensor::arange(width, (Kind::Int64, Device::Cpu)).unsqueeze(1) + (total - width);
                    let hidden = column.gt_tensor(&place).logical_or(&column.le_tensor(&(&place - window.unwrap_or(total))));
                    let weights = scores.masked_fill(&hidden, f64::NEG_INFINITY).softmax(-1, Kind::Double);
                    let expected = weights.matmul(&values).transpose(0, 1).reshape([width, heads * head_dim]);
                    let error = (found.get(row as i64).to_kind(Kind::Double) - expected).abs().max().double_value(&[]);
                    assert!(error < bound, "{kind:?}, {heads} heads of {head_dim}, window {window:?}, row {row}: {error}");
                }
                // The new tokens have been stored.
                let stored = own.key.get(0).narrow(0, 0, width);
                assert!(stored.equal(&key.get(0)), "{kind:?}");
            }
        }
    }

    #[test]
    fn a_broken_key_breaks_what_sees_it() {
        let shape = [1, 4, 1, 16];
        let zeros = || Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        let store = Store::new(zeros(), zeros());
        let new = Tensor::full([1, 1, 2, 16], f64::NAN, (Kind::Float, Device::Cpu));
        let mut reading = Reading::default();
        reading.push([(&store, 0, 2)], 2);
        let found = attend(&zeros().narrow(1, 0, 2).transpose(1, 2), &new, &new, &reading, 1.0, None);
        assert!(bool::try_from(found.isnan().all()).unwrap());
    }
}
