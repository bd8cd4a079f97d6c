//! Scaled dot-product attention: over a whole padded batch, and over a cache whose rows share their
//! first keys.
//!
//! Masked scores are the kind's lowest finite number, not minus infinity: a query with no real key
//! then averages all keys instead of becoming NaN.

use tch::{Device, Kind, Tensor};

use super::input::Input;
use super::packing::PackedMask;
use super::score_bias::bias;

pub(super) enum Mask {
    /// Every query sees every key.
    None,
    /// As many keys as queries, none of them padded.
    Causal,
    /// Added to the scores; broadcasts to (batch, heads, queries, keys).
    Bias(Tensor),
    /// Several texts in one row.
    Packed(PackedMask),
}

impl Mask {
    /// Every token sees the real ones among those up to itself.
    pub(super) fn causal(input: &Input, kind: Kind) -> Self {
        if let Some(packing) = input.packing {
            return Self::Packed(PackedMask::new(packing, None, kind, input.ids.device()));
        }
        let (_, seq) = input.ids.size2().expect("ids are (batch, seq)");
        match allowed(input) {
            Some(allowed) => Self::Bias(bias(&allowed, kind)),
            None if seq == 1 => Self::None,
            None => Self::Causal,
        }
    }

    /// As [`Self::causal`], and a token sees no further back than `window` positions, its own
    /// included.
    pub(super) fn sliding(input: &Input, window: i64, kind: Kind) -> Self {
        if input.positions.max().int64_value(&[]) < window {
            return Self::causal(input, kind);
        }
        if let Some(packing) = input.packing {
            return Self::Packed(PackedMask::new(packing, Some(window), kind, input.ids.device()));
        }
        let (batch, seq) = input.ids.size2().expect("ids are (batch, seq)");
        let near = input
            .positions
            .view([batch, 1, 1, seq])
            .gt_tensor(&(input.positions.view([batch, 1, seq, 1]) - window));
        let causal = allowed(input).unwrap_or_else(|| triangle(seq, input.ids.device()));
        Self::Bias(bias(&near.logical_and(&causal), kind))
    }

    /// The mask of an encoder: every query sees the real keys. `valid`: (batch, seq) bool.
    pub(super) fn keys(valid: &Tensor, kind: Kind) -> Self {
        match padded(Some(valid)) {
            None => Self::None,
            // (batch, 1, 1, seq)
            Some(valid) => Self::Bias(bias(&valid.unsqueeze(1).unsqueeze(1), kind)),
        }
    }
}

/// What each token may see where something is padded, broadcasting to (batch, 1, seq, seq) bool;
/// `None` where nothing is.
fn allowed(input: &Input) -> Option<Tensor> {
    let (batch, seq) = input.ids.size2().expect("ids are (batch, seq)");
    let keys = padded(input.valid)?.view([batch, 1, 1, seq]);
    Some(keys.logical_and(&triangle(seq, input.ids.device())))
}

/// query (batch, heads, queries, head_dim), key and value (batch, kv_heads, keys, head_dim) where
/// each of the kv_heads serves heads / kv_heads neighbouring ones; the result is (batch, queries,
/// heads * head_dim). `scale` multiplies the scores.
pub(super) fn attend(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    mask: &Mask,
    scale: f64,
) -> Tensor {
    let (bias, is_causal) = match mask {
        Mask::None => (None, false),
        Mask::Causal => (None, true),
        Mask::Bias(bias) => (Some(bias), false),
        Mask::Packed(packed) => return packed.attend(query, key, value, scale),
    };
    let (batch, heads, queries, head_dim) =
        query.size4().expect("queries are (batch, heads, queries, head_dim)");
    let (_, kv_heads, _, _) = key.size4().expect("keys are (batch, kv_heads, keys, head_dim)");
    if kv_heads < heads && queries == 1 {
        // The heads of a group ask the same keys: as its queries, without a copy of the keys for
        // each head.
        let grouped = query.view([batch, kv_heads, heads / kv_heads, head_dim]);
        let attended = Tensor::scaled_dot_product_attention(
            &grouped, key, value, bias, 0.0, false, scale, false,
        );
        return attended.reshape([batch, 1, heads * head_dim]);
    }
    let attended = Tensor::scaled_dot_product_attention(
        query,
        key,
        value,
        bias,
        0.0,
        is_causal,
        scale,
        kv_heads < heads,
    );
    attended.transpose(1, 2).reshape([batch, queries, heads * head_dim])
}

