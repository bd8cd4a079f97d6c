//! Reductions of rows of logits over the whole vocabulary: the largest few, and the log of the sum
//! of exponentials.
//!
//! A row has tens of thousands of numbers and one pass of them is all that either needs, in the
//! kind in which the head gives them. On a CPU that pass is made here; libtorch's operators make
//! several, through temporary copies in f32. Other devices use libtorch.

use tch::{Device, Kind, Tensor};

use super::parallel::in_parallel;
use super::simd::{LANES, Work, dispatch, exp_of_negative, narrow, widen};
use crate::error::Result;

/// The `k` largest logits of each row of (rows, vocab) in descending order, and their ids; of equal
/// ones the lower id comes first.
pub fn largest(logits: &Tensor, k: usize) -> Result<Vec<Vec<(f32, i64)>>> {
    let (_, vocab) = logits.size2()?;
    let k = k.min(vocab as usize);
    on_rows(
        logits,
        |row| row.largest(k),
        |logits| {
            let (values, ids) = logits.f_to_kind(Kind::Float)?.f_topk(k as i64, -1, true, true)?;
            let values = Vec::<f32>::try_from(values.f_contiguous()?.f_view(-1)?)?;
            let ids = Vec::<i64>::try_from(ids.f_contiguous()?.f_view(-1)?)?;
            let pairs: Vec<(f32, i64)> = values.into_iter().zip(ids).collect();
            Ok(pairs.chunks(k.max(1)).map(<[_]>::to_vec).collect())
        },
    )
}

/// log Σ exp of each row of (rows, vocab), in f32.
pub fn log_sum_exp(logits: &Tensor) -> Result<Vec<f32>> {
    on_rows(
        logits,
        |row| row.log_sum_exp(),
        |logits| {
            Ok(Vec::<f32>::try_from(
                logits.f_to_kind(Kind::Float)?.f_logsumexp([-1i64].as_slice(), false)?,
            )?)
        },
    )
}

/// The gradient of Σ c_i log softmax(logits_i)[t_i] with respect to `logits` (rows, vocab), in
/// their place: c_i (1[t_i] − softmax(logits_i)).
///
/// `log_sums` are those of [`log_sum_exp`]; `targets` and `coefficients` (rows) hold the t and the
/// c.
pub fn logps_gradient(
    logits: &mut Tensor,
    log_sums: &[f32],
    targets: &[i64],
    coefficients: &[f32],
) -> Result<()> {
    let (rows, vocab) = logits.size2()?;
    if readable(logits) && logits.is_contiguous() {
        let (start, vocab, kind) = (logits.data_ptr() as usize, vocab as usize, logits.kind());
        in_parallel(rows as usize, 1, |share| {
            for index in share {
                let (target, log_sum, coefficient) =
                    (targets[index] as usize, log_sums[index], coefficients[index]);
                // SAFETY: a contiguous tensor in main memory of `rows` times `vocab` numbers of
                // this kind; each row belongs to one thread.
                unsafe {
                    if kind == Kind::Float {
                        let row = std::slice::from_raw_parts_mut(
                            (start as *mut f32).add(index * vocab),
                            vocab,
                        );
                        dispatch(Scale { row, log_sum, coefficient, read: |x| x, write: |x| x });
                        row[target] += coefficient;
                    } else {
                        let row = std::slice::from_raw_parts_mut(
                            (start as *mut u16).add(index * vocab),
                            vocab,
                        );
                        // Rounded once: the probability of the target is often near 1, its distance
                        // from 1 is what is learned.
                        let at_target = coefficient
                            * (1.0 - exp_of_negative((widen(row[target]) - log_sum).min(0.0)));
                        dispatch(Scale { row, log_sum, coefficient, read: widen, write: narrow });
                        row[target] = narrow(at_target);
                    }
                }
            }
        });
        return Ok(());
    }
    let device = logits.device();
    let column = |values: &Tensor| values.to_device(device).unsqueeze(-1);
    let (log_sums, coefficients) =
        (column(&Tensor::from_slice(log_sums)), column(&Tensor::from_slice(coefficients)));
    let gradient = (logits.to_kind(Kind::Float) - log_sums).exp() * -&coefficients;
    let gradient = gradient.scatter_add(1, &column(&Tensor::from_slice(targets)), &coefficients);
    logits.f_copy_(&gradient)?;
    Ok(())
}

