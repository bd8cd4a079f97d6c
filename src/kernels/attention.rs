//! Attention of new tokens to all that their rows have read, in main memory: scores, softmax and the sum of values of one query at a time, each
//! row over its own keys wherever they lie. What a row gets depends on nothing but that row.
//!
//! libtorch's operators need all keys of a call in one tensor, masks over the padding between rows of unequal length, and several passes
//! over small matrices, each a call of MKL's.

use std::marker::PhantomData;
use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::lanes::Lanes;
#[cfg(target_arch = "x86_64")]
use super::lanes::{Eight, Sixteen};
use super::parallel::in_parallel;
#[cfg(target_arch = "x86_64")]
use super::simd::{self, Widest};
use super::simd::{LANES, exp_of_negative, narrow, widen};

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

    /// Of numbers that are not written yet, for keys and values as these.
    pub fn room(&self, rows: usize, capacity: usize) -> Self {
        let (_, _, kv_heads, head_dim) = self.key.size4().expect("keys are (rows, capacity, kv_heads, head_dim)");
        Self::unwritten([rows as i64, capacity as i64, kv_heads, head_dim], self.key.kind())
    }

    fn unwritten(shape: [i64; 4], kind: Kind) -> Self {
        let empty = || Tensor::empty(shape, (kind, Device::Cpu));
        Self::new(empty(), empty())
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

/// Queries, keys and values of new tokens, the same number for each row.
pub struct New {
    parts: [Strided; 3],
    rows: usize,
    width: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    kind: Kind,
}

impl New {
    /// Of query (rows, heads, width, head_dim), key and value (rows, kv_heads, width, head_dim).
    pub fn separate(query: &Tensor, key: &Tensor, value: &Tensor) -> Self {
        let (rows, heads, width, head_dim) = query.size4().expect("queries are (rows, heads, width, head_dim)");
        let (_, kv_heads, _, _) = key.size4().expect("keys are (rows, kv_heads, width, head_dim)");
        assert!(heads % kv_heads == 0 && key.size() == [rows, kv_heads, width, head_dim] && value.size() == key.size());
        assert!([query, key, value].iter().all(|part| reads(part.device(), part.kind()) && part.kind() == query.kind()));
        let [rows, width, heads, kv_heads, head_dim] = [rows, width, heads, kv_heads, head_dim].map(|size| size as usize);
        Self { parts: [query, key, value].map(Strided::of), rows, width, heads, kv_heads, head_dim, kind: query.kind() }
    }

    /// Of (rows, width, 3 · heads · head_dim), queries, keys and values side by side.
    pub fn fused(fused: &Tensor, heads: usize) -> Self {
        let (rows, width, size) = fused.size3().expect("(rows, width, size)");
        let tensor = fused.contiguous();
        let [rows, width, size] = [rows, width, size].map(|size| size as usize);
        let (at, kind) = (tensor.data_ptr() as usize, tensor.kind());
        assert!(size % (3 * heads) == 0 && reads(tensor.device(), kind));
        let part = |part: usize| Strided {
            at: at + part * size / 3 * kind.elt_size_in_bytes(),
            strides: [width * size, size / 3 / heads, size],
            _tensor: tensor.shallow_clone(),
        };
        Self { parts: [part(0), part(1), part(2)], rows, width, heads, kv_heads: heads, head_dim: size / 3 / heads, kind }
    }

    /// Of numbers that are not written yet, for keys and values as these.
    pub fn room(&self, rows: usize, capacity: usize) -> Store {
        Store::unwritten([rows, capacity, self.kv_heads, self.head_dim].map(|size| size as i64), self.kind)
    }
}

/// Puts the new keys and values where `reading` has room for them, and gives softmax(scale · q kᵀ) v of the new queries, (rows, width,
/// heads · head_dim). A token sees what precedes it and itself, no further back than `window` positions.
pub fn attend(new: &New, reading: &Reading, scale: f64, window: Option<i64>) -> Tensor {
    let &New { rows, width, heads, kv_heads, head_dim, kind, .. } = new;
    assert!(rows == reading.rows.len(), "what each row has read");
    let output = Tensor::empty([rows, width, heads * head_dim].map(|size| size as i64), (kind, Device::Cpu));
    let [query, key, value] = new.parts.each_ref().map(|part| Numbers { at: part.at, strides: part.strides });
    let task = Task {
        reading,
        query,
        new: [key, value],
        output: output.data_ptr() as usize,
        heads,
        kv_heads,
        width,
        head_dim,
        scale: scale as f32,
        window: window.map_or(usize::MAX, |window| window as usize),
    };
    let units = reading.rows.len() * task.kv_heads;
    let pairs = reading.rows.iter().map(|row| row.tokens + task.width).sum::<usize>() * task.width * task.heads;
    let least = (LEAST_PAIRS * units).div_ceil(pairs.max(1));
    in_parallel(units, least, |share| match kind {
        Kind::Float => task.on_this_processor::<f32>(share),
        _ => task.on_this_processor::<Brain>(share),
    });
    output
}

/// Fewer pairs of a query and a key are done before another thread is awake.
const LEAST_PAIRS: usize = 4096;

/// A tensor (rows, heads, width, head_dim) with its last dimension dense.
struct Strided {
    at: usize,
    strides: [usize; 3],
    _tensor: Tensor,
}

impl Strided {
    fn of(tensor: &Tensor) -> Self {
        let tensor = if tensor.stride()[3] == 1 { tensor.shallow_clone() } else { tensor.contiguous() };
        let strides = tensor.stride();
        Self { at: tensor.data_ptr() as usize, strides: [0, 1, 2].map(|dim| strides[dim] as usize), _tensor: tensor }
    }
}

/// The same for threads, to which a tensor must not go.
struct Numbers {
    at: usize,
    strides: [usize; 3],
}

impl Numbers {
    /// # Safety
    /// The tensor has numbers of type `T`, and `size` of them here.
    unsafe fn get<T>(&self, row: usize, head: usize, token: usize, size: usize) -> &[T] {
        let [rows, heads, tokens] = self.strides;
        // SAFETY: as this function's caller has it.
        unsafe { std::slice::from_raw_parts((self.at as *const T).add(row * rows + head * heads + token * tokens), size) }
    }
}

struct Task<'a> {
    reading: &'a Reading<'a>,
    query: Numbers,
    /// Keys and values.
    new: [Numbers; 2],
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

    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Self) -> L {
        // SAFETY: as the caller has it.
        unsafe { L::load_brain(from.cast()) }
    }
}

impl Task<'_> {
    /// Some of all rows' key heads, whose numbers are of type `T`, with the widest registers that there are.
    fn on_this_processor<T: Number>(&self, share: Range<usize>) {
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
            // SAFETY: `attend` and `Reading::push` have held all sizes against the tensors, which live as long as the task; each unit writes
            // the new tokens and the output of its own row and heads alone, and nobody else reads those.
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
                        let place = ((row * task.width + token) * task.heads + head) * task.head_dim;
                        let output = std::slice::from_raw_parts_mut((task.output as *mut T).add(place), task.head_dim);
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
                let found = attend(&New::separate(&turned(&query), &turned(&key), &turned(&value)), &reading, 0.3, window);
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
        let query = zeros().narrow(1, 0, 2).transpose(1, 2);
        let found = attend(&New::separate(&query, &new, &new), &reading, 1.0, None);
        assert!(bool::try_from(found.isnan().all()).unwrap());
    }
}