/// (batch, seq, n_head * head_dim) to (batch, n_head, seq, head_dim).
pub(super) fn split_heads(input: &Tensor, n_head: i64) -> Tensor {
    let (batch, seq, size) = input.size3().expect("hidden states are (batch, seq, size)");
    input.view([batch, seq, n_head, size / n_head]).transpose(1, 2)
}

/// (batch, seq, 3 * n_head * head_dim), queries, keys and values side by side, to each of them
/// (batch, n_head, seq, head_dim).
pub(super) fn split_fused(fused: &Tensor, n_head: i64) -> [Tensor; 3] {
    let (batch, seq, size) = fused.size3().expect("hidden states are (batch, seq, size)");
    let parts = fused.view([batch, seq, 3, n_head, size / (3 * n_head)]).permute([2, 0, 3, 1, 4]);
    [0, 1, 2].map(|part| parts.get(part))
}

/// `valid` if it excludes anything.
pub(super) fn padded(valid: Option<&Tensor>) -> Option<&Tensor> {
    valid.filter(|valid| valid.all().int64_value(&[]) == 0)
}

/// Keys and values that some queries see, and what is hidden of them.
pub(super) struct Part<'a> {
    key: Tensor, // (rows or 1, kv_heads, columns, head_dim)
    value: Tensor,
    /// Added to the scores, (rows or 1, 1, queries, columns).
    bias: Option<&'a Tensor>,
}

impl<'a> Part<'a> {
    /// The first `columns` of key and value (rows, capacity, kv_heads, head_dim).
    pub(super) fn of(key: &Tensor, value: &Tensor, columns: i64, bias: Option<&'a Tensor>) -> Self {
        let cut = |of: &Tensor| of.narrow(1, 0, columns).transpose(1, 2);
        Self { key: cut(key), value: cut(value), bias }
    }
}

/// query (rows, heads, queries, head_dim) over the rows' own keys and a prefix that all rows share.
/// The result is (rows, queries, heads * head_dim), that of one softmax over both.
pub(super) fn attend_parts(
    query: &Tensor,
    prefix: Option<&Part>,
    own: &Part,
    scale: f64,
) -> Tensor {
    let (rows, heads, queries, head_dim) =
        query.size4().expect("queries are (rows, heads, queries, head_dim)");
    let kv_heads = own.key.size()[1];
    let group = heads / kv_heads;
    // The heads of a group ask the same keys: as its queries.
    let grouped = query.reshape([rows, kv_heads, group * queries, head_dim]);
    let own_bias = own.bias.map(|bias| repeat_queries(bias, group));
    let attended = match prefix {
        None => softmax_part(&grouped, own, own_bias.as_ref(), scale).0,
        Some(prefix) => {
            let (behind, behind_weight) = softmax_part(&grouped, own, own_bias.as_ref(), scale);
            // All rows' queries at once: the prefix is read once for all of them.
            let folded =
                grouped.transpose(0, 1).reshape([1, kv_heads, rows * group * queries, head_dim]);
            let bias = prefix.bias.map(|bias| {
                let columns = bias.size()[3];
                repeat_queries(bias, group).reshape([1, 1, rows * group * queries, columns])
            });
            let (before, before_weight) = softmax_part(&folded, prefix, bias.as_ref(), scale);
            let unfold = |of: Tensor, last: i64| {
                of.reshape([kv_heads, rows, group * queries, last]).transpose(0, 1)
            };
            let (before, before_weight) =
                (unfold(before, head_dim), unfold(before_weight.unsqueeze(-1), 1));
            // Both are normalised: their shares of one softmax are the sigmoid of the difference of
            // the log-sum-exps.
            let share =
                (before_weight - behind_weight.unsqueeze(-1)).sigmoid().to_kind(behind.kind());
            behind.lerp_tensor(&before, &share)
        }
    };
    attended.reshape([rows, heads, queries, head_dim]).transpose(1, 2).reshape([
        rows,
        queries,
        heads * head_dim,
    ])
}

/// (.., queries, columns) with the queries once for each head of a group.
fn repeat_queries(bias: &Tensor, group: i64) -> Tensor {
    if group == 1 { bias.shallow_clone() } else { bias.repeat([1, 1, group, 1]) }
}

/// The attended values and the log-sum-exp of the scores (rows, kv_heads, queries) f32.
fn softmax_part(
    query: &Tensor,
    part: &Part,
    bias: Option<&Tensor>,
    scale: f64,
) -> (Tensor, Tensor) {
    if query.device() == Device::Cpu {
        return Tensor::internal_scaled_dot_product_flash_attention_for_cpu(
            query,
            &part.key,
            &part.value,
            0.0,
            false,
            bias,
            scale,
        );
    }
    by_matrix_products(query, part, bias, scale)
}