/// `on_row` of each row where the processor can read them, else `on_tensor` of all.
fn on_rows<T: Send>(
    logits: &Tensor,
    on_row: impl Fn(LogitRow) -> T + Sync,
    on_tensor: impl Fn(&Tensor) -> Result<Vec<T>>,
) -> Result<Vec<T>> {
    if !readable(logits) || logits.numel() == 0 {
        return on_tensor(logits);
    }
    let logits = logits.f_contiguous()?;
    let (rows, vocab) = logits.size2()?;
    let (rows, vocab) = (rows as usize, vocab as usize);
    let start = logits.data_ptr() as usize;
    let is_float = logits.kind() == Kind::Float;
    let row = |index: usize| -> LogitRow<'_> {
        // SAFETY: a contiguous tensor in main memory of `rows` times `vocab` numbers of this kind,
        // alive until the threads are joined.
        unsafe {
            if is_float {
                LogitRow::Float(std::slice::from_raw_parts(
                    (start as *const f32).add(index * vocab),
                    vocab,
                ))
            } else {
                LogitRow::Bf16(std::slice::from_raw_parts(
                    (start as *const u16).add(index * vocab),
                    vocab,
                ))
            }
        }
    };
    Ok(in_parallel(rows, 1, |share| share.map(|index| on_row(row(index))).collect::<Vec<T>>())
        .into_iter()
        .flatten()
        .collect())
}

/// Whether the loops here can read the numbers.
fn readable(logits: &Tensor) -> bool {
    matches!(logits.kind(), Kind::Float | Kind::BFloat16) && logits.device() == Device::Cpu
}

/// −coefficient · exp(x − log_sum) in the place of each x.
struct Scale<'a, T, R, W> {
    row: &'a mut [T],
    log_sum: f32,
    coefficient: f32,
    read: R,
    write: W,
}

impl<T: Copy, R: Fn(T) -> f32 + Copy, W: Fn(f32) -> T + Copy> Work for Scale<'_, T, R, W> {
    type Answer = ();

    #[inline(always)]
    fn run(self) {
        for x in self.row {
            // No logit lies above the log of the sum; rounding may put one there.
            *x = (self.write)(
                -self.coefficient * exp_of_negative(((self.read)(*x) - self.log_sum).min(0.0)),
            );
        }
    }
}

/// One row, in f32 or in bf16 (the upper halves of f32).
enum LogitRow<'a> {
    Float(&'a [f32]),
    Bf16(&'a [u16]),
}

impl LogitRow<'_> {
    fn largest(&self, k: usize) -> Vec<(f32, i64)> {
        match self {
            Self::Float(row) => pass(Largest { k }, row, |x| x),
            Self::Bf16(row) => pass(Largest { k }, row, widen),
        }
    }

    fn log_sum_exp(&self) -> f32 {
        match self {
            Self::Float(row) => pass(LogSumExp, row, |x| x),
            Self::Bf16(row) => pass(LogSumExp, row, widen),
        }
    }
}

/// A reduction of one row of whatever kind.
trait Pass {
    type Answer;
    fn run<T: Copy>(self, row: &[T], read: impl Fn(T) -> f32 + Copy) -> Self::Answer;
}

fn pass<P: Pass, T: Copy, R: Fn(T) -> f32 + Copy>(pass: P, row: &[T], read: R) -> P::Answer {
    struct OfRow<'a, P, T, R>(P, &'a [T], R);
    impl<P: Pass, T: Copy, R: Fn(T) -> f32 + Copy> Work for OfRow<'_, P, T, R> {
        type Answer = P::Answer;

        #[inline(always)]
        fn run(self) -> P::Answer {
            self.0.run(self.1, self.2)
        }
    }
    dispatch(OfRow(pass, row, read))
}

struct LogSumExp;

impl Pass for LogSumExp {
    type Answer = f32;

    #[inline(always)]
    fn run<T: Copy>(self, row: &[T], read: impl Fn(T) -> f32 + Copy) -> f32 {
        let highest = maximum(row, read);
        if !highest.is_finite() {
            // NaN stays NaN, and infinity has no better answer.
            return highest;
        }
        let mut sums = [0f32; LANES];
        let chunks = row.chunks_exact(LANES);
        let rest = chunks.remainder();
        for chunk in chunks {
            for (sum, &x) in sums.iter_mut().zip(chunk) {
                *sum += exp_of_negative(read(x) - highest);
            }
        }
        let rest: f64 = rest.iter().map(|&x| f64::from(exp_of_negative(read(x) - highest))).sum();
        let total = sums.iter().map(|&sum| f64::from(sum)).sum::<f64>() + rest;
        (f64::from(highest) + total.ln()) as f32
    }
}

/// The largest number, or NaN if there is one.
#[inline(always)]
fn maximum<T: Copy>(row: &[T], read: impl Fn(T) -> f32 + Copy) -> f32 {
    let mut highest = [f32::NEG_INFINITY; LANES];
    let mut broken = [0u32; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for ((high, broken), &x) in highest.iter_mut().zip(&mut broken).zip(chunk) {
            let x = read(x);
            *broken |= u32::from(x.is_nan());
            *high = if x > *high { x } else { *high };
        }
    }
    let rest_broken = rest.iter().any(|&x| read(x).is_nan());
    if rest_broken || broken.iter().any(|&broken| broken != 0) {
        return f32::NAN;
    }
    rest.iter().map(|&x| read(x)).chain(highest).fold(f32::NEG_INFINITY, f32::max)
}

