//! Attention of new tokens to all that their rows have read, in main memory: scores, softmax and
//! the sum of values of one query at a time, each row over its own keys wherever they lie. What a
//! row gets depends on nothing but that row.
//!
//! libtorch's operators need all keys of a call in one tensor, masks over the padding between rows
//! of unequal length, and several passes over small matrices, each a call of MKL's.

mod loops;
mod store;

use tch::{Device, Kind, Tensor};

use super::parallel::in_parallel;
use loops::{Bf16, LEAST_PAIRS, Numbers, Task};
pub use store::{Reading, Store};

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
    /// The new tokens of query (rows, heads, width, head_dim), key and value (rows, kv_heads,
    /// width, head_dim).
    pub fn separate(query: &Tensor, key: &Tensor, value: &Tensor) -> Self {
        let (rows, heads, width, head_dim) =
            query.size4().expect("queries are (rows, heads, width, head_dim)");
        let (_, kv_heads, _, _) = key.size4().expect("keys are (rows, kv_heads, width, head_dim)");
        assert!(
            heads % kv_heads == 0
                && key.size() == [rows, kv_heads, width, head_dim]
                && value.size() == key.size()
        );
        assert!(
            [query, key, value]
                .iter()
                .all(|part| reads(part.device(), part.kind()) && part.kind() == query.kind())
        );
        let [rows, width, heads, kv_heads, head_dim] =
            [rows, width, heads, kv_heads, head_dim].map(|size| size as usize);
        Self {
            parts: [query, key, value].map(Strided::of),
            rows,
            width,
            heads,
            kv_heads,
            head_dim,
            kind: query.kind(),
        }
    }

    /// The new tokens of (rows, width, 3 · heads · head_dim), queries, keys and values side by
    /// side.
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
        Self {
            parts: [part(0), part(1), part(2)],
            rows,
            width,
            heads,
            kv_heads: heads,
            head_dim: size / 3 / heads,
            kind,
        }
    }

    /// A store for keys and values as these, whose numbers are not written yet.
    pub fn room(&self, rows: usize, capacity: usize) -> Store {
        Store::unwritten(
            [rows, capacity, self.kv_heads, self.head_dim].map(|size| size as i64),
            self.kind,
        )
    }
}

/// Puts the new keys and values where `reading` has room for them, and gives softmax(scale · q kᵀ)
/// v of the new queries, (rows, width, heads · head_dim). A token sees what precedes it and itself,
/// no further back than `window` positions.
pub fn attend(new: &New, reading: &Reading, scale: f64, window: Option<i64>) -> Tensor {
    let &New { rows, width, heads, kv_heads, head_dim, kind, .. } = new;
    assert!(rows == reading.rows.len(), "what each row has read");
    let output =
        Tensor::empty([rows, width, heads * head_dim].map(|size| size as i64), (kind, Device::Cpu));
    let [query, key, value] =
        new.parts.each_ref().map(|part| Numbers { at: part.at, strides: part.strides });
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
    let pairs = reading.rows.iter().map(|row| row.tokens + task.width).sum::<usize>()
        * task.width
        * task.heads;
    let least = (LEAST_PAIRS * units).div_ceil(pairs.max(1));
    in_parallel(units, least, |share| match kind {
        Kind::Float => task.on_this_processor::<f32>(share),
        _ => task.on_this_processor::<Bf16>(share),
    });
    output
}

/// A tensor (rows, heads, width, head_dim) with its last dimension dense.
struct Strided {
    at: usize,
    strides: [usize; 3],
    _tensor: Tensor,
}