/// As the fused kernel, where there is none that also tells the log-sum-exp for every kind.
fn by_matrix_products(
    query: &Tensor,
    part: &Part,
    bias: Option<&Tensor>,
    scale: f64,
) -> (Tensor, Tensor) {
    let scores = query.matmul(&part.key.transpose(-2, -1)).to_kind(Kind::Float) * scale;
    let scores =
        bias.map_or_else(|| scores.shallow_clone(), |bias| &scores + bias.to_kind(Kind::Float));
    let weight = scores.logsumexp([-1], false);
    (scores.softmax(-1, Kind::Float).to_kind(query.kind()).matmul(&part.value), weight)
}

/// Query q sees the keys 0 ..= q: (seq, seq) bool.
fn triangle(seq: i64, device: Device) -> Tensor {
    Tensor::ones([seq, seq], (Kind::Bool, device)).tril(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_prefix_gives_what_one_softmax_over_all_keys_gives() {
        let (rows, heads, kv_heads, queries, head_dim, prefix, own) = (3, 4, 2, 2, 8, 5, 4);
        let wave = |shape: &[i64], seed: f64| {
            let count = shape.iter().product::<i64>();
            ((Tensor::arange(count, (Kind::Float, Device::Cpu)) * 0.37 + seed).sin() * 2.0)
                .view(shape)
        };
        let query = wave(&[rows, heads, queries, head_dim], 0.1);
        let stores = [1.0, 2.0].map(|seed| wave(&[rows, own + 3, kv_heads, head_dim], seed));
        let shared = [3.0, 4.0].map(|seed| wave(&[1, prefix, kv_heads, head_dim], seed));
        let hidden = Tensor::from_slice(&[false, false, false, true, false, false, false, false])
            .view([1, 1, queries, own]);
        let bias = bias(&hidden.logical_not(), Kind::Float);
        let (own_part, prefix_part) = (
            Part::of(&stores[0], &stores[1], own, Some(&bias)),
            Part::of(&shared[0], &shared[1], prefix, None),
        );
        let found = attend_parts(&query, Some(&prefix_part), &own_part, 0.3);
        let join = |which: usize| {
            let all = Tensor::cat(
                &[
                    shared[which].expand([rows, prefix, kv_heads, head_dim], false),
                    stores[which].narrow(1, 0, own),
                ],
                1,
            );
            all.transpose(1, 2).repeat_interleave_self_int(heads / kv_heads, 1, None)
        };
        let full = Tensor::cat(
            &[
                Tensor::zeros([1, 1, queries, prefix], (Kind::Float, Device::Cpu)),
                bias.shallow_clone(),
            ],
            -1,
        );
        let expected = attend(&query, &join(0), &join(1), &Mask::Bias(full), 0.3);
        let error = |found: &Tensor| (found - &expected).abs().max().double_value(&[]);
        assert!(error(&found) < 1e-6, "{}", error(&found));
        assert!(error(&attend_parts(&query, None, &own_part, 0.3)) > 1e-2, "the prefix matters");
        for part in [&own_part, &prefix_part] {
            let asked = if part.bias.is_some() {
                query.narrow(1, 0, kv_heads)
            } else {
                query.narrow(0, 0, 1).narrow(1, 0, kv_heads)
            };
            let (fused, plain) = (
                softmax_part(&asked, part, part.bias, 0.3),
                by_matrix_products(&asked, part, part.bias, 0.3),
            );
            assert!(
                fused.0.allclose(&plain.0, 1e-5, 1e-6, false)
                    && fused.1.allclose(&plain.1, 1e-5, 1e-6, false)
            );
        }
    }

    #[test]
    fn a_query_without_a_real_key_stays_finite_in_every_kind() {
        for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
            let states = (Tensor::arange(24, (Kind::Float, Device::Cpu)) - 12.0)
                .view([1, 2, 3, 4])
                .to_kind(kind);
            let nothing = Tensor::zeros([1, 1, 3, 3], (Kind::Bool, Device::Cpu));
            let out = attend(&states, &states, &states, &Mask::Bias(bias(&nothing, kind)), 0.5);
            assert_eq!(out.kind(), kind);
            assert!(bool::try_from(out.isfinite().all()).unwrap(), "{kind:?}");
        }
    }
}