struct Largest {
    k: usize,
}

impl Pass for Largest {
    type Answer = Vec<(f32, i64)>;

    /// Keeps a list of up to 2k candidates above a rising bar; few numbers of a long row pass it.
    /// NaN never does.
    #[inline(always)]
    fn run<T: Copy>(self, row: &[T], read: impl Fn(T) -> f32 + Copy) -> Vec<(f32, i64)> {
        let k = self.k;
        let mut kept: Vec<(f32, i64)> = Vec::with_capacity(2 * k + LANES);
        let mut bar = f32::NEG_INFINITY;
        let descending = |a: &(f32, i64), b: &(f32, i64)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        for (index, chunk) in row.chunks(LANES).enumerate() {
            let mut any = false;
            for &x in chunk {
                any |= read(x) > bar;
            }
            if !any && bar > f32::NEG_INFINITY {
                continue;
            }
            for (offset, &x) in chunk.iter().enumerate() {
                let x = read(x);
                if x > bar || (bar == f32::NEG_INFINITY && !x.is_nan()) {
                    kept.push((x, (index * LANES + offset) as i64));
                }
            }
            if kept.len() >= 2 * k.max(LANES) {
                // What equals the last kept one comes later in the row and loses to it.
                kept.select_nth_unstable_by(k.max(1) - 1, descending);
                kept.truncate(k);
                bar = kept.iter().map(|(x, _)| *x).fold(f32::INFINITY, f32::min);
            }
        }
        kept.sort_unstable_by(descending);
        kept.truncate(k);
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(kind: Kind) -> Tensor {
        let wave = (Tensor::arange(5 * 1009, (Kind::Double, Device::Cpu)) * 12.9898).sin() * 43.7;
        let logits = wave.view([5, 1009]).to_kind(Kind::Float).to_kind(kind);
        let _ = logits.get(1).fill_(-3.25); // all equal
        let _ = logits.get(2).narrow(0, 100, 900).fill_(f64::NEG_INFINITY);
        logits
    }

    #[test]
    fn the_largest_are_those_of_a_full_sort() {
        for kind in [Kind::Float, Kind::BFloat16] {
            let logits = rows(kind);
            for k in [1, 7, 50, 300, 1009] {
                let found = largest(&logits, k).unwrap();
                for (row, found) in found.iter().enumerate() {
                    let mut all: Vec<(f32, i64)> =
                        Vec::<f32>::try_from(logits.get(row as i64).to_kind(Kind::Float))
                            .unwrap()
                            .into_iter()
                            .zip(0..)
                            .collect();
                    all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                    assert_eq!(found[..], all[..k], "{kind:?}, row {row}, k {k}");
                }
            }
        }
    }

    #[test]
    fn log_sum_exp_is_that_of_double_precision() {
        for kind in [Kind::Float, Kind::BFloat16] {
            let logits = rows(kind);
            let exact =
                Vec::<f64>::try_from(logits.to_kind(Kind::Double).logsumexp([-1], false)).unwrap();
            for (found, exact) in log_sum_exp(&logits).unwrap().iter().zip(&exact) {
                assert!(
                    (f64::from(*found) - exact).abs() < 2e-6 * exact.abs().max(1.0),
                    "{found} is not {exact}"
                );
            }
        }
    }

    #[test]
    fn the_gradient_of_log_probabilities_is_libtorchs() {
        let (targets, coefficients) = ([3i64, 7, 1, 1008, 0], [1.0f32, -2.0, 0.25, 0.0, 3.0]);
        for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
            let mut logits = rows(Kind::Float).clamp(-30.0, 30.0).to_kind(kind);
            let exact = logits.to_kind(Kind::Double).set_requires_grad(true);
            let logps = exact
                .log_softmax(-1, Kind::Double)
                .gather(1, &Tensor::from_slice(&targets).unsqueeze(-1), false)
                .squeeze_dim(1);
            (logps * Tensor::from_slice(&coefficients)).sum(Kind::Double).backward();
            let sums = log_sum_exp(&logits).unwrap();
            logps_gradient(&mut logits, &sums, &targets, &coefficients).unwrap();
            let error = (logits.to_kind(Kind::Double) - exact.grad()).abs().max().double_value(&[]);
            let bound = if kind == Kind::Float { 2e-6 } else { 1.5e-2 };
            assert!(error < bound, "{kind:?}: {error}");
        }
    }

    #[test]
    fn a_row_with_nan_is_nan_and_nan_is_never_among_the_largest() {
        let logits = Tensor::from_slice(&[1.0f32, f32::NAN, 2.0, 0.5]).unsqueeze(0);
        assert!(log_sum_exp(&logits).unwrap()[0].is_nan());
        assert_eq!(largest(&logits, 2).unwrap(), [[(2.0, 2), (1.0, 0)]]);
    }
}
