//! Scaled dot-product attention with the masks that a KV cache and padding need.
//!
//! libtorch's `is_causal` aligns the triangle at the top left, which is right only while the cache is empty; with earlier columns the
//! mask here is explicit and aligned at the bottom right. Masked scores are the kind's lowest finite number, not minus infinity: a query
//! with no real key then averages all keys instead of becoming NaN.

use tch::{Device, Kind, Tensor};

use super::{Input, KvCache};

pub(super) enum Mask {
    /// Every query sees every key.
    None,
    /// As many keys as queries, none of them padded.
    Causal,
    /// Added to the scores; broadcasts to (batch, heads, queries, keys).
    Bias(Tensor),
}

impl Mask {
    /// The mask for new tokens that see the columns of `cache` and, causally, each other.
    pub(super) fn causal(input: &Input, cache: Option<&KvCache>, kind: Kind) -> Self {
        let (_, seq) = input.ids.size2().expect("ids are (batch, seq)");
        let past = cache.map_or(0, KvCache::columns);
        match (allowed(input, cache), past, seq) {
            (Some(allowed), _, _) => Self::Bias(bias(&allowed, kind)),
            (None, _, 1) => Self::None,
            (None, 0, _) => Self::Causal,
            (None, _, _) => Self::Bias(bias(&bottom_right(seq, past, input.ids.device()), kind)),
        }
    }

    /// As [`Self::causal`], and a token sees no further back than `window` positions, its own included. The cache must know its
    /// columns' positions.
    pub(super) fn sliding(input: &Input, cache: Option<&KvCache>, window: i64, kind: Kind) -> Self {
        if input.positions.max().int64_value(&[]) < window {
            return Self::causal(input, cache, kind);
        }
        let (batch, seq) = input.ids.size2().expect("ids are (batch, seq)");
        let past = cache.map_or(0, KvCache::columns);
        let positions = match cache.and_then(KvCache::positions) {
            Some(before) => Tensor::cat(&[before, input.positions], 1), // (batch, past + seq)
            None => input.positions.shallow_clone(),
        };
        let near = positions.view([batch, 1, 1, past + seq]).gt_tensor(&(input.positions.view([batch, 1, seq, 1]) - window));
        let causal = allowed(input, cache).unwrap_or_else(|| bottom_right(seq, past, input.ids.device()));
        Self::Bias(bias(&near.logical_and(&causal), kind))
    }

    /// The mask of an encoder: every query sees the real keys. `valid`: (batch, seq) bool.
    pub(super) fn keys(valid: &Tensor, kind: Kind) -> Self {
        match padded(Some(valid)) {
            None => Self::None,
            Some(valid) => Self::Bias(bias(&valid.unsqueeze(1).unsqueeze(1), kind)), // (batch, 1, 1, seq)
        }
    }
}

/// What each new token may see where something is padded, broadcasting to (batch, 1, seq, past + seq) bool; `None` where nothing is.
fn allowed(input: &Input, cache: Option<&KvCache>) -> Option<Tensor> {
    let (batch, seq) = input.ids.size2().expect("ids are (batch, seq)");
    let device = input.ids.device();
    let past = cache.map_or(0, KvCache::columns);
    let (past_valid, new_valid) = (cache.and_then(KvCache::valid), padded(input.valid));
    if past_valid.is_none() && new_valid.is_none() {
        return None;
    }
    let ones = |columns| Tensor::ones([batch, columns], (Kind::Bool, device));
    let past_valid = past_valid.map_or_else(|| ones(past), Tensor::shallow_clone);
    let new_valid = new_valid.map_or_else(|| ones(seq), Tensor::shallow_clone);
    let keys = Tensor::cat(&[past_valid, new_valid], 1).view([batch, 1, 1, past + seq]);
    Some(if seq == 1 { keys } else { keys.logical_and(&bottom_right(seq, past, device)) })
}

/// query (batch, heads, queries, head_dim), key and value (batch, kv_heads, keys, head_dim) where each of the kv_heads serves
/// heads / kv_heads neighbouring ones; the result is (batch, queries, heads * head_dim). `scale` multiplies the scores.
pub(super) fn attend(query: &Tensor, key: &Tensor, value: &Tensor, mask: &Mask, scale: f64) -> Tensor {
    let (bias, is_causal) = match mask {
        Mask::None => (None, false),
        Mask::Causal => (None, true),
        Mask::Bias(bias) => (Some(bias), false),
    };
    let (batch, heads, queries, head_dim) = query.size4().expect("queries are (batch, heads, queries, head_dim)");
    let (_, kv_heads, _, _) = key.size4().expect("keys are (batch, kv_heads, keys, head_dim)");
    if kv_heads < heads && queries == 1 {
        // The heads of a group ask the same keys: as its queries, without a copy of the keys for each head.
        let grouped = query.view([batch, kv_heads, heads / kv_heads, head_dim]);
        let attended = Tensor::scaled_dot_product_attention(&grouped, key, value, bias, 0.0, false, scale, false);
        return attended.reshape([batch, 1, heads * head_dim]);
    }
    let attended = Tensor::scaled_dot_product_attention(query, key, value, bias, 0.0, is_causal, scale, kv_heads < heads);
    attended.transpose(1, 2).reshape([batch, queries, heads * head_dim])
}

/// (batch, seq, n_head * head_dim) to (batch, n_head, seq, head_dim).
pub(super) fn split_heads(input: &Tensor, n_head: i64) -> Tensor {
    let (batch, seq, size) = input.size3().expect("hidden states are (batch, seq, size)");
    input.view([batch, seq, n_head, size / n_head]).transpose(1, 2)
}

/// `valid` if it excludes anything.
pub(super) fn padded(valid: Option<&Tensor>) -> Option<&Tensor> {
    valid.filter(|valid| valid.all().int64_value(&[]) == 0)
}

/// Query q sees the keys 0 ..= past + q: (seq, past + seq) bool.
fn bottom_right(seq: i64, past: i64, device: Device) -> Tensor {
    Tensor::ones([seq, past + seq], (Kind::Bool, device)).tril(past)
}

fn bias(allowed: &Tensor, kind: Kind) -> Tensor {
    let lowest = match kind {
        Kind::Half => -65504.0,
        Kind::BFloat16 => -3.3895313892515355e38,
        _ => f64::from(f32::MIN),
    };
    Tensor::zeros(allowed.size(), (kind, allowed.device())).masked_fill(&allowed.logical_not(), lowest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causal_masks_align_at_the_bottom_right() {
        let mask = bottom_right(2, 3, Device::Cpu);
        assert_eq!(Vec::<bool>::try_from(mask.view(-1)).unwrap(), [true, true, true, true, false, true, true, true, true, true]);
    }

    #[test]
    fn a_query_without_a_real_key_stays_finite_in_every_kind() {
        for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
            let states = (Tensor::arange(24, (Kind::Float, Device::Cpu)) - 12.0).view([1, 2, 3, 4]).to_kind(kind);
            let nothing = Tensor::zeros([1, 1, 3, 3], (Kind::Bool, Device::Cpu));
            let out = attend(&states, &states, &states, &Mask::Bias(bias(&nothing, kind)), 0.5);
            assert_eq!(out.kind(), kind);
            assert!(bool::try_from(out.isfinite().all()).unwrap(), "{kind:?}");
        }
    }
}