impl Strided {
    fn of(tensor: &Tensor) -> Self {
        let tensor =
            if tensor.stride()[3] == 1 { tensor.shallow_clone() } else { tensor.contiguous() };
        let strides = tensor.stride();
        Self {
            at: tensor.data_ptr() as usize,
            strides: [0, 1, 2].map(|dim| strides[dim] as usize),
            _tensor: tensor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of several stretches, of different lengths, against one softmax over all keys by
    /// libtorch in double precision.
    #[test]
    fn rows_get_what_one_softmax_over_all_their_keys_gives() {
        let wave = |shape: &[i64], seed: f64, kind: Kind| {
            let count = shape.iter().product::<i64>();
            ((Tensor::arange(count, (Kind::Double, Device::Cpu)) * 0.37 + seed).sin() * 1.5)
                .view(shape)
                .to_kind(kind)
        };
        for (kind, bound) in [(Kind::Float, 2e-6), (Kind::BFloat16, 6e-3)] {
            for (heads, kv_heads, head_dim, width, window) in [
                (4, 2, 80, 3, None),
                (4, 2, 80, 3, Some(4)),
                (2, 2, 64, 1, None),
                (6, 1, 7, 2, Some(1)),
                (3, 3, 16, 5, Some(6)),
            ] {
                let store = |rows: i64, capacity: i64, seed: f64| {
                    let shape = [rows, capacity, kv_heads, head_dim];
                    Store::new(wave(&shape, seed, kind), wave(&shape, seed + 0.5, kind))
                };
                let (prompt, chunk, own) = (store(1, 9, 1.0), store(2, 5, 2.0), store(3, 8, 3.0));
                // What each row has read: of the prompt, of the chunk, of its own.
                let read: [Vec<(&Store, usize, usize)>; 3] = [
                    vec![(&prompt, 0, 9), (&chunk, 1, 5), (&own, 0, 0)],
                    vec![(&prompt, 0, 6), (&own, 1, 3)],
                    vec![(&own, 2, 2)],
                ];
                let [query, key, value] = [(heads, 5.0), (kv_heads, 6.0), (kv_heads, 7.0)]
                    .map(|(heads, seed)| wave(&[3, width, heads, head_dim], seed, kind));
                // What lies beyond must not matter.
                let before: Vec<[Tensor; 2]> = read
                    .iter()
                    .map(|row| {
                        let part = |of: &Tensor, row: usize, tokens: usize| {
                            of.get(row as i64).narrow(0, 0, tokens as i64).copy()
                        };
                        let join = |which: fn(&Store) -> &Tensor| {
                            Tensor::cat(
                                &row.iter()
                                    .map(|(store, row, tokens)| part(which(store), *row, *tokens))
                                    .collect::<Vec<_>>(),
                                0,
                            )
                        };
                        [join(|store| &store.key), join(|store| &store.value)]
                    })
                    .collect();
                let mut reading = Reading::default();
                read.into_iter().for_each(|row| reading.push(row, width as usize));
                let turned = |of: &Tensor| of.transpose(1, 2);
                let found = attend(
                    &New::separate(&turned(&query), &turned(&key), &turned(&value)),
                    &reading,
                    0.3,
                    window,
                );
                assert_eq!(found.size(), [3, width, heads * head_dim]);
                for (row, [keys, values]) in before.iter().enumerate() {
                    let whole = |old: &Tensor, new: &Tensor| {
                        let all = Tensor::cat(&[old, &new.get(row as i64)], 0)
                            .to_kind(Kind::Double)
                            .transpose(0, 1);
                        // (heads, tokens, head_dim)
                        all.repeat_interleave_self_int(heads / kv_heads, 0, None)
                    };
                    let (keys, values) = (whole(keys, &key), whole(values, &value));
                    let total = keys.size()[1];
                    let scores = query
                        .get(row as i64)
                        .to_kind(Kind::Double)
                        .transpose(0, 1)
                        .matmul(&keys.transpose(1, 2))
                        * 0.3;
                    let column = Tensor::arange(total, (Kind::Int64, Device::Cpu)).unsqueeze(0);
                    let place = Tensor::arange(width, (Kind::Int64, Device::Cpu)).unsqueeze(1)
                        + (total - width);
                    let hidden = column
                        .gt_tensor(&place)
                        .logical_or(&column.le_tensor(&(&place - window.unwrap_or(total))));
                    let weights =
                        scores.masked_fill(&hidden, f64::NEG_INFINITY).softmax(-1, Kind::Double);
                    let expected =
                        weights.matmul(&values).transpose(0, 1).reshape([width, heads * head_dim]);
                    let error = (found.get(row as i64).to_kind(Kind::Double) - expected)
                        .abs()
                        .max()
                        .double_value(&[]);
                    assert!(
                        error < bound,
                        "{kind:?}, {heads} heads of {head_dim}, window {window:?}, row {row}: \
                         {error}"
                    );
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
